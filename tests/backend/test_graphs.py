"""Resolving and lowering of process graphs."""

import pytest

from backend.udfs import CONTEXT_VALUE, px
from lai_backend.errors import GraphError, ParameterError, UnsupportedError
from lai_backend.graphs import prepare_graph
from lai_backend.margins import add_margins, snap_to_resampling
from lai_backend.validation import validate_graph

EXTENT = {"west": 1, "south": 2, "east": 3, "north": 4}
LOAD = {"process_id": "load_collection", "arguments": {"id": "S2", "spatial_extent": EXTENT}}


def run_udf(context=None):
    arguments = {"data": {"from_parameter": "data"}, "udf": CONTEXT_VALUE, "runtime": "Python"}
    if context is not None:
        arguments["context"] = context
    return {
        "process_graph": {"u": {"process_id": "run_udf", "arguments": arguments, "result": True}}
    }


def around(process, **arguments):
    base = {"data": {"from_node": "load"}, "size": px(96), "overlap": px(16), "process": process}
    return {"process_id": "apply_neighborhood", "arguments": {**base, **arguments}}


def cycle(*names):
    """Return nodes that each refer to the next one, the last to the first."""
    followers = [*names[1:], names[0]]
    return {
        name: {
            "process_id": "absolute",
            "arguments": {"x": {"from_node": follower}},
            "result": i == 0,
        }
        for i, (name, follower) in enumerate(zip(names, followers, strict=True))
    }


def prepare(graph, processes=None, margins=False):
    known = processes or {}
    prepared = prepare_graph(graph, lambda name, namespace: known.get(name))
    return add_margins(snap_to_resampling(prepared)) if margins else prepared


def udf_of(graph):
    return next(n["arguments"]["udf"] for n in graph.values() if "udf" in n["arguments"])


def test_udf_becomes_data_of_its_parent():
    graph = prepare({"load": LOAD, "an": around(run_udf({"value": 1}))})
    assert udf_of(graph) == {"code": CONTEXT_VALUE, "context": {"value": 1}}
    assert graph["an"]["result"]
    assert "process" not in graph["an"]["arguments"]


def test_context_of_the_parent_reaches_the_udf():
    child = run_udf({"from_parameter": "context"})
    graph = prepare({"load": LOAD, "an": around(child, context={"value": 2})})
    assert udf_of(graph)["context"] == {"value": 2}


def test_missing_parent_context_is_empty():
    graph = prepare({"load": LOAD, "an": around(run_udf({"from_parameter": "context"}))})
    assert udf_of(graph)["context"] == {}


def test_context_of_the_udf_wins_over_the_parent():
    graph = prepare({"load": LOAD, "an": around(run_udf({"value": 1}), context={"value": 2})})
    assert udf_of(graph)["context"] == {"value": 1}


def make_udp():
    context = {"value": {"from_parameter": "value"}, "model": "m"}
    body = {
        "load": {
            "process_id": "load_collection",
            "arguments": {
                "id": "S2",
                "spatial_extent": {"from_parameter": "box"},
                "temporal_extent": ["2024-06-01", {"from_parameter": "end"}],
            },
        },
        "an": {**around(run_udf(context)), "result": True},
    }
    parameters = [
        {"name": "box", "schema": {}},
        {"name": "end", "schema": {}},
        {"name": "value", "schema": {}, "optional": True, "default": 7},
    ]
    return {"process_graph": body, "parameters": parameters}


def call_udp(**arguments):
    return {
        "call": {"process_id": "lai", "arguments": arguments},
        "save": {
            "process_id": "save_result",
            "arguments": {"data": {"from_node": "call"}, "format": "GTiff"},
            "result": True,
        },
    }


def test_parameters_reach_nested_values_of_a_user_defined_process():
    graph = prepare(call_udp(box=EXTENT, end="2024-07-01", value=9), {"lai": make_udp()})
    request = graph["call__load"]["arguments"]["request"]
    assert request["spatial_extent"] == EXTENT
    assert request["temporal_extent"] == ["2024-06-01", "2024-07-01"]
    assert udf_of(graph)["context"] == {"value": 9, "model": "m"}
    assert graph["save"]["arguments"]["data"] == {"from_node": "call__an"}
    assert [name for name, node in graph.items() if node["result"]] == ["save"]


def test_parameters_have_defaults():
    graph = prepare(call_udp(box=EXTENT, end=None), {"lai": make_udp()})
    assert udf_of(graph)["context"]["value"] == 7


def test_a_cube_can_be_an_argument_of_a_user_defined_process():
    body = {
        "load": {"process_id": "apply", "arguments": {"data": {"from_parameter": "cube"}}},
        "an": {**around(run_udf()), "result": True},
    }
    udp = {"process_graph": body, "parameters": [{"name": "cube", "schema": {}}]}
    graph = prepare(
        {"load": LOAD, "call": {"process_id": "lai", "arguments": {"cube": {"from_node": "load"}}}},
        {"lai": udp},
    )
    assert graph["call__load"]["arguments"]["data"] == {"from_node": "load"}
    assert graph["call__an"]["arguments"]["data"] == {"from_node": "call__load"}
    assert graph["call__an"]["result"]


