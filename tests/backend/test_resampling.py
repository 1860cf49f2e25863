"""`resample_spatial` against GDAL and arithmetic."""

import dask
import numpy as np
import pytest
import xarray as xr
from pyproj import Transformer

from lai_backend.errors import ParameterError
from lai_backend.grids import resample_spatial


@pytest.fixture(autouse=True)
def _one_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.fixture
def cube(rng) -> xr.DataArray:
    values = rng.normal(size=(2, 1, 30, 40)).astype("float32")
    coords = {"y": 5_600_000 - 20 * np.arange(30) - 10.0, "x": 500_000 + 20 * np.arange(40) + 10.0}
    made = xr.DataArray(values, dims=("t", "bands", "y", "x"), coords=coords)
    return made.chunk({"y": 16, "x": 16}).rio.write_crs("EPSG:32633")


def test_average_over_twice_the_pixel_size_is_the_mean_of_four(cube):
    result = resample_spatial(cube, 40, None, "average", "upper-left").compute()
    expected = cube.values.reshape(2, 1, 15, 2, 20, 2).mean(axis=(3, 5))
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-6)
    assert result.rio.transform().a == 40


def test_the_same_grid_changes_nothing(cube):
    np.testing.assert_array_equal(resample_spatial(cube, 0, 32633, "near", "upper-left"), cube)


def test_a_finer_grid_repeats_pixels(cube):
    result = resample_spatial(cube, 10, None, "near", "upper-left")
    np.testing.assert_array_equal(result, cube.values.repeat(2, 2).repeat(2, 3))


def test_the_grid_starts_at_the_corner_asked_for_and_covers_the_input(cube):
    west, _, _, north = resample_spatial(cube, 190, None, "near", "upper-left").rio.bounds()
    _, south, east, _ = resample_spatial(cube, 190, None, "near", "lower-right").rio.bounds()
    assert (west, north) == (500_000, 5_600_000)
    assert (east, south) == (500_800, 5_599_400)


def test_another_projection_keeps_names_places_and_no_data(cube):
    rows = xr.ones_like(cube) * cube["y"]
    rows = rows.where(rows["x"] > 500_400).rio.write_crs("EPSG:32633")
    moved = resample_spatial(rows, 0, "EPSG:4326", "near", "upper-left").compute()
    assert moved.dims == cube.dims
    assert moved.rio.crs.to_epsg() == 4326
    x, y = np.meshgrid(moved["x"], moved["y"])
    east, north = Transformer.from_crs(4326, 32633, always_xy=True).transform(x, y)
    known = moved[0, 0].notnull().values
    assert np.abs(moved[0, 0].values - north)[known].max() < 11  # half a pixel
    inside = (np.abs(east - 500_600) < 180) & (np.abs(north - 5_599_700) < 280)
    assert known[inside].all()
    assert not known[east < 500_380].any()


@pytest.mark.parametrize(
    "arguments",
    [
        ([0, 10], None, "near", "upper-left"),
        (20, "EPSG:99999", "near", "upper-left"),
    ],
)
def test_wrong_arguments_are_refused(cube, arguments):
    with pytest.raises(ParameterError):
        resample_spatial(cube, *arguments)
