"""`POST /publish` of results without items: an openEO job's, or COGs; items, or a reason."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
from fake_jobs import TIMES, job_description, write_cloud_results
from fake_lai import MODEL, UTM32, fake_layers
from fastapi.testclient import TestClient
from service.fake_items import TOKEN
from typer.testing import CliRunner

from lai_service import Settings
from lai_service.api import publish_route
from lai_service.cli import app
from lai_udf.bundle import Bundle
from lai_udf.cog import write_lai_cogs
from lai_udf.predict import OUTPUT_BANDS

# rasterio 1.4 multiplies transforms with `*`, which affine 3 announces to deprecate.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")


@pytest.fixture(autouse=True)
def _model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Know the model of the fake jobs in place of the shipped one."""
    bundle = Bundle(Path("seamless-0.1.0.zip"), MODEL)
    monkeypatch.setattr(publish_route, "open_bundle", lambda path=None: bundle)


@pytest.fixture
def results(settings: Settings, rng: np.random.Generator) -> Iterator[Path]:
    return write_cloud_results(settings.allowed_roots[0] / "job", fake_layers(rng))


def files(settings: Settings) -> dict[str, bytes]:
    found = (path for path in settings.data.glob("lai/**/*") if path.is_file())
    return {str(path): path.read_bytes() for path in found}


def test_every_date_of_a_job_is_published_and_found(writer: TestClient, results: Path) -> None:
    answer = writer.post("/publish", json={"results": str(results)})
    assert answer.status_code == 201, answer.text
    assert answer.headers["LAI-Publish-Outcome"] == "created, created"
    items = answer.json()["features"]
    assert [item["properties"]["datetime"] for item in items] == list(TIMES)

    search = {"datetime": "2024-07-01T00:00:00Z/..", "filter": '"laiq:valid_fraction" > 0.5'}
    (found,) = writer.get("/search", params=search).json()["features"]
    assert found["id"] == items[1]["id"]
    assert writer.get(found["assets"]["lai_upper"]["href"]).status_code == 200
    sources = [link for link in found["links"] if link["rel"] == "derived_from"]
    assert [link["href"].startswith("s3://eodata/Sentinel-2/") for link in sources] == [True]


def test_process_graph_is_a_file_that_the_item_links(writer: TestClient, results: Path) -> None:
    item = writer.post("/publish", json={"results": str(results)}).json()["features"][0]
    assert "processing:expression" not in item["properties"]
    (link,) = [link for link in item["links"] if link["rel"] == "processing-expression"]
    graph = writer.get(link["href"]).json()
    assert graph == job_description()["process"]["process_graph"]
    assert len(writer.get(item["links"][0]["href"]).content) < 16_000


def test_results_of_the_job_manager_are_taken_as_they_are(
    writer: TestClient, results: Path
) -> None:
    (results / "job.json").rename(results / "job_j-240621.json")
    answer = writer.post("/publish", json={"results": str(results)})
    assert answer.status_code == 201, answer.text


def test_same_job_again_changes_nothing(
    writer: TestClient, results: Path, settings: Settings
) -> None:
    writer.post("/publish", json={"results": str(results)})
    before, items = files(settings), writer.get("/search").json()["features"]
    again = writer.post("/publish", json={"results": str(results)})
    assert (again.status_code, again.headers["LAI-Publish-Outcome"]) == (
        200,
        "unchanged, unchanged",
    )
    assert files(settings) == before
    assert writer.get("/search").json()["features"] == items


def test_metadata_and_job_may_come_with_the_request(writer: TestClient, results: Path) -> None:
    (results / "job.json").unlink()
    body = {"results": str(results), "job": job_description(target="field"), "collection": "own"}
    answer = writer.post("/publish", json=body)
    assert answer.status_code == 201, answer.text
    assert {item["collection"] for item in answer.json()["features"]} == {"own"}
    assert {item["properties"]["laiq:target"] for item in answer.json()["features"]} == {"field"}


def test_bad_request_stores_nothing(
    writer: TestClient, results: Path, settings: Settings, subtests: pytest.Subtests
) -> None:
    for body, status in [
        ({"results": "/etc"}, 403),
        ({"results": "{root}/missing"}, 404),
        ({"results": "{root}/job/.."}, 422),
        ({"results": "{root}/job", "item": {}}, 400),
        ({"results": "{root}/job", "job": {}}, 422),
        ({"results": "{root}/job", "collection": "../x"}, 422),
        ({}, 400),
    ]:
        with subtests.test(body=body, status=status):
            root = settings.allowed_roots[0]
            filled = {k: v.format(root=root) if isinstance(v, str) else v for k, v in body.items()}
            filled = {
                k: v or job_description() | {"process": {}} if k == "job" else v
                for k, v in filled.items()
            }
            answer = writer.post("/publish", json=filled)
            assert answer.status_code == status, answer.text
            assert files(settings) == {}
            assert writer.get("/search").json()["features"] == []


def test_job_is_not_published_without_a_token(client: TestClient, results: Path) -> None:
    answer = client.post("/publish", json={"results": str(results)})
    assert answer.status_code == 401