def test_user_defined_processes_may_call_each_other():
    outer = {
        "process_graph": {
            "x": {
                "process_id": "lai",
                "arguments": {"box": {"from_parameter": "b"}, "end": None},
                "result": True,
            }
        },
        "parameters": [{"name": "b", "schema": {}}],
    }
    graph = prepare(
        {"c": {"process_id": "outer", "arguments": {"b": EXTENT}}},
        {"lai": make_udp(), "outer": outer},
    )
    assert graph["c__x__load"]["arguments"]["request"]["spatial_extent"] == EXTENT


def test_child_processes_without_a_udf_stay_as_they_are():
    child = {
        "process_graph": {
            "m": {
                "process_id": "multiply",
                "arguments": {"x": {"from_parameter": "x"}, "y": 0.0001},
                "result": True,
            }
        }
    }
    apply = {"process_id": "apply", "arguments": {"data": {"from_node": "load"}, "process": child}}
    assert prepare({"load": LOAD, "a": apply})["a"]["arguments"]["process"] == child


@pytest.mark.parametrize(
    ("graph", "error"),
    [
        (call_udp(end=None), ParameterError),
        (call_udp(box=EXTENT, end=None, colour=1), ParameterError),
        ({"a": around(run_udf())}, GraphError),
        ({}, GraphError),
        ({"a": LOAD, "b": LOAD}, GraphError),
        ({"a": {"arguments": {}}}, GraphError),
        (cycle("a"), GraphError),
        (cycle("a", "b"), GraphError),
        ({"a": {**LOAD, "arguments": {"id": {"from_node": 1}}}}, GraphError),
        (
            {"a": {"process_id": "load_collection", "arguments": {"id": {"from_parameter": "x"}}}},
            ParameterError,
        ),
        ({"load": LOAD, "a": around({"process_graph": {"m": LOAD}})}, UnsupportedError),
        ({"r": {"process_id": "endless", "arguments": {}}}, GraphError),
    ],
)
def test_a_wrong_graph_is_refused(graph, error):
    endless = {"process_graph": {"e": {"process_id": "endless", "arguments": {}, "result": True}}}
    with pytest.raises(error):
        prepare(graph, {"lai": make_udp(), "endless": endless})


def filter_bands(source):
    return {
        "process_id": "filter_bands",
        "arguments": {"data": {"from_node": source}, "bands": ["B04"]},
    }


def test_a_neighbourhood_is_loaded_with_its_overlap_and_cropped():
    graph = prepare({"load": LOAD, "an": around(run_udf({}))}, margins=True)
    assert graph["load"]["arguments"]["request"]["margin_px"] == 16
    assert graph["an__crop"]["result"]
    assert not graph["an"]["result"]
    assert graph["an__crop"]["arguments"]["request"] == {"spatial_extent": EXTENT}


def test_pixelwise_processes_may_lie_between():
    an = around(run_udf({}), data={"from_node": "f"})
    graph = prepare({"load": LOAD, "f": filter_bands("load"), "an": an}, margins=True)
    assert graph["load"]["arguments"]["request"]["margin_px"] == 16


def test_another_use_of_the_cube_forbids_the_margin():
    merged = {
        "process_id": "merge_cubes",
        "arguments": {"cube1": {"from_node": "an"}, "cube2": {"from_node": "load"}},
        "result": True,
    }
    graph = prepare({"load": LOAD, "an": around(run_udf({})), "m": merged}, margins=True)
    assert "margin_px" not in graph["load"]["arguments"]["request"]
    assert "an__crop" not in graph


PARENT = {"from_parameter": "context"}
VALUE = {"from_parameter": "value"}


@pytest.mark.parametrize(
    ("of_udf", "of_parent", "arguments", "expected"),
    [
        ({"value": 1}, {"value": 2}, {"value": 3}, {"value": 1}),
        (PARENT, {"value": 2}, {"value": 3}, {"value": 2}),
        (PARENT, {"value": VALUE}, {"value": 3}, {"value": 3}),
        (PARENT, {"value": VALUE}, {}, {"value": 9}),
        ({"value": VALUE}, {"value": 2}, {"value": 3}, {"value": 3}),
        ({"value": VALUE}, None, {}, {"value": 9}),
        (None, {"value": 2}, {"value": 3}, {}),
    ],
    ids=[
        "the UDF's own context wins",
        "the parent's where the UDF refers to it",
        "a parameter through the parent",
        "its default through the parent",
        "a parameter straight to the UDF",
        "its default straight to the UDF",
        "nothing where the UDF asks for nothing",
    ],
)
def test_context_of_a_udf_comes_from_where_it_refers_to(of_udf, of_parent, arguments, expected):
    # As in openeo-geopyspark-driver 9baf2e10, tests/test_api_result.py, lines 758-1000.
    parent = {} if of_parent is None else {"context": of_parent}
    body = {"load": LOAD, "an": {**around(run_udf(of_udf), **parent), "result": True}}
    udp = {
        "parameters": [{"name": "value", "optional": True, "default": 9}],
        "process_graph": body,
    }
    graph = prepare({"c": {"process_id": "udp", "arguments": arguments}}, {"udp": udp})
    assert udf_of(graph)["context"] == expected


