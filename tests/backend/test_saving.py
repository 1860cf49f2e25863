"""Cubes -> files, without a server."""

import resource
import threading
import time

import dask
import dask.array as da
import numpy as np
import pytest
import shapely
import xarray as xr

from lai_backend.errors import ParameterError, ResultError
from lai_backend.rasters import compute_in_threads
from lai_backend.saving import SavedResult, write_result


@pytest.fixture
def small_disk():
    """Let no file grow beyond 1 MB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def cube(rng) -> xr.DataArray:
    values = rng.normal(size=(1, 2, 700, 900)).astype("float32")
    dates = np.array(["2024-06-01"], "datetime64[ns]")
    coords = {"t": dates, "bands": ["a", "b"], "y": -20.0 * np.arange(700), "x": np.arange(900.0)}
    made = xr.DataArray(values, dims=("t", "bands", "y", "x"), coords=coords)
    return made.chunk({"y": 350}).rio.write_crs("EPSG:32633")


@pytest.mark.parametrize("form", ["GTiff", "netCDF"])
def test_a_file_that_was_cut_off_is_an_error(cube, small_disk, tmp_path, form):
    with pytest.raises(ResultError):
        write_result(SavedResult(cube, form), tmp_path / "results", False)
    assert list((tmp_path / "results").iterdir()) == []


def test_a_label_of_t_that_is_no_date_is_refused(cube, tmp_path):
    odd = cube.assign_coords(t=["spring"])
    with pytest.raises(ParameterError):
        write_result(SavedResult(odd, "GTiff"), tmp_path, False)


def test_other_labels_of_t_stay_texts_in_netcdf(cube, tmp_path):
    odd = cube.assign_coords(t=["spring"])
    [asset] = write_result(SavedResult(odd, "netCDF"), tmp_path, False)
    with xr.open_dataset(tmp_path / asset["name"]) as found:
        assert found["t"].values.tolist() == ["spring"]
        np.testing.assert_array_equal(found["b"], cube.sel(bands="b"))
    assert "datetime" not in asset


@pytest.mark.parametrize("names", [["a"], ["a", "b"]])
def test_bands_of_a_netcdf_are_its_variables_however_many(cube, tmp_path, names):
    [asset] = write_result(SavedResult(cube.sel(bands=names), "netCDF"), tmp_path, False)
    with xr.open_dataset(tmp_path / asset["name"], decode_coords="all") as found:
        assert list(found.data_vars) == names
        assert found.rio.crs.to_epsg() == 32633
        assert found["a"].dims == ("t", "y", "x")
    with xr.open_dataset(tmp_path / asset["name"]) as raw:  # as CF and the cloud have it
        assert raw["a"].attrs["grid_mapping"] in raw.data_vars


def test_dates_that_are_texts_are_dates(cube, tmp_path):
    text = cube.assign_coords(t=["2024-06-01T00:00:00Z"])
    [asset] = write_result(SavedResult(text, "GTiff"), tmp_path, False)
    assert asset["name"] == "openEO_2024-06-01Z.tif"


@pytest.mark.parametrize(
    ("label", "name", "moment"),
    [
        ("2024-06-01", "openEO_2024-06-01Z.tif", "2024-06-01T00:00:00Z"),
        ("2024-06-01T10:20:30", "openEO_20240601T102030Z.tif", "2024-06-01T10:20:30Z"),
    ],
)
def test_the_time_of_day_stays_in_names_and_metadata(cube, tmp_path, label, name, moment):
    timed = cube.assign_coords(t=np.array([label], "datetime64[ns]"))
    [asset] = write_result(SavedResult(timed, "GTiff"), tmp_path, False)
    assert (asset["name"], asset["datetime"]) == (name, moment)


def test_labels_of_t_that_repeat_do_not_overwrite_each_other(cube, tmp_path):
    twice = xr.concat([cube, cube], "t")
    with pytest.raises(ParameterError):
        write_result(SavedResult(twice, "GTiff"), tmp_path, False)


def test_after_a_failure_no_thread_writes_into_a_file_that_is_closed(tmp_path):
    """A block that was still being written crashed GDAL in the worker (signal 11)."""
    begun, events = threading.Event(), []

    class Target:
        def __setitem__(self, key, block):
            begun.set()
            time.sleep(0.3)
            events.append("written")

    def fail_second(block, block_info=None):
        if block_info[0]["chunk-location"] == (1,):
            begun.wait(10)
            raise ValueError("second")
        return block

    array = da.zeros(2, chunks=1).map_blocks(fail_second, dtype=float)
    with dask.config.set(num_workers=2), pytest.raises(ValueError, match="second"):
        compute_in_threads(da.store(array, Target(), threading.Lock(), compute=False))
    assert events == ["written"]


def test_a_result_across_the_antimeridian_is_cut_there(tmp_path):
    coords = {"y": 8_120_000 - 20.0 * np.arange(4), "x": 140_000 + 20.0 * np.arange(3000)}
    cube = xr.DataArray(np.zeros((4, 3000), "float32"), coords, ("y", "x")).rio.write_crs(32701)
    [asset] = write_result(SavedResult(cube, "GTiff"), tmp_path, False)
    west, south, east, north = asset["bbox"]
    assert -180 < east < -179.8
    assert 179.6 < west < 180
    assert shapely.geometry.shape(asset["geometry"]).area == pytest.approx(
        (east + 360 - west) * (north - south)
    )
