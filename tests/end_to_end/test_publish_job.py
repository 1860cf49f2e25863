"""A batch job of our back-end is downloaded, published and found, with nothing typed by hand."""

from pathlib import Path

import numpy as np
import pystac
import pytest
from fastapi.testclient import TestClient

from end_to_end.conftest import Backend
from lai_demo.steps import COLLECTION, SCENE_SCALE
from lai_service import Settings, create_app
from lai_service.ops.client import download_job
from lai_stac.validation import validate_item
from lai_udf.bundle import open_bundle
from lai_udf.process_graph import lai_cube
from lai_udf.results import read_lai_cogs, read_lai_geotiff
from lai_udf.zonal import usable_pixels

# rioxarray multiplies affine transforms with `*`
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

TOKEN = "a token of this test"
DRAWS = 2


@pytest.fixture(scope="module")
def results(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run a job with two draws over the scene and download what it left."""
    cube = backend.connection.load_collection(COLLECTION)
    scaling = {"reflectance_scale": SCENE_SCALE}
    lai = lai_cube(cube, model=backend.model, size=96, samples=DRAWS, seed=7, **scaling)
    job = lai.create_job(out_format="GTiff", title="LAI to be published")
    job.start_and_wait(print=lambda line: None, max_poll_interval=1)
    return download_job(job, tmp_path_factory.mktemp("results") / "job")


@pytest.fixture(scope="module")
def service(results: Path, tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    settings = Settings(
        data=tmp_path_factory.mktemp("service") / "data",
        allowed_roots=(results.parent,),
        token=TOKEN,
    )
    client = TestClient(create_app(settings))
    client.headers["Authorization"] = f"Bearer {TOKEN}"
    return client


@pytest.fixture(scope="module")
def item(service: TestClient, results: Path) -> pystac.Item:
    answer = service.post("/publish", json={"results": str(results)})
    assert answer.status_code == 201, answer.text
    (published,) = answer.json()["features"]
    return pystac.Item.from_dict(published)


def test_item_contains_the_settings_of_the_graph_and_the_job(
    item: pystac.Item, service: TestClient
) -> None:
    bundle = open_bundle()
    properties = item.properties
    assert properties["unc:samples"] == DRAWS
    assert properties["unc:random_seed"] == 7
    assert properties["laiq:target"] == "sl2p"
    assert properties["laiq:model_version"] == bundle.version
    assert properties["laiq:model_checksum"] == bundle.checksum
    (link,) = item.get_links("processing-expression")
    graph = service.get(link.get_target_str()).json()
    assert "apply_neighborhood" in {node["process_id"] for node in graph.values()}
    assert properties["datetime"] == "2020-06-08T00:00:00Z"  # openEO labels dates by the day


def test_published_rasters_hold_what_the_job_computed(
    item: pystac.Item, results: Path, service: TestClient, tmp_path: Path
) -> None:
    for key in ("lai", "lai_sd", "lai_lower", "lai_upper", "lai_flags"):
        (tmp_path / f"{key}.tif").write_bytes(service.get(item.assets[key].href).content)
    published = read_lai_cogs(tmp_path)
    (raster,) = results.rglob("*.tif")
    computed = read_lai_geotiff(raster)
    for band in computed.bands.values:
        one, other = published.sel(bands=band).values, computed.sel(bands=band).values
        np.testing.assert_array_equal(np.isnan(one), np.isnan(other))
        assert np.nanmax(np.abs(one - other)) <= 0.0005 + 1e-6
    lai = computed.sel(bands="LAI").values
    usable = usable_pixels(lai, computed.sel(bands="LAI_FLAGS").values)
    mean = float(np.mean(lai[usable], dtype="float64"))
    assert item.properties["laiq:lai_mean"] == pytest.approx(mean, abs=1e-3)


def test_item_is_valid_and_found_by_place_time_and_field(
    item: pystac.Item, service: TestClient
) -> None:
    published = service.get(f"/collections/lai/items/{item.id}").json()
    validate_item(published)
    asked = {
        "bbox": ",".join(map(str, item.bbox or [])),
        "datetime": item.properties["datetime"],
        "filter": f'"laiq:lai_mean" > {item.properties["laiq:lai_mean"] - 0.01}',
    }
    (found,) = service.get("/search", params=asked).json()["features"]
    assert found["id"] == item.id


def test_publishing_the_job_again_changes_nothing(
    item: pystac.Item, service: TestClient, results: Path
) -> None:
    answer = service.post("/publish", json={"results": str(results)})
    assert (answer.status_code, answer.headers["LAI-Publish-Outcome"]) == (200, "unchanged")