def resampled(source, resolution=20, **arguments):
    given = {"data": {"from_node": source}, "resolution": resolution, **arguments}
    return {"process_id": "resample_spatial", "arguments": given}


def merged(*sources):
    cubes = {f"cube{number}": {"from_node": name} for number, name in enumerate(sources, 1)}
    return {"process_id": "merge_cubes", "arguments": cubes}


def request_of(graph, name):
    return graph[name]["arguments"]["request"]


def test_margins_go_through_resampling_and_merging():
    nodes = {"load": LOAD, "other": LOAD, "r": resampled("load"), "q": resampled("other")}
    an = around(run_udf({}), data={"from_node": "m"})
    graph = prepare({**nodes, "m": merged("r", "q"), "an": an}, margins=True)
    for name in ("load", "other"):
        assert request_of(graph, name)["margin_px"] == 16
        assert request_of(graph, name)["pixel"] == 20
    assert graph["an__crop"]["result"]


@pytest.mark.parametrize(
    "between",
    [
        {"r": resampled("load", projection=4326)},
        {"r": {"process_id": "trim_cube", "arguments": {"data": {"from_node": "load"}}}},
        {"r": merged("load", "elsewhere"), "elsewhere": {**LOAD, "arguments": {"id": "S2"}}},
        {"q": resampled("load"), "r": resampled("q", 60)},
    ],
    ids=["another projection", "an unknown reach", "another extent", "two grids"],
)
def test_no_margin_where_its_width_is_not_known(between):
    an = around(run_udf({}), data={"from_node": "r"})
    graph = prepare({"load": LOAD, **between, "an": an}, margins=True)
    assert "margin_px" not in request_of(graph, "load")
    assert "an__crop" not in graph


@pytest.mark.parametrize(
    ("between", "margin"),
    [
        ({"process_id": "resample_cube_spatial"}, 6 * 16),
        ({"process_id": "to_scl_dilation_mask"}, 16 + 100),
        ({"process_id": "to_scl_dilation_mask", "arguments": {"kernel2_size": 41}}, 16 + 20),
        ({"process_id": "apply_kernel", "arguments": {"kernel": [[1, 1, 1]] * 5}}, 16 + 2),
    ],
)
def test_margins_reach_through_masks(between, margin):
    clouds = {"data": {"from_node": "scl"}, **between.get("arguments", {})}
    if between["process_id"] == "resample_cube_spatial":
        clouds["target"] = {"from_node": "load"}
    mask = {"data": {"from_node": "load"}, "mask": {"from_node": "clouds"}}
    nodes = {
        "load": LOAD,
        "scl": LOAD,
        "clouds": {**between, "arguments": clouds},
        "masked": {"process_id": "mask", "arguments": mask},
        "an": around(run_udf({}), data={"from_node": "masked"}),
    }
    graph = prepare(nodes, margins=True)
    assert {request_of(graph, name)["margin_px"] for name in ("load", "scl")} == {margin}
    assert "an__crop" in graph


def test_cubes_that_are_resampled_are_loaded_in_whole_pixels_of_the_result():
    nodes = {"load": LOAD, "r": resampled("load", [20, 20])}
    assert request_of(prepare(nodes, margins=True), "load")["pixel"] == 20
    assert "pixel" not in request_of(prepare({"load": LOAD}, margins=True), "load")


@pytest.mark.parametrize(
    ("node", "code"),
    [
        ({"process_id": "save_result", "arguments": {"format": "PNG"}}, "ProcessParameterInvalid"),
        (
            {
                "process_id": "save_result",
                "arguments": {"format": "CSV", "options": {"filename_prefix": "../x"}},
            },
            "ProcessParameterInvalid",
        ),
        ({"process_id": "load_stac", "arguments": {"url": "file:///etc/x"}}, "PathNotAllowed"),
        (
            {"process_id": "load_url", "arguments": {"url": "/etc/x", "format": "GeoJSON"}},
            "PathNotAllowed",
        ),
    ],
)
def test_what_a_worker_would_refuse_is_found_before(node, code):
    node["arguments"].setdefault("data", {"from_parameter": "data"})
    if "url" in node["arguments"]:
        del node["arguments"]["data"]
    else:
        node["arguments"]["data"] = 1
    problems = validate_graph({"n": {**node, "result": True}}, lambda *_: None, {})
    assert [problem["code"] for problem in problems] == [code]


def test_options_of_cloud_backends_are_no_problem():
    arguments = {"data": {}, "format": "GTiff", "options": {"overviews": "OFF", "tile_size": 512}}
    node = {"process_id": "save_result", "arguments": arguments, "result": True}
    assert validate_graph({"n": node}, lambda *_: None, {}) == []
