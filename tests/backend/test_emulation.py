"""Emulation of the cloud: what a UDF sees there, and that our back-end shows it the same."""

import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from backend import udfs
from backend.udfs import px
from lai_backend.neighborhood import apply_neighborhood
from lai_backend.udf_runner import LocalUdf
from lai_udf.emulation import Cutting, run_graph_in_windows, run_udf_in_windows
from lai_udf.errors import ContractError

P1D = {"dimension": "t", "value": "P1D"}


@pytest.fixture
def cube(rng) -> xr.DataArray:
    """Two dates and three bands of 131 x 150 px; the second date has no data in the west."""
    values = rng.normal(size=(2, 3, 131, 150)).astype("float32")
    values[1, :, :, :120] = np.nan
    coords = {
        "t": pd.to_datetime(["2024-06-01", "2024-06-11"]).values,
        "bands": ["B04", "B08", "SCL"],
        "y": 5_600_000 - 20 * np.arange(131) - 10.0,
        "x": 500_000 + 20 * np.arange(150) + 10.0,
    }
    return xr.DataArray(values, dims=("t", "bands", "y", "x"), coords=coords)


def in_windows(code: str, cube: xr.DataArray, **cutting) -> np.ndarray:
    wanted = Cutting(**{"size_px": 96, "overlap_px": 16, **cutting})
    return run_udf_in_windows(code, cube, {}, wanted).values


@pytest.mark.parametrize("origin", [(0, 0), (5, 90)])
def test_identity_returns_the_input_for_odd_sizes(cube, origin):
    np.testing.assert_array_equal(in_windows(udfs.IDENTITY, cube, origin_px=origin), cube)


def test_a_udf_that_writes_its_shape_sees_128(cube):
    assert np.unique(in_windows(udfs.CHUNK_SHAPE, cube.fillna(0))) == [128128]


def test_changed_overlap_is_ignored(cube):
    np.testing.assert_array_equal(in_windows(udfs.DIRTY_OVERLAP, cube), cube)


def test_beyond_the_cube_there_is_nan(cube):
    square = cube.fillna(0).isel(y=slice(0, 96), x=slice(0, 96))
    assert np.unique(in_windows(udfs.NAN_COUNT, square)) == [128 * 128 - 96 * 96]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_box_mean_equals_apply_kernel(cube):
    from openeo_processes_dask.process_implementations.cubes.apply import apply_kernel

    whole = cube.isel(t=[0]).rio.write_crs("EPSG:32633")
    kernel = apply_kernel(whole, np.full((3, 3), 1 / 9)).values
    ours = in_windows(udfs.BOX_MEAN, whole)
    inner = (..., slice(1, -1), slice(1, -1))  # border=0 there, NaN here
    np.testing.assert_allclose(ours[inner], kernel[inner], atol=1e-6)


def test_p1d_is_three_dimensional_with_the_date_aside(cube):
    result = in_windows(udfs.DIMENSIONS, cube, by_date=True)
    days = [int(pd.Timestamp(day).value // 86_400e9) for day in ("2024-06-01", "2024-06-11")]
    assert [int(np.nanmax(layer)) for layer in result] == [300_000 + day for day in days]


def test_dates_without_data_are_absent_from_a_window_and_nan_in_the_result(cube):
    result = in_windows(udfs.DATE_COUNT.replace("    assert", "    #"), cube)
    assert np.unique(result[0, :, :, :96]) == [1]  # the western windows reach to column 112
    assert np.unique(result[0, :, :, 96:]) == [2]
    assert np.isnan(result[1, :, :, :96]).all()


@pytest.mark.parametrize("code", [udfs.BOX_MEAN, udfs.NAN_COUNT, udfs.TWO_BANDS, udfs.CHUNK_SHAPE])
def test_the_back_end_shows_a_udf_the_same(cube, code):
    windows = apply_neighborhood(cube.chunk({"y": 64}), LocalUdf(code, {}), px(96), px(16))
    emulated = in_windows(code, cube, drop_empty_dates=False)
    np.testing.assert_array_equal(windows, emulated)


def graph(process: dict, *sizes: dict, overlap: int = 16, **arguments) -> dict:
    given = {"process": {"process_graph": process}, "overlap": px(overlap)}
    given |= {"size": [*px(96), *sizes], "data": {"from_node": "load"}, **arguments}
    return {"an": {"process_id": "apply_neighborhood", "arguments": given, "result": True}}


def udf_node(code: str, context: object = None) -> dict:
    arguments = {"data": {"from_parameter": "data"}, "udf": code, "runtime": "Python"}
    return {"u": {"process_id": "run_udf", "arguments": arguments | {"context": context}}}


def test_a_graph_states_how_its_cube_is_cut(cube):
    value = graph(udf_node(udfs.CONTEXT_VALUE, {"from_parameter": "context"}), context={"value": 3})
    assert np.nanmax(run_graph_in_windows(json.loads(json.dumps(value)), cube)) == 3
    shape = graph(udf_node(udfs.CHUNK_SHAPE), overlap=4)
    assert np.nanmax(run_graph_in_windows(shape, cube)) == 104104
    dated = run_graph_in_windows(graph(udf_node(udfs.DIMENSIONS), P1D), cube)
    assert np.nanmax(dated) // 100_000 == 3


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        graph({}),
        graph(udf_node(udfs.IDENTITY), size=[*px(96)[:1], *px(64)[1:]]),
        graph(udf_node(udfs.IDENTITY), overlap=16, size=[{**px(96)[0], "unit": "m"}]),
    ],
)
def test_a_graph_that_cannot_be_emulated_is_refused(cube, wrong):
    with pytest.raises(ContractError):
        run_graph_in_windows(wrong, cube)
