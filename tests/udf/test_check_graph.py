"""`lai-udf check graph.json`: what would cost a job is reported before."""

import json
from pathlib import Path

import openeo
import pytest
from backend import udfs
from openeo.rest.datacube import DataCube
from typer.testing import CliRunner

from lai_udf.check import check_graph
from lai_udf.cli import app
from lai_udf.errors import LaiGraphError
from lai_udf.predict import BANDS
from lai_udf.process_graph import lai_cube, lai_from_collection

COMMITTED = Path(__file__).parents[2] / "udf" / "openeo_udp" / "sentinel2_lai.json"
BOX = {"west": 5.05, "south": 51.21, "east": 5.1, "north": 51.23}


def graph(**settings) -> dict:
    extents = {"spatial_extent": BOX, "temporal_extent": ["2023-06-01", "2023-07-01"]}
    return lai_from_collection(None, **extents, **settings).flat_graph()


def change(key: str, value: object) -> dict:
    nodes = graph()
    (window,) = (n for n in nodes.values() if n["process_id"] == "apply_neighborhood")
    (udf,) = window["arguments"]["process"]["process_graph"].values()
    where = window if key in ("size", "overlap") else udf
    if key in ("size", "overlap", "udf"):
        where["arguments"][key] = value
    else:
        where["arguments"]["context"] |= {key: value}
    return nodes


def px(x: object, y: object, unit: str = "px") -> list[dict]:
    return [
        {"dimension": axis, "value": value, "unit": unit}
        for axis, value in (("x", x), ("y", y))
        if value is not None
    ]


def test_what_we_build_has_no_problems():
    assert check_graph(graph()).problems == ()
    assert check_graph(graph(size=96, overlap=16, auxiliary_bands=[])).problems == ()
    assert check_graph(graph(step_days=5)).problems == ()


def test_the_settings_of_a_series_are_those_of_its_function():
    nodes = graph(step_days=5)
    smoothed = max(name for name in nodes if name.startswith("applyneighborhood"))
    (udf,) = nodes[smoothed]["arguments"]["process"]["process_graph"].values()
    udf["arguments"]["context"]["dates"] = ["yesterday"]
    (problem,) = check_graph(nodes).problems
    assert problem.startswith(smoothed)


def test_the_committed_process_has_no_problems():
    result = CliRunner().invoke(app, ["check", str(COMMITTED)])
    assert result.exit_code == 0, result.stdout


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (change("overlap", []), "no overlap"),
        (change("overlap", px(16, None)), "one axis only"),
        (change("overlap", px(240, 240)), "larger than the size"),
        (change("overlap", px(18, 18)), "multiples of 4"),
        (change("overlap", px(8, 8)), "set both alike"),
        (change("overlap", px(320, 320, "m")), "whole numbers of px"),
        (change("size", px(225, 225)), "multiples of 4"),
        (change("size", px(224, None)), "size must name x and y"),
        (change("sede", 1), "unknown context key sede"),
        (change("udf", udfs.LATE_ANNOTATIONS), "from __future__ import"),
        ({"l": {"process_id": "load_stac", "arguments": {}}}, "no apply_neighborhood"),
    ],
)
def test_a_graph_that_would_fail_is_reported_with_the_reason(wrong, sentence):
    assert any(sentence in problem for problem in check_graph(wrong).problems)


def test_a_graph_without_apply_neighborhood_gets_all_other_reports_too():
    nodes = graph()
    (name,) = (key for key, node in nodes.items() if node["process_id"] == "apply_neighborhood")
    window = nodes[name]["arguments"]
    (udf,) = window["process"]["process_graph"].values()
    udf["arguments"]["context"] = {"sede": 1}
    nodes[name] = {
        "process_id": "apply_dimension",
        "arguments": {"data": window["data"], "dimension": "t", "process": window["process"]},
    }
    nodes["loadcollection1"]["arguments"]["bands"].remove("B05")

    found = " / ".join(check_graph(nodes).problems)

    for sentence in ("no apply_neighborhood", "unknown context key sede", "B05 are not loaded"):
        assert sentence in found
    assert "size" not in found


def test_bands_that_are_not_loaded_are_named():
    nodes = graph()
    nodes["loadcollection1"]["arguments"]["bands"].remove("B05")
    (problem,) = check_graph(nodes).problems
    assert "bands B05 are not loaded" in problem


def test_the_command_prints_problems_and_ends_with_1(tmp_path):
    path = tmp_path / "graph.json"
    path.write_text(json.dumps({"process_graph": change("overlap", [])}))
    result = CliRunner().invoke(app, ["check", str(path)])
    assert result.exit_code == 1
    assert "no overlap" in result.stdout


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 1}'])
def test_a_file_that_is_no_graph_is_one_sentence(tmp_path, content):
    (tmp_path / "graph.json").write_text(content)
    result = CliRunner().invoke(app, ["check", str(tmp_path / "graph.json")])
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1


def test_a_cube_known_to_lack_a_band_is_refused_before_the_job():
    bands = [{"name": name} for name in BANDS if name != "B8A"]
    dimensions = {"bands": {"type": "bands", "values": [band["name"] for band in bands]}}
    described = {"cube:dimensions": dimensions, "summaries": {"eo:bands": bands}}
    cube = DataCube.load_collection("S2", fetch_metadata=False)
    cube.metadata = openeo.metadata.CollectionMetadata(described)
    with pytest.raises(LaiGraphError):
        lai_cube(cube)
