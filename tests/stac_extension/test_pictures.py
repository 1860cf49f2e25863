"""Thumbnails: perceptual, transparent where there is no data, small."""

import warnings

import numpy as np
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning

from lai_stac.errors import OutputError
from lai_stac.files import write_thumbnail
from lai_udf.picture import colour_lai, colour_table, shrink


def read_png(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as dataset:
            return dataset.read()


def lightness(rgb: np.ndarray) -> np.ndarray:
    """CIE L* of sRGB (IEC 61966-2-1; CIE 1976), 0 to 100."""
    value = rgb / 255.0
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    luminance = linear @ np.array([0.2126, 0.7152, 0.0722])
    return np.where(luminance > 216 / 24389, 116 * np.cbrt(luminance) - 16, luminance * 24389 / 27)


def test_lightness_of_a_known_colour():
    # sRGB green (0, 128, 0) has L* = 46.23 (CSS Color 4: lab(46.2775% ...) under D50; D65 46.23).
    assert lightness(np.array([0, 128, 0])) == pytest.approx(46.23, abs=0.05)


def test_colours_darken_evenly_with_lai():
    steps = np.diff(lightness(colour_table().astype("float64")))
    assert (steps < 0.15).all()  # rounding to 8 bit may stand still, never brighten visibly
    coarse = np.diff(lightness(colour_table(10).astype("float64")))
    assert (coarse < -6).all()
    assert coarse.min() / coarse.max() < 1.6


def test_no_data_is_transparent_and_values_beyond_the_range_take_the_end_colours():
    picture = colour_lai(np.array([[np.nan, 0.0, 6.0, 99.0, -1.0]]))
    assert picture[3].tolist() == [[0, 255, 255, 255, 255]]
    assert picture[:3, 0, 2].tolist() == picture[:3, 0, 3].tolist()
    assert picture[:3, 0, 1].tolist() == picture[:3, 0, 4].tolist()


def test_shrinking_averages_and_leaves_no_data_out():
    lai = np.array([[1.0, 3.0, np.nan], [np.nan, np.nan, np.nan]])
    assert shrink(lai, 2).tolist() == [[2.0, pytest.approx(np.nan, nan_ok=True)]]
    assert shrink(np.ones((5490 // 10, 300)), 512).shape == (275, 150)


def test_thumbnail_is_small_and_whole(tmp_path):
    path = write_thumbnail(np.ones((700, 300)), tmp_path / "thumbnail.png")
    picture = read_png(path)
    assert picture.shape[0] == 4
    assert max(picture.shape[1:]) <= 512
    assert [entry.name for entry in tmp_path.iterdir()] == ["thumbnail.png"]


def test_small_fields_are_magnified(tmp_path):
    picture = read_png(write_thumbnail(np.ones((60, 50)), tmp_path / "t.png"))
    assert picture.shape == (4, 240, 200)


def test_thumbnail_into_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        write_thumbnail(np.ones((4, 4)), tmp_path / "file" / "thumbnail.png")
