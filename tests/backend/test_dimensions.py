"""`apply_dimension` with processes of openEO: values and labels."""

import numpy as np
import pytest
import xarray as xr
from openeo_pg_parser_networkx import OpenEOProcessGraph

from lai_backend.errors import ParameterError
from lai_backend.settings import Task

pytestmark = pytest.mark.filterwarnings(
    # openeo_processes_dask.specs leaves the files it reads open
    "ignore::pytest.PytestUnraisableExceptionWarning",
)


@pytest.fixture(scope="module")
def registry():
    from lai_backend.processes import build_registry

    return build_registry(Task(graph={}))


@pytest.fixture
def cube(rng) -> xr.DataArray:
    return xr.DataArray(
        rng.integers(1, 100, (3, 2, 4, 5)).astype("float32"),
        dims=("t", "bands", "y", "x"),
        coords={
            "t": np.array(["2024-06-01", "2024-06-11", "2024-06-21"], "datetime64[ns]"),
            "bands": ["B04", "B08"],
            "y": 100.0 - 20 * np.arange(4),
            "x": 20.0 * np.arange(5),
        },
    ).chunk()


def run(registry, cube, nodes: dict, dimension: str, target: str | None = None) -> xr.DataArray:
    """Run apply_dimension with a child graph, as a worker does."""
    child = OpenEOProcessGraph({"process_graph": nodes}).to_callable(registry)
    call = registry["apply_dimension"].implementation
    result = call(data=cube, process=child, dimension=dimension, target_dimension=target)
    return result.compute()


def one(process_id: str, **arguments) -> dict:
    given = {"data": {"from_parameter": "data"}, **arguments}
    return {"p": {"process_id": process_id, "arguments": given, "result": True}}


def test_labels_stay_where_as_many_values_come_back(registry, cube):
    result = run(registry, cube, one("quantiles", probabilities=[0, 1]), "bands")
    assert result["bands"].values.tolist() == ["B04", "B08"]
    assert result.dims == cube.dims
    np.testing.assert_array_equal(result.sel(bands="B04"), cube.min("bands"))


def test_labels_are_numbers_where_their_count_changes(registry, cube):
    result = run(registry, cube, one("quantiles", probabilities=[0, 1]), "t")
    assert result["t"].values.tolist() == [0, 1]
    np.testing.assert_array_equal(result.isel(t=1), cube.max("t"))


def test_the_child_process_has_the_labels(registry, cube):
    result = run(registry, cube, one("array_element", label="B08"), "bands")
    assert result["bands"].values.tolist() == [0]
    np.testing.assert_array_equal(result.isel(bands=0), cube.sel(bands="B08"))


def test_another_target_takes_the_place_of_the_source(registry, cube):
    result = run(registry, cube, one("quantiles", probabilities=[0, 0.5, 1]), "t", "quantile")
    assert result.dims == ("quantile", "bands", "y", "x")
    assert result["quantile"].values.tolist() == [0, 1, 2]


def test_a_target_of_several_labels_is_refused(registry, cube):
    with pytest.raises(ParameterError):
        run(registry, cube, one("quantiles", probabilities=[0, 1]), "t", "bands")
