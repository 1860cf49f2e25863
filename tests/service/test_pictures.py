"""Pictures that Pillow packs have the pixels of titiler's own, which GDAL packs."""

from typing import Any

import numpy as np
import pytest
from rasterio.io import MemoryFile
from rio_tiler.colormap import cmap
from rio_tiler.models import ImageData
from titiler.core.resources.enums import ImageType
from titiler.core.utils import render_image

from lai_service.api.limits import MAX_JP2_PX
from lai_service.web.tiles import render_picture

pytestmark = pytest.mark.filterwarnings(
    "ignore:Invalid type:rio_tiler.errors.InvalidDatatypeWarning",
    "ignore::rasterio.errors.NotGeoreferencedWarning",
)


def image(
    bands: int = 1, dtype: str = "int16", side: int = 40, *, smooth: bool = False
) -> ImageData:
    """Return noise, or a slope, with a corner that holds no data."""
    values = np.random.default_rng(1).integers(0, 250, (bands, side, side)).astype(dtype)
    if smooth:
        values = np.broadcast_to(np.arange(side, dtype=dtype) * 4, values.shape).copy()
    masked = np.ma.masked_array(values, np.zeros(values.shape, bool))
    masked[:, :9, :7] = np.ma.masked
    return ImageData(masked)


def pixels(content: bytes) -> Any:
    with MemoryFile(content) as memory, memory.open() as opened:
        return opened.read()


@pytest.mark.parametrize(
    "asked",
    [
        {"rescale": [(0, 200)]},
        {"rescale": [(0, 200)], "colormap": cmap.get("ylgn")},
        {"colormap": {3: (1, 2, 3, 255), 9: (4, 5, 6, 128)}},
        {"rescale": [(0, 200)], "add_mask": False},
        {},
    ],
    ids=str,
)
@pytest.mark.parametrize("bands", [1, 2, 3])
def test_png_has_the_pixels_that_gdal_writes(bands: int, asked: dict[str, Any]) -> None:
    if bands > 1 and "colormap" in asked:
        pytest.skip("a colour map is for one band")
    ours, media = render_picture(image(bands), output_format=ImageType.png, **asked)
    theirs, same = render_image(image(bands), output_format=ImageType.png, **asked)
    assert media == same
    np.testing.assert_array_equal(pixels(ours), pixels(theirs))


@pytest.mark.parametrize("kind", [ImageType.jpeg, ImageType.webp, ImageType.tif, None])
@pytest.mark.parametrize("bands", [1, 3])
def test_other_kinds_look_as_what_gdal_writes(bands: int, kind: ImageType | None) -> None:
    ours, media = render_picture(image(bands, "uint8", smooth=True), output_format=kind)
    theirs, same = render_image(image(bands, "uint8", smooth=True), output_format=kind)
    assert media == same
    mine, his = pixels(ours).astype(int), pixels(theirs).astype(int)
    assert mine.shape == his.shape
    assert np.abs(mine - his).mean() < 2


def test_jpeg_2000_has_a_limit_of_its_own() -> None:
    large = image(side=MAX_JP2_PX * 2, dtype="uint8")
    content, media = render_picture(large, output_format=ImageType.jp2)
    assert media == "image/jp2"
    assert pixels(content).shape[-2:] == (MAX_JP2_PX, MAX_JP2_PX)
