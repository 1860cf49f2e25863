"""What clients are offered, processes and formats; and results that are no cubes: as JSON."""

import functools
import logging
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from openeo_driver.specs import SPECS_ROOT
from openeo_processes_dask import specs

from lai_backend.errors import ParameterError, ResultError
from lai_backend.files import Json, read_json, write_json

_log = logging.getLogger(__name__)
PREFIX = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")
FORMATS = {"gtiff": "GTiff", "cog": "GTiff", "netcdf": "netCDF"}
VECTOR_FORMATS = {
    "json": "JSON",
    "geojson": "GeoJSON",
    "csv": "CSV",
    "parquet": "Parquet",
    "netcdf": "netCDF",
}
TITLES = {
    "GTiff": "Cloud Optimized GeoTIFF, one file per date",
    "netCDF": "netCDF, one variable per band",
    "JSON": "JSON, values by date, polygon and band",
    "GeoJSON": "GeoJSON, values as properties",
    "CSV": "CSV, a row per date and polygon",
    "Parquet": "GeoParquet, a row per date and polygon",
}
OWN_SPECS = {"apply_neighborhood", "load_collection", "resample_spatial", "run_udf", "save_result"}
OFFERED = Path(__file__).with_name("offered.json")
"""Names of the processes that passed the smoke test on a real cube (`tests/backend/smoke.py`)."""
FOLDERS = ("2.x", "2.x/proposals", "experimental")


@functools.cache
def known_specs() -> dict[str, dict[str, Any]]:
    """Return every openEO definition at hand, by identifier: what could be offered."""
    shipped = {
        spec["id"]: spec
        for spec in vars(specs).values()
        if isinstance(spec, dict) and "id" in spec and "parameters" in spec
    }
    for folder in reversed(FOLDERS):
        for path in sorted((SPECS_ROOT / "openeo-processes" / folder).glob("*.json")):
            if path.stem in OWN_SPECS or path.stem not in shipped:
                shipped[path.stem] = read_json(path)
    return shipped


@functools.cache
def process_specs() -> dict[str, dict[str, Any]]:
    """Return the openEO definition of every process offered, by identifier."""
    return {name: known_specs()[name] for name in read_json(OFFERED)}


def file_formats() -> dict[str, Any]:
    """Return the answer to `GET /file_formats`."""
    prefix = {"type": "string", "description": "Start of the file names.", "default": "openEO"}
    kinds = {"raster": FORMATS, "vector": VECTOR_FORMATS}
    return {
        "input": {
            name: {"title": f"{name}, for load_url", "gis_data_types": ["vector"], "parameters": {}}
            for name in ("GeoJSON", "Parquet")
        },
        "output": {
            name: {
                "title": title,
                "gis_data_types": [kind for kind, known in kinds.items() if name in known.values()],
                "parameters": {"filename_prefix": prefix},
            }
            for name, title in TITLES.items()
        },
    }


def check_format(name: str, *, vector: bool = False) -> str:
    """Return the proper spelling of a format name; `vector`: of polygons, or their values."""
    offered = VECTOR_FORMATS if vector else FORMATS
    if str(name).lower() not in offered:
        known = ", ".join(dict.fromkeys(offered.values()))
        kind = "values of polygons" if vector else "a cube"
        raise ParameterError(f"save_result cannot write {kind} as {name!r}; formats: {known}.")
    return offered[str(name).lower()]


def read_prefix(options: Mapping[str, Any]) -> str:
    """Return the start of the names of files, empty if not given; the log names other options."""
    if ignored := sorted(set(options) - {"filename_prefix"}):
        _log.info("Options of save_result without effect here: %s.", ", ".join(ignored))
    if "filename_prefix" not in options:
        return ""
    prefix = options["filename_prefix"]
    if not isinstance(prefix, str) or not PREFIX.match(prefix):
        raise ParameterError(f"filename_prefix {prefix!r} is not a plain file name.")
    return prefix


def write_value(value: object, folder: Path, *, truth: bool = False) -> list[dict[str, Any]]:
    """Write a value as JSON and describe the file.

    Args:
        value: scalar, array or nesting of them; NaN, infinity and NaT become null.
        folder: where the file goes; made if absent.
        truth: the value is true, false or null, which openeo-processes-dask writes as 1, 0, NaN.
    """
    plain = to_json(value)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        is_number = truth and isinstance(plain, int | float)
        write_json(folder / "result.json", bool(plain) if is_number else plain)
    except OSError as error:
        raise ResultError(f"Cannot write the result to {folder}: {error}.") from error
    return [{"name": "result.json", "type": "application/json"}]


def to_json(value: object) -> Json:
    """Return the JSON form of a value; a `ResultError` if it has none."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, dict):
        return {str(name): to_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, np.datetime64):
        return None if np.isnat(value) else f"{np.datetime_as_string(value, unit='s')}Z"
    if isinstance(value, np.generic):
        return to_json(value.item())
    if hasattr(value, "__array__"):
        array = np.asarray(value)
        return to_json(list(array) if array.ndim else array[()])
    raise ResultError(f"A result of type {type(value).__name__} cannot be written.")