def test_command_publishes_a_folder_of_results(live: str, results: Path) -> None:
    arguments = ["publish", str(results), "--url", live, "--token", TOKEN]
    first, second = CliRunner().invoke(app, arguments), CliRunner().invoke(app, arguments)
    assert first.exit_code == 0, first.output
    lines = first.stdout.splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"created: {live}/collections/lai/items/lai_s2_") for line in lines)
    assert [line.split(":")[0] for line in second.stdout.splitlines()] == ["unchanged"] * 2


TAGS = {
    "MODEL_ID": "sentinel2-lai-seamless",
    "MODEL_VERSION": "0.1.0",
    "MODEL_CHECKSUM": MODEL["assets"]["model"]["file:checksum"],
    "TARGET": "field",
    "SAMPLES": "8",
    "SEED": "5",
    "DATETIME": TIMES[0],
    "PLATFORM": "Sentinel-2A",
}


def write_cogs(folder: Path, rng: np.random.Generator, **tags: str) -> Path:
    layers = fake_layers(rng)
    cube = np.stack([layers[band] for band in OUTPUT_BANDS]).astype("float32")
    write_lai_cogs(UTM32.to_data_array(cube, OUTPUT_BANDS), folder, tags={**TAGS, **tags})
    return folder


def test_cogs_are_published_as_their_tags_state(
    writer: TestClient, settings: Settings, rng: np.random.Generator
) -> None:
    folder = write_cogs(settings.allowed_roots[0] / "cogs", rng)
    answer = writer.post("/publish", json={"cogs": str(folder)})
    assert answer.status_code == 201, answer.text
    item = writer.get(answer.headers["Location"]).json()
    properties = item["properties"]
    assert (properties["datetime"], properties["platform"]) == (TIMES[0], "sentinel-2a")
    settings_of_item = ("laiq:target", "unc:samples", "unc:random_seed")
    assert [properties[name] for name in settings_of_item] == ["field", 8, 5]
    assert "thumbnail" in item["assets"]
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        f"{band.lower()}.tif" for band in OUTPUT_BANDS
    )  # the folder given is only read
    again = writer.post("/publish", json={"cogs": str(folder)})
    assert again.headers["LAI-Publish-Outcome"] == "unchanged"


def test_a_line_has_one_region_one_set_of_own_points_and_one_plausibility(
    writer: TestClient, settings: Settings, rng: np.random.Generator
) -> None:
    kinds = [{}, {"REGION": "new"}, {"CALIBRATION": "ab12"}, {"PLAUSIBILITY": "off"}]
    for number, tags in enumerate(kinds):
        folder = write_cogs(settings.allowed_roots[0] / f"cogs{number}", rng, **tags)
        answer = writer.post("/publish", json={"cogs": str(folder)})
        assert answer.status_code == 201, answer.text
    place = answer.json()["geometry"]
    answer = writer.post("/timeseries", json={"geometry": place}).json()
    (row,) = answer["observations"]
    assert " " not in row["item"]
    names = ("region", "calibration", "plausibility")
    assert [answer["settings"][name] for name in names] == ["known", "", "auto"]
    others = {tuple(other[name] for name in names) for other in answer["others"]}
    assert others == {("new", "", "auto"), ("known", "ab12", "auto"), ("known", "", "off")}


def test_settings_of_a_job_stand_in_its_rasters(
    writer: TestClient, settings: Settings, results: Path
) -> None:
    job = job_description(region="new", level=0.95)
    (results / "job.json").write_text(json.dumps(job))
    answer = writer.post("/publish", json={"results": str(results)})
    assert answer.status_code == 201, answer.text
    (path, *_) = settings.data.glob("**/lai.tif")
    with rasterio.open(path) as raster:
        assert raster.tags()["REGION"] == "new"
        assert "LEVEL" not in raster.tags()


@pytest.mark.parametrize(
    ("tags", "spoil"),
    [
        ({"MODEL_CHECKSUM": "1220ff"}, None),
        ({"DATETIME": ""}, None),
        ({"TARGET": "both"}, None),
        ({}, "lai_sd.tif"),
        ({}, "lai.tif"),
    ],
    ids=["foreign model", "no time", "no target", "a VRT for a band", "a VRT for LAI"],
)
def test_cogs_whose_tags_lack_facts_or_name_other_files_are_refused(
    tags, spoil, writer: TestClient, settings: Settings, rng: np.random.Generator
) -> None:
    folder = write_cogs(settings.allowed_roots[0] / "cogs", rng, **tags)
    if spoil:
        (folder / spoil).write_text("<VRTDataset><SourceFilename>/etc/passwd</SourceFilename>")
    answer = writer.post("/publish", json={"cogs": str(folder)})
    assert answer.status_code == 422, answer.text
    assert files(settings) == {}


def test_command_publishes_a_folder_of_cogs(
    live: str, settings: Settings, rng: np.random.Generator
) -> None:
    folder = write_cogs(settings.allowed_roots[0] / "cogs", rng)
    done = CliRunner().invoke(app, ["publish", str(folder), "--url", live, "--token", TOKEN])
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith(f"created: {live}/collections/lai-field/items/lai_s2_")
