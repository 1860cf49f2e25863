"""Graphs without a server: collections in folders, the client's own calls."""

import numpy as np
import openeo
import pytest

from backend import udfs
from backend.clients import BOX
from backend.udfs import px
from lai_backend.errors import AccessError, GraphError, ParameterError

pytestmark = pytest.mark.filterwarnings(
    # openeo_processes_dask.specs leaves the files it reads open
    "ignore::pytest.PytestUnraisableExceptionWarning",
)


@pytest.fixture
def local(tiny):
    from lai_backend.local import LocalConnection  # its imports warn, which the filters catch here

    return LocalConnection(collections=[tiny.folder / "TINY"])


def test_a_cube_of_the_client_is_computed_here(local, tiny):
    udf = openeo.UDF(udfs.TWO_BANDS, runtime="Python")
    cube = local.load_collection("TINY", bands=["B04", "B08"])
    result = cube.apply_neighborhood(process=udf, size=px(96), overlap=px(16)).execute()
    assert result["bands"].values.tolist() == ["SUM", "COUNT"]
    expected = np.nansum(tiny.reflectance[:, :2], axis=1)
    np.testing.assert_array_equal(result.sel(bands="SUM").values, expected)


def test_collections_are_described_for_the_client(local):
    assert [one["id"] for one in local.list_collections()] == ["TINY"]
    with pytest.raises(ParameterError):
        local.load_collection("OTHER")


def test_items_elsewhere_need_leave(local, tmp_path):
    node = {"process_id": "load_stac", "arguments": {"url": str(tmp_path / "item.json")}}
    with pytest.raises(AccessError):
        local.execute({"l": node | {"result": True}})


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [({"x": 1}, "add: .*'y'"), ({"x": 1, "y": 2, "z": 3}, "add: .*'z'")],
)
def test_arguments_that_a_process_cannot_take_are_named(local, arguments, sentence):
    with pytest.raises(ParameterError, match=sentence):
        local.execute({"a": {"process_id": "add", "arguments": arguments, "result": True}})


@pytest.mark.parametrize(
    "options",
    [
        {"spatial_extent": {**BOX, "west": "a"}},
        {"spatial_extent": {**BOX, "east": float("1e999")}},
        {"spatial_extent": {"type": "Polygon", "coordinates": []}},
        {"properties": 5},
        {"properties": {"eo:cloud_cover": {"process_graph": {"n": {"process_id": "nothing"}}}}},
    ],
    ids=str,
)
def test_extents_and_conditions_of_a_wrong_form_are_refused(local, options):
    arguments = {"id": "TINY", "spatial_extent": None, "temporal_extent": None, **options}
    with pytest.raises((GraphError, ParameterError)):
        local.execute(
            {"l": {"process_id": "load_collection", "arguments": arguments, "result": True}}
        )
