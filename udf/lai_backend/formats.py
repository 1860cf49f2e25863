"""The file formats of results, and results that are no cubes: numbers, texts, lists -> JSON."""

import logging
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lai_backend.errors import ParameterError, ResultError
from lai_backend.files import Json, write_json

_log = logging.getLogger(__name__)
USED_OPTIONS = frozenset({"filename_prefix"})
"""Format options that have an effect here; the others of the cloud back-ends are ignored."""
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


def file_formats() -> dict[str, Any]:
    """Return the answer to `GET /file_formats`."""
    prefix = {"type": "string", "description": "Start of the file names.", "default": "openEO"}
    kinds = {"raster": FORMATS, "vector": VECTOR_FORMATS}
    return {
        "input": {},
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


def check_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the format options that have an effect; the log names the others."""
    ignored = sorted(set(options) - USED_OPTIONS)
    if ignored:
        _log.info("Options of save_result without effect here: %s.", ", ".join(ignored))
    prefix = options.get("filename_prefix", "openEO")
    if not isinstance(prefix, str) or not PREFIX.match(prefix):
        raise ParameterError(f"filename_prefix {prefix!r} is not a plain file name.")
    return {name: value for name, value in options.items() if name in USED_OPTIONS}


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
