"""Graphs without a server: collections in folders, the client's own calls."""

import numpy as np
import openeo
import pytest

from backend import udfs
from backend.clients import BOX
from backend.smoke import child
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
    ("process_id", "arguments"),
    [
        ("filter_bands", {"bands": ["B99"]}),
        ("filter_bands", {"data": {"a": 1}, "bands": ["B04"]}),
        ("add_dimension", {"name": "x", "label": "a"}),
        ("apply", {"process": child("gt", x={"from_parameter": "x"}, y="x")}),
        ("apply", {"process": child("is_nan", x=["a"])}),
        ("apply", {"process": {"process_graph": 5}}),
        ("array_element", {"data": [1, 2], "index": 5}),
    ],
)
def test_what_a_process_cannot_work_with_is_a_wrong_argument(local, process_id, arguments):
    load = {"id": "TINY", "spatial_extent": None, "temporal_extent": None}
    given = {"data": {"from_node": "l"}, **arguments}
    with pytest.raises(ParameterError):
        local.execute(
            {
                "l": {"process_id": "load_collection", "arguments": load},
                "n": {"process_id": process_id, "arguments": given, "result": True},
            }
        )


@pytest.mark.parametrize(
    ("extent", "resolution"), [(BOX, 1e9), ({"west": -5, "south": 30, "east": 35, "north": 70}, 10)]
)
def test_more_pixels_than_can_be_loaded_are_refused_at_once(local, extent, resolution):
    cube = local.load_collection("TINY", spatial_extent=extent).resample_spatial(resolution)
    with pytest.raises(ParameterError):
        cube.execute()


@pytest.mark.parametrize(
    "options",
    [
        {"spatial_extent": {**BOX, "west": "a"}},
        {"spatial_extent": {**BOX, "east": float("1e999")}},
        {"spatial_extent": {"type": "Polygon", "coordinates": []}},
        {"spatial_extent": {"type": "Polygon", "coordinates": [["a"]]}},
        {"spatial_extent": {"type": "FeatureCollection", "features": 5}},
        {"spatial_extent": {"type": 5}},
        {"properties": 5},
        {"properties": {"eo:cloud_cover": {"process_graph": 5}}},
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
