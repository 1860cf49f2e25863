"""Arguments of wrong types are refused before a worker starts, with the reason."""

import pytest

from lai_backend.arguments import check_types
from lai_backend.errors import ParameterError
from lai_backend.formats import known_specs
from lai_backend.graphs import prepare_graph
from lai_backend.validation import validate_graph

CUBE = {"from_node": "load"}
LOAD = {"process_id": "load_collection", "arguments": {"id": "A", "spatial_extent": None}}


def child(process_id: str, **arguments: object) -> dict:
    return {"process_graph": {"p": {"process_id": process_id, "arguments": arguments}}}


@pytest.mark.parametrize(
    ("process_id", "arguments", "named"),
    [
        ("load_collection", {"id": 5}, "id"),
        ("load_collection", {"id": "A", "bands": "B04"}, "bands"),
        ("load_collection", {"id": "A", "temporal_extent": "2024-01-01"}, "temporal_extent"),
        ("load_stac", {"url": ["a"]}, "url"),
        ("filter_bands", {"data": CUBE, "bands": ["B04", 5]}, r"bands\[1\]"),
        ("filter_bands", {"data": 7, "bands": ["B04"]}, "data"),
        ("rename_labels", {"data": CUBE, "dimension": 3, "target": ["a"]}, "dimension"),
        ("apply", {"data": CUBE, "process": "absolute"}, "process"),
        ("apply", {"data": CUBE, "process": child("add", x=1, y="2")}, "y"),
        ("apply_kernel", {"data": CUBE, "kernel": "blur"}, "kernel"),
        ("aggregate_temporal_period", {"data": CUBE, "period": 3}, "period"),
        ("resample_spatial", {"data": CUBE, "resolution": "20 m"}, "resolution"),
        ("resample_spatial", {"data": CUBE, "resolution": -1}, "resolution"),
        ("resample_spatial", {"data": CUBE, "resolution": [10]}, "resolution"),
        ("resample_spatial", {"data": CUBE, "method": "nearest"}, "method"),
        ("resample_spatial", {"data": CUBE, "align": "middle"}, "align"),
        ("aggregate_temporal_period", {"data": CUBE, "period": "fortnight"}, "period"),
        ("filter_spatial", {"data": CUBE, "geometries": "file:///etc/passwd"}, "geometries"),
        ("load_collection", {"id": "A", "spatial_extent": [1, 2, 3, 4]}, "spatial_extent"),
        ("load_stac", {"url": "a", "properties": {"p": 5}}, "properties"),
        ("save_result", {"data": CUBE, "format": 1}, "format"),
        ("save_result", {"data": CUBE, "format": "GTiff", "options": "a"}, "options"),
        ("apply_neighborhood", {"data": CUBE, "size": "96"}, "size"),
    ],
)
def test_an_argument_of_a_wrong_type_is_refused_by_its_name(process_id, arguments, named):
    node = {"process_id": process_id, "arguments": arguments, "result": True}
    graph = {"load": LOAD, "n": node} if "data" in arguments else {"n": node}

    with pytest.raises(ParameterError, match=named) as caught:
        prepare_graph(graph, lambda *_: None)

    assert caught.value.status == 400
    problems = validate_graph(graph, lambda *_: None, {"A": ["B04"]})
    assert "ProcessParameterInvalid" in {problem["code"] for problem in problems}


@pytest.mark.parametrize(
    ("process_id", "arguments"),
    [
        ("load_stac", {"url": "file:///items/a.json", "bands": None, "properties": None}),
        ("load_collection", {"id": "A", "temporal_extent": ["2024-01-01", None]}),
        ("filter_bands", {"data": CUBE, "bands": {"from_parameter": "bands"}}),
        ("max", {"data": [{"from_parameter": "x"}, 3]}),
        ("filter_temporal", {"data": CUBE, "extent": ["2024-01-01", "2024-01-01"]}),
        ("apply_neighborhood", {"data": CUBE, "size": [], "overlap": None, "process": child("e")}),
        ("resample_spatial", {"data": CUBE, "resolution": 20, "projection": "EPSG:32631"}),
        ("a process of somebody else", {"data": object()}),
    ],
)
def test_what_may_be_or_is_not_known_yet_passes(process_id, arguments):
    check_types(process_id, arguments)


def test_the_default_of_every_parameter_has_its_type():
    for process_id, spec in known_specs().items():
        for parameter in spec["parameters"]:
            if parameter.get("optional") and "default" in parameter:
                check_types(process_id, {parameter["name"]: parameter["default"]})
