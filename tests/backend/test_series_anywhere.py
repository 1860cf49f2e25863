"""The series of one cube, however it is cut: one grid of dates, the same numbers."""

from pathlib import Path

import dask
import numpy as np
import pytest
import xarray as xr
from fake_cubes import fake_cube
from fake_series import fake_series

from backend.udfs import px
from lai_backend.neighborhood import apply_neighborhood
from lai_backend.udf_runner import LocalUdf
from lai_udf import predict, series, smooth
from lai_udf.bundle import default_bundle_path
from lai_udf.emulation import Cutting, run_graph_in_windows, run_udf_in_windows
from lai_udf.errors import ContractError
from lai_udf.process_graph import lai_from_collection

TEXT = Path(series.__file__).read_text()
SEASON = {"step_days": 6, "start": "2024-03-02", "end": "2024-09-01"}


@pytest.fixture(scope="module")
def cube() -> xr.DataArray:
    """A cube whose left and right halves have not the same dates."""
    cube = fake_series(np.random.default_rng(7), haze=(30, 33), size=(20, 24))
    cube[::3, :, :, :12] = np.nan
    cube[1::4, :, :, 12:] = np.nan
    return cube


@pytest.fixture(scope="module")
def expected(cube: xr.DataArray) -> xr.DataArray:
    return series.apply_datacube(cube, SEASON)


def test_windows_of_the_emulation_give_one_grid(cube, expected):
    cutting = Cutting(size_px=8, overlap_px=0, origin_px=(3, 4))
    found = run_udf_in_windows(TEXT, cube, SEASON, cutting)

    np.testing.assert_array_equal(found["t"], expected["t"])
    assert list(found["bands"].values) == list(series.OUTPUT_BANDS)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_local_back_end_gives_the_same_series(cube, expected):
    located = cube.chunk({"y": 10}).rio.write_crs("EPSG:32631")
    with dask.config.set(scheduler="synchronous"):
        found = apply_neighborhood(located, LocalUdf(TEXT, SEASON), px(8), px(0)).compute()

    np.testing.assert_array_equal(found["t"], expected["t"])
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_python_gives_the_same_series(cube, expected):
    found = smooth(cube, **SEASON).to_dataarray("bands").transpose("t", "bands", "y", "x")

    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_function_whose_dates_come_from_the_window_is_refused(cube):
    every_second = """
import xarray

def apply_datacube(cube: xarray.DataArray, context: dict) -> xarray.DataArray:
    return cube.isel(t=slice(0, None, 2))
"""
    with pytest.raises(ContractError):
        run_udf_in_windows(every_second, cube, {}, Cutting(size_px=8, overlap_px=0))


def test_the_graph_of_two_functions_gives_what_python_gives_on_the_whole_cube():
    cube = fake_cube(np.random.default_rng(3), 48, dates=6)
    cube = cube.assign_coords(
        t=np.datetime64("2024-06-01", "ns") + np.arange(6) * np.timedelta64(5, "D")
    )
    cube[2, :, :, :32] = np.nan
    lai = lai_from_collection(
        None,
        spatial_extent={"west": 5.0, "south": 51.0, "east": 5.1, "north": 51.1},
        temporal_extent=["2024-06-01", "2024-07-01"],
        step_days=4,
        model=str(default_bundle_path()),
        reflectance_scale=1.0,
        size=32,
        auxiliary_bands=[],
    )
    found = run_graph_in_windows(lai.flat_graph(), cube)

    passed = list(series.EVIDENCE_BANDS)
    settings = {"model": str(default_bundle_path()), "reflectance_offset": 0.0}
    predicted = predict.apply_datacube(cube, settings | {"pass_through": passed})
    dates = [str(day)[:10] for day in found["t"].values]
    expected = series.apply_datacube(predicted, {"dates": dates})
    assert dates[0] == "2024-06-01"
    assert len(dates) == 8
    np.testing.assert_allclose(found, expected, atol=1e-4)
