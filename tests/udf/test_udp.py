"""The committed process is the one that the code builds, and describes its parameters."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import requests
from typer.testing import CliRunner

from lai_udf.bundle import DEFAULT_BUNDLE
from lai_udf.cli import app
from lai_udf.produce.plan import estimate_graph
from lai_udf.udp import (
    PROCESS_ID,
    build_benchmark,
    build_process,
    build_record,
    write_documents,
)

APEX_SCHEMAS = (
    "https://raw.githubusercontent.com/ESA-APEx/apex_algorithms/"
    "9d0198fd99dcaab1cd3f1512af113eeb71485754/schemas"
)
COMMITTED = Path(__file__).parents[2] / "udf" / "openeo_udp"


@pytest.fixture(scope="module")
def process() -> dict[str, Any]:
    return build_process("sentinel2-lai-seamless-9.9.9")


def test_committed_documents_are_what_the_code_builds(tmp_path: Path) -> None:
    for path in write_documents(tmp_path, Path(DEFAULT_BUNDLE).stem):
        committed = json.loads((COMMITTED / path.name).read_text())
        assert committed == json.loads(path.read_text()), "run `lai-udf graph` and commit"


def test_command_writes_and_prints_the_documents(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["graph", str(tmp_path / "new")])

    assert result.exit_code == 0
    assert [Path(line).name for line in result.stdout.splitlines()] == [
        "sentinel2_lai.json",
        "sentinel2_lai.record.json",
        "sentinel2_lai.benchmark.json",
        "provider.record.json",
    ]
    assert len(list((tmp_path / "new").iterdir())) == 4


def test_links_lead_to_the_commit_that_is_named(tmp_path: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    place = "https://results.example.org/1"
    options = ["--revision", commit, "--reference", place]
    assert CliRunner().invoke(app, ["graph", str(tmp_path), *options]).exit_code == 0

    record = json.loads((tmp_path / "sentinel2_lai.record.json").read_text())
    links = {link["rel"]: link["href"] for link in record["links"]}
    for rel in ("application", "webapp", "thumbnail", "code"):
        assert f"/{commit}" in links[rel]
    (scenario,) = json.loads((tmp_path / "sentinel2_lai.benchmark.json").read_text())
    assert f"/{commit}/" in scenario["process_graph"]["lai"]["namespace"]
    assert scenario["reference_data"]["openEO.nc"] == f"{place}/openEO.nc"


def test_a_graph_is_estimated_before_it_is_run(tmp_path: Path) -> None:
    scenario = tmp_path / "graph.json"
    scenario.write_text(json.dumps(build_benchmark()[0]["process_graph"]))
    found = CliRunner().invoke(app, ["graph", "--estimate", str(scenario)])
    assert found.exit_code == 0
    estimate = estimate_graph(json.loads(scenario.read_text()))
    assert found.stdout.splitlines() == estimate.lines()
    assert estimate.jobs == 1
    assert 7.7 < estimate.area_km2 < 16  # 3.49 km x 2.22 km, in whole steps of 640 m
    assert estimate.dates == pytest.approx(29 / 3)


def test_a_polygon_of_a_graph_is_estimated_by_its_box() -> None:
    ring = [[5.05, 51.21], [5.1, 51.21], [5.1, 51.23], [5.05, 51.21]]
    extents = {
        "spatial_extent": {"type": "Polygon", "coordinates": [ring]},
        "temporal_extent": ["2023-06-01", "2023-07-01"],
    }
    graph = {"load": {"process_id": "load_collection", "arguments": extents}}
    assert estimate_graph(graph).credits > 0


def test_a_graph_without_extents_is_not_estimated(tmp_path: Path) -> None:
    path = tmp_path / "graph.json"
    path.write_text(json.dumps({"add": {"process_id": "add", "arguments": {"x": 1, "y": 2}}}))
    found = CliRunner().invoke(app, ["graph", "--estimate", str(path)])
    assert found.exit_code == 1
    assert "spatial_extent" in found.stderr


def test_every_parameter_is_used_and_every_reference_is_declared(process: dict[str, Any]) -> None:
    declared = {parameter["name"] for parameter in process["parameters"]}
    referred: set[str] = set()

    def walk(node: object) -> None:
        if isinstance(node, dict):
            if set(node) == {"from_parameter"}:
                referred.add(node["from_parameter"])
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(process["process_graph"])
    assert referred - {"data"} == declared


def test_everything_but_area_and_season_has_a_default(process: dict[str, Any]) -> None:
    needed = [p["name"] for p in process["parameters"] if not p.get("optional")]
    assert needed == ["spatial_extent", "temporal_extent"]


def test_job_options_bring_model_and_runtime_in_a_folder_each(process: dict[str, Any]) -> None:
    archives = process["default_job_options"]["udf-dependency-archives"]

    assert [address.split("#")[1] for address in archives] == ["lai_model", "onnx_deps"]
    assert "sentinel2-lai-seamless-9.9.9.zip" in archives[0]


def test_process_can_be_used_by_name(process: dict[str, Any]) -> None:
    import openeo

    cube = openeo.rest.datacube.DataCube.load_collection("X", fetch_metadata=False)
    assert process["id"] == PROCESS_ID
    assert cube.process(PROCESS_ID, arguments={}).flat_graph()


def test_record_has_what_the_catalogue_requires() -> None:
    # ESA-APEx/apex_algorithms, schemas/record.json: required properties and link relations.
    record = build_record()

    assert set(record["properties"]) >= {
        "created",
        "updated",
        "type",
        "title",
        "description",
        "contacts",
        "themes",
        "formats",
        "cost_estimate",
        "languages",
    }
    assert {link["rel"] for link in record["links"]} >= {
        "service",
        "application",
        "platform",
        "provider",
        "webapp",
        "thumbnail",
    }
    assert record["properties"]["type"] == "service"


@pytest.mark.network
@pytest.mark.parametrize(
    ("document", "schema"),
    [
        ("sentinel2_lai.record", "record"),
        ("provider.record", "provider"),
        ("sentinel2_lai.benchmark", "benchmark_scenario"),
    ],
)
def test_documents_validate_against_the_published_schemas(document: str, schema: str) -> None:
    try:
        answer = requests.get(f"{APEX_SCHEMAS}/{schema}.json", timeout=20)
        answer.raise_for_status()
    except requests.RequestException as error:
        pytest.skip(f"the schemas cannot be fetched: {error}")
    content = json.loads((COMMITTED / f"{document}.json").read_text())
    for one in content if isinstance(content, list) else [content]:
        jsonschema.Draft202012Validator(answer.json()).validate(one)


def test_links_of_the_record_lead_to_the_layout_of_the_catalogue() -> None:
    # algorithm_catalog/<provider>/sentinel2_lai/{records,openeo_udp,benchmark_scenarios}
    links = {link["rel"]: link["href"] for link in build_record()["links"]}

    assert links["provider"] == "../../record.json"
    assert links["platform"].startswith("../../../../platform_catalog/")
    assert links["application"].endswith("/openeo_udp/sentinel2_lai.json")


def test_benchmark_calls_the_process_and_saves_the_result() -> None:
    (scenario,) = json.loads((COMMITTED / "sentinel2_lai.benchmark.json").read_text())

    assert set(scenario) >= {"id", "type", "backend", "process_graph"}
    assert scenario["process_graph"]["lai"]["process_id"] == PROCESS_ID
    assert scenario["process_graph"]["save"]["result"] is True
