"""Graphs that would give wrong numbers fail on the back-end, with one sentence in the log."""

import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openeo
import pytest
import xarray as xr
from openeo.rest import OpenEoApiError
from openeo.rest.job import BatchJob

from end_to_end.conftest import Backend
from lai_demo.steps import COLLECTION, SCENE_OFFSET, SCENE_SCALE
from lai_udf.predict import BANDS
from lai_udf.process_graph import lai_cube
from lai_udf.zonal import usable_pixels

SCALING = {"reflectance_scale": SCENE_SCALE}
PATIENCE_S = 120


def lai(backend: Backend, *, bands: list[str] | None = None, **settings: Any) -> openeo.DataCube:
    cube = backend.connection.load_collection(COLLECTION, bands=bands)
    return lai_cube(cube, size=96, **{"model": backend.model, **SCALING, **settings})


def without_a_band(backend: Backend) -> openeo.DataCube:
    # `lai_cube` would refuse it on the spot: take the band out of the finished graph.
    flat = lai(backend, bands=list(BANDS)).flat_graph()
    (load,) = (node for node in flat.values() if node["process_id"] == "load_collection")
    load["arguments"]["bands"].remove("B05")
    return backend.connection.datacube_from_flat_graph(flat)


def numbers_as_reflectance(backend: Backend) -> openeo.DataCube:
    return lai(backend, reflectance_scale=1.0, reflectance_offset=0.0)


def scaled_twice(backend: Backend) -> openeo.DataCube:
    return lai(backend, reflectance_scale=SCENE_SCALE**2, reflectance_offset=0.0)


def with_the_offset_twice(backend: Backend) -> openeo.DataCube:
    return lai(backend, reflectance_offset=SCENE_OFFSET)


def with_foreign_key(backend: Backend) -> openeo.DataCube:
    text = lai(backend).to_json().replace('"seed":', '"sede":')
    return backend.connection.datacube_from_json(text)


def with_damaged_bundle(backend: Backend) -> openeo.DataCube:
    return lai(backend, model=str(damage_bundle(Path(backend.model), backend.allowed / "bad.zip")))


def damage_bundle(good: Path, path: Path) -> Path:
    """Change one byte of the network and pack it again, so that only the checksum differs."""
    with zipfile.ZipFile(good) as before, zipfile.ZipFile(path, "w") as after:
        for name in before.namelist():
            content = bytearray(before.read(name))
            if name == "model.onnx":
                content[len(content) // 2] ^= 1
            after.writestr(name, bytes(content))
    return path


SENTENCES: dict[Callable[[Backend], openeo.DataCube], str] = {
    without_a_band: "band B05 missing",
    with_foreign_key: "unknown context key sede",
    with_damaged_bundle: "model.onnx fails its checksum",
}


@pytest.fixture(scope="module")
def jobs(backend: Backend) -> dict[str, BatchJob]:
    """Start every bad graph as a batch job, and wait for all."""
    started = {bad.__name__: bad(backend).create_job(out_format="GTiff") for bad in SENTENCES}
    for job in started.values():
        job.start()
    deadline = time.monotonic() + PATIENCE_S
    waiting = {"created", "queued", "running"}
    while time.monotonic() < deadline and any(job.status() in waiting for job in started.values()):
        time.sleep(0.3)
    return started


@pytest.mark.parametrize(
    ("bad", "sentence"), SENTENCES.items(), ids=[bad.__name__ for bad in SENTENCES]
)
def test_a_bad_graph_fails_its_job_with_one_sentence_and_no_file(jobs, bad, sentence):
    job = jobs[bad.__name__]
    assert job.status() == "error"
    messages = [entry["message"] for entry in job.logs(level="error")]
    assert len(messages) == 1, messages
    assert sentence in messages[0]
    assert "Traceback" not in messages[0]
    with pytest.raises(OpenEoApiError, match="JobNotFinished"):
        job.get_results().get_metadata()


@pytest.mark.parametrize(
    ("extent", "sentence"),
    [
        ({"west": 9.0, "south": 10.0, "east": 9.01, "north": 10.01}, "NoDataAvailable"),
        (
            {"west": 0, "south": 0, "east": 1, "north": 1, "crs": "EPSG:99999"},
            "not a coordinate reference system",
        ),
    ],
    ids=["empty", "foreign CRS"],
)
def test_an_extent_that_holds_nothing_answers_400_and_downloads_nothing(
    backend: Backend, tmp_path, extent, sentence
):
    cube = backend.connection.load_collection(COLLECTION, spatial_extent=extent)
    with pytest.raises(OpenEoApiError, match=sentence) as caught:
        lai_cube(cube, model=backend.model, **SCALING).download(tmp_path / "lai.nc")
    assert caught.value.http_status_code == 400
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("bad", "most"), [(numbers_as_reflectance, 0), (scaled_twice, 0), (with_the_offset_twice, 0.05)]
)
def test_wrong_scaling_leaves_hardly_a_usable_pixel(backend: Backend, tmp_path, bad, most):
    bad(backend).download(tmp_path / "lai.nc", format="netCDF")
    with xr.open_dataset(tmp_path / "lai.nc") as result:
        usable = usable_pixels(result["LAI"].values, result["LAI_FLAGS"].values)
    assert usable.mean() <= most
