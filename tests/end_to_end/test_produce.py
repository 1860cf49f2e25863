"""Areas become a searchable catalogue by two commands, over the local back-end."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import requests
from rasterio.warp import transform_bounds

from end_to_end.conftest import Backend, DemoRun
from lai_demo.servers import starting
from lai_demo.steps import COLLECTION
from lai_udf.results import read_lai_geotiff

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),
]
TOKEN = "a token of this test"


def run(script: str, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | variables
    line = [str(part) for part in (Path(sys.executable).with_name(script), *arguments)]
    return subprocess.run(
        line, capture_output=True, text=True, env=environment, timeout=600, check=False
    )


@pytest.fixture(scope="module")
def areas(demo_run: DemoRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write two overlapping fields in the middle of the scene."""
    with rasterio.open(demo_run.job_raster) as dataset:
        west, south, east, north = transform_bounds(dataset.crs, 4326, *dataset.bounds)
    features = []
    for number, (low, high) in enumerate(((0.35, 0.55), (0.45, 0.65))):
        x = [west + share * (east - west) for share in (low, high)]
        y = [south + share * (north - south) for share in (low, high)]
        ring = [[x[0], y[0]], [x[1], y[0]], [x[1], y[1]], [x[0], y[1]], [x[0], y[0]]]
        geometry = {"type": "Polygon", "coordinates": [ring]}
        features.append(
            {"type": "Feature", "properties": {"id": f"field {number}"}, "geometry": geometry}
        )
    path = tmp_path_factory.mktemp("areas") / "areas.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


@pytest.fixture(scope="module")
def produced(
    areas: Path, backend: Backend, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """Run `lai-udf produce` over the local back-end; return its folder and what it printed."""
    out = tmp_path_factory.mktemp("produced") / "out"
    url = backend.connection.root_url
    command: list[object] = ["produce", areas, out]
    command += ["--from", "2020-06-01", "--to", "2020-07-01", "--backend", url, "--user", "lai"]
    command += ["--collection", COLLECTION, "--poll", "0.5"]
    done = run("lai-udf", *command, LAI_UDF_PASSWORD="secret words")
    assert done.returncode == 0, done.stdout + done.stderr
    again = run("lai-udf", *command, LAI_UDF_PASSWORD="secret words")
    assert again.returncode == 0, again.stdout + again.stderr
    return out, done.stdout


def test_overlapping_areas_are_one_job_and_a_second_run_adds_none(
    produced: tuple[Path, str], backend: Backend
) -> None:
    out, printed = produced
    assert printed.split()[-1] == str(out / "jobs.parquet")
    (folder,) = (path for path in out.iterdir() if path.is_dir())
    titles = [job["title"] for job in backend.connection.list_jobs()]
    assert titles.count(folder.name) == 1


def test_the_job_computes_lai_of_the_scene(produced: tuple[Path, str], demo_run: DemoRun) -> None:
    (raster,) = produced[0].rglob("*.tif")
    part, whole = read_lai_geotiff(raster), read_lai_geotiff(demo_run.job_raster)
    same = whole.sel(y=part["y"], x=part["x"], method="nearest", tolerance=1)
    one, other = (cube.sel(bands="LAI").values for cube in (part, same))
    np.testing.assert_allclose(one, other, atol=1e-4)


def test_the_second_command_makes_a_searchable_catalogue(
    produced: tuple[Path, str], tmp_path: Path
) -> None:
    serve = ["lai-service", "serve", f"--data={tmp_path / 'data'}"]
    serve += [f"--allow={produced[0]}"]
    token = {"LAI_SERVICE_TOKEN": TOKEN}
    log = tmp_path / "log"
    with starting(serve, ready="/_mgmt/ping", log=log, environment=token) as wait:
        url = wait()
        jobs = produced[0] / "jobs.parquet"
        done = run("lai-service", "publish", "--jobs", jobs, "--url", url, **token)
        assert done.returncode == 0, done.stdout + done.stderr
        found = requests.get(f"{url}/search", timeout=60).json()["features"]
    assert len(found) == 1
    assert found[0]["properties"]["laiq:lai_mean"] > 0
