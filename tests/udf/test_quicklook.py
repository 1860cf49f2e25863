"""The picture of a result: colours of LAI, reasons of gaps, and its legend."""

import io

import numpy as np
import pytest
from PIL import Image

from lai_udf.picture import ANCHORS, CLOUD, LEFT_OUT, NO_DATA, draw_quicklook
from lai_udf.predict import CLOUD_NEAR, INPUT_OUT_OF_DOMAIN, NO_DATA_NEAR


def colours_of(png: bytes) -> set[tuple[int, int, int]]:
    image = Image.open(io.BytesIO(png)).convert("RGB")
    return set(map(tuple, np.asarray(image).reshape(-1, 3).tolist()))


@pytest.fixture
def lai() -> np.ndarray:
    values = np.full((40, 60), 6.0, dtype="float32")
    values[:10] = np.nan
    return values


def test_full_lai_has_the_last_colour_and_gaps_are_grey(lai: np.ndarray) -> None:
    found = colours_of(draw_quicklook(lai, None, "LAI 2024-06-21"))
    assert {ANCHORS[-1], NO_DATA} <= found


def test_gaps_under_cloud_and_left_out_pixels_are_distinguished(lai: np.ndarray) -> None:
    flags = np.zeros(lai.shape, dtype="uint8")
    flags[:5], flags[5:10], flags[20:] = CLOUD_NEAR, NO_DATA_NEAR, INPUT_OUT_OF_DOMAIN
    image = Image.open(io.BytesIO(draw_quicklook(lai, flags, "LAI 2024-06-21", "a product")))
    counts = {colour: number for number, colour in image.convert("RGB").getcolors(10**6)}
    assert counts[CLOUD] > 1000
    assert counts[NO_DATA] > 1000
    assert counts[LEFT_OUT] > 400


@pytest.mark.parametrize("shape", [(1, 1), (3, 2000), (2000, 3), (600, 700)])
def test_any_shape_is_drawn(shape: tuple[int, int]) -> None:
    png = draw_quicklook(np.full(shape, 2.0), None, "LAI")
    image = Image.open(io.BytesIO(png))
    assert image.width >= 460
    assert max(image.size) < 1200


def test_letters_that_the_font_lacks_are_drawn_without_their_marks(lai: np.ndarray) -> None:
    assert draw_quicklook(lai, None, "Zürich, Łódź 6 m²") == draw_quicklook(
        lai, None, "Zurich, odz 6 m2"
    )


def test_a_long_title_is_drawn_whole(lai: np.ndarray) -> None:
    short, long = (
        Image.open(io.BytesIO(draw_quicklook(lai, None, "LAI", name * 40)))
        for name in ("a", "wide ")
    )
    assert short.width < long.width
    right = np.asarray(long)[:60, -8:]
    assert (right == 255).all()
