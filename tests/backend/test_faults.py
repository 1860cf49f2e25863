"""Faults of users' code, of the machine and of the data: each ends in a sentence, none in a hang."""

import json
import re
import time

import numpy as np
import openeo
import pytest
import rasterio
import xarray as xr
from openeo.rest import OpenEoApiError

from backend import udfs
from backend.conftest import write_collection
from backend.udfs import px


def load(connection, **options):
    return connection.load_collection("TINY", **{"bands": ["B04", "B08"], **options})


def around(cube, code: str, context: dict | None = None):
    udf = openeo.UDF(code, runtime="Python", context=context)
    return cube.apply_neighborhood(process=udf, size=px(96), overlap=px(16))


def finish(job, seconds: float = 60) -> str:
    """Wait for a job; return its errors, or its status if it has none."""
    deadline = time.monotonic() + seconds
    while job.status() in {"created", "queued", "running"}:
        assert time.monotonic() < deadline, "the job is stuck"
        time.sleep(0.1)
    errors = " ".join(entry["message"] for entry in job.logs(level="error"))
    return errors or job.status()


def run(cube, form: str = "GTiff", **options) -> str:
    job = cube.create_job(out_format=form, **options)
    job.start()
    return finish(job)


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (udfs.RETURNS_NONE, "DataArray"),
        (udfs.CROPS, "Return the whole window including the overlap"),
        (udfs.KILLS_ITSELF, "It was killed"),
        (udfs.EATS_MEMORY, r"used more than the 1\.0 GiB it may have"),
    ],
)
def test_a_broken_udf_fails_the_job_with_a_sentence(connection, code, sentence):
    options = {"job_options": {"python-memory": "1g"}}
    found = run(around(load(connection), code), **options)
    assert re.search(sentence, found), found


@pytest.mark.parametrize("form", ["GTiff", "netCDF", "Zarr"])
@pytest.mark.parametrize("size", [0, 30_000, 100_000])
def test_a_full_disk_fails_the_job_and_leaves_nothing(connection, server, form, size):
    cube = around(load(connection), udfs.FILLS_THE_DISK, {"bytes": size})
    job = cube.create_job(out_format=form)
    job.start()
    assert "disk full" in finish(job) or "Cannot write the result" in finish(job)
    results = server.data / "jobs" / job.job_id / "results"
    assert list(results.iterdir()) == []
    with pytest.raises(OpenEoApiError, match="JobNotFinished"):
        job.get_results().get_metadata()
