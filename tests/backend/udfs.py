"""Texts of UDFs for the tests."""

HEADER = """
import numpy as np
import xarray

"""

IDENTITY = (
    HEADER
    + """
def apply_datacube(cube: xarray.DataArray, context: dict) -> xarray.DataArray:
    return cube
"""
)

BOX_MEAN = (
    HEADER
    + """
def apply_datacube(cube: xarray.DataArray, context: dict) -> xarray.DataArray:
    pad = [(0, 0)] * (cube.ndim - 2) + [(1, 1), (1, 1)]
    padded = np.pad(cube.values, pad, constant_values=np.nan)
    height, width = cube.shape[-2:]
    shifted = [padded[..., y : y + height, x : x + width] for y in range(3) for x in range(3)]
    return cube.copy(data=np.mean(shifted, axis=0))
"""
)

CHUNK_SHAPE = (
    HEADER
    + """
def apply_datacube(cube: xarray.DataArray, context: dict) -> xarray.DataArray:
    return xarray.full_like(cube, cube.sizes["y"] * 1000 + cube.sizes["x"])
"""
)

DIMENSIONS = (
    HEADER
    + """
def apply_datacube(cube: xarray.DataArray, context: dict) -> xarray.DataArray:
    day = np.datetime64(cube.attrs["t"], "D").astype(int) if "t" in cube.attrs else 0
    return xarray.full_like(cube, cube.ndim * 100_000 + day)
"""
)

NAN_COUNT = (
    HEADER
    + """
def apply_datacube(cube: xarray.DataArray, context: dict) -> xarray.DataArray:
    return xarray.full_like(cube, int(np.isnan(cube.values[0, 0]).sum()))
"""
)

DIRTY_OVERLAP = (
    HEADER
    + """
def apply_datacube(cube: xarray.DataArray, context: dict) -> xarray.DataArray:
    values = cube.values.copy()
    inner = values[..., 16:-16, 16:-16].copy()
    values[:] = -1
    values[..., 16:-16, 16:-16] = inner
    return cube.copy(data=values)
"""
)

TWO_BANDS = (
    HEADER
    + """
from openeo.metadata import CollectionMetadata


def apply_metadata(metadata: CollectionMetadata, context: dict) -> CollectionMetadata:
    return metadata.rename_labels(dimension="bands", target=["SUM", "COUNT"])


def apply_datacube(cube: xarray.DataArray, context: dict) -> xarray.DataArray:
    both = xarray.concat([cube.sum("bands"), cube.notnull().sum("bands")], dim="bands")
    return both.transpose(*cube.dims)
"""
)

CONTEXT_VALUE = (
    HEADER
    + """
def apply_datacube(cube: xarray.DataArray, context: dict) -> xarray.DataArray:
    return xarray.full_like(cube, context["value"])
"""
)

DATE_COUNT = (
    HEADER
    + """
def apply_datacube(cube: xarray.DataArray, context: dict) -> xarray.DataArray:
    assert cube["x"].dtype == np.float32
    return xarray.full_like(cube, cube.sizes["t"])
"""
)

MEAN_OVER_T = (
    HEADER
    + """
def apply_datacube(cube: xarray.DataArray, context: dict) -> xarray.DataArray:
    return cube.mean("t", skipna=False)
"""
)

RAISES = (
    HEADER
    + """
def apply_datacube(cube: xarray.DataArray, context: dict) -> xarray.DataArray:
    raise ValueError("Band B12 is missing; pass it to the UDF.")
"""
)

CROPS = (
    HEADER
    + """
def apply_datacube(cube: xarray.DataArray, context: dict) -> xarray.DataArray:
    return cube[..., 16:-16, 16:-16]
"""
)

RETURNS_NONE = (
    HEADER
    + """
def apply_datacube(cube: xarray.DataArray, context: dict) -> xarray.DataArray:
    return None
"""
)

LATE_ANNOTATIONS = "from __future__ import annotations\n" + IDENTITY

READS_ARCHIVE = (
    HEADER
    + """
import functools
from pathlib import Path


@functools.cache
def load_model(path):
    return float(Path(path, "value.txt").read_text())


def apply_datacube(cube: xarray.DataArray, context: dict) -> xarray.DataArray:
    return xarray.full_like(cube, load_model(context["model"]))
"""
)

SLEEPS = (
    HEADER
    + """
import time


def apply_datacube(cube: xarray.DataArray, context: dict) -> xarray.DataArray:
    time.sleep(context.get("seconds", 120))
    return cube
"""
)

WAITS = (
    HEADER
    + """
import time
from pathlib import Path


def apply_datacube(cube: xarray.DataArray, context: dict) -> xarray.DataArray:
    while not Path(context["flag"]).exists():
        time.sleep(0.05)
    value = Path(context["model"], "value.txt")
    return xarray.full_like(cube, float(value.read_text()) if value.exists() else 0)
"""
)

KILLS_ITSELF = (
    HEADER
    + """
import os
import signal


def apply_datacube(cube: xarray.DataArray, context: dict) -> xarray.DataArray:
    os.kill(os.getpid(), signal.SIGKILL)
"""
)

COUNTS_LOADS = (
    HEADER
    + """
import functools
import time

LOADS = []


@functools.cache
def load_model():
    time.sleep(0.3)
    LOADS.append(1)


def apply_datacube(cube: xarray.DataArray, context: dict) -> xarray.DataArray:
    load_model()
    return xarray.full_like(cube, len(LOADS))
"""
)

EATS_MEMORY = (
    HEADER
    + """
def apply_datacube(cube: xarray.DataArray, context: dict) -> xarray.DataArray:
    everything = [np.ones(50_000_000) for _ in range(1000)]
    return cube + len(everything)
"""
)


RETURNS_PROCESS_ID = (
    HEADER
    + """
import os


def apply_datacube(cube: xarray.DataArray, context: dict) -> xarray.DataArray:
    return xarray.full_like(cube, os.getpid())
"""
)


def px(size: int) -> list[dict[str, object]]:
    return [{"dimension": axis, "value": size, "unit": "px"} for axis in ("x", "y")]
