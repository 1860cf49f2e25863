"""What the tests ask a server for, with the unmodified openEO client."""

import time
from pathlib import Path

import numpy as np
import openeo
import rasterio
import xarray as xr

from backend.conftest import NORTH, STEP, WEST
from backend.udfs import px

BOX = {
    "west": WEST + 30 * STEP,
    "south": NORTH - 100 * STEP,
    "east": WEST + 100 * STEP,
    "north": NORTH - 40 * STEP,
    "crs": "EPSG:32633",
}
JUNE = ["2024-06-01", "2024-06-15"]


def load(connection: openeo.Connection, **options):
    return connection.load_collection("TINY", **{"bands": ["B04", "B08"], **options})


def around(cube, code: str, context: dict | None = None, size: int = 96, overlap: int = 16, **more):
    udf = openeo.UDF(code, runtime="Python", context=context)
    return cube.apply_neighborhood(process=udf, size=px(size), overlap=px(overlap), **more)


def download(cube, folder: Path) -> xr.DataArray:
    path = folder / "result.nc"
    cube.download(path, format="netCDF")
    with xr.open_dataset(path) as dataset:
        bands = [name for name in dataset.data_vars if name != "spatial_ref"]
        return dataset[bands].to_dataarray("bands").load()


def wait(job, seconds: float = 240) -> str:
    deadline = time.monotonic() + seconds
    while job.status() in {"created", "queued", "running"} and time.monotonic() < deadline:
        time.sleep(0.1)
    return job.status()


def run_job(cube, **options):
    job = cube.create_job(out_format="GTiff", **options)
    job.start()
    return job, wait(job)


def read_job_files(job, folder: Path) -> list[np.ndarray]:
    layers = []
    for path in sorted(job.get_results().download_files(folder, include_stac_metadata=False)):
        with rasterio.open(path) as dataset:
            layers.append(dataset.read())
    return layers
