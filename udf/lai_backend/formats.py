"""The file formats of results."""

import logging
import re
from collections.abc import Mapping
from typing import Any

from lai_backend.errors import ParameterError

_log = logging.getLogger(__name__)
USED_OPTIONS = frozenset({"filename_prefix"})
"""Format options that have an effect here; the others of the cloud back-ends are ignored."""
PREFIX = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")
FORMATS = {"gtiff": "GTiff", "cog": "GTiff", "netcdf": "netCDF", "zarr": "Zarr"}
VECTOR_FORMATS = {
    "json": "JSON",
    "geojson": "GeoJSON",
    "csv": "CSV",
    "parquet": "Parquet",
    "netcdf": "netCDF",
}
VECTOR_TITLES = {
    "JSON": "JSON, values by date, polygon and band",
    "GeoJSON": "GeoJSON, values as properties",
    "CSV": "CSV, a row per date and polygon",
    "Parquet": "GeoParquet, a row per date and polygon",
}


def file_formats() -> dict[str, Any]:
    """Return the answer to `GET /file_formats`."""
    prefix = {
        "filename_prefix": {
            "type": "string",
            "description": "Start of the file names.",
            "default": "openEO",
        }
    }
    vector = {"gis_data_types": ["vector"], "parameters": prefix}
    raster = {"gis_data_types": ["raster"], "parameters": prefix}
    return {
        "input": {},
        "output": {
            "GTiff": {"title": "Cloud Optimized GeoTIFF, one file per date", **raster},
            "netCDF": {
                "title": "netCDF, one variable per band",
                "gis_data_types": ["raster", "vector"],
                "parameters": prefix,
            },
            "Zarr": {"title": "Zarr store in one zip file, one variable per band", **raster},
            **{name: {"title": title, **vector} for name, title in VECTOR_TITLES.items()},
        },
    }


def check_format(name: str, *, vector: bool = False) -> str:
    """Return the proper spelling of a format name.

    Args:
        name: what the client wrote.
        vector: the result is polygons, or values of polygons.

    Raises:
        ParameterError: the format is not offered.
    """
    offered = VECTOR_FORMATS if vector else FORMATS
    if str(name).lower() not in offered:
        known = ", ".join(dict.fromkeys(offered.values()))
        kind = "values of polygons" if vector else "a cube"
        raise ParameterError(f"save_result cannot write {kind} as {name!r}; formats: {known}.")
    return offered[str(name).lower()]


def check_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the format options that have an effect; the log names the others.

    Raises:
        ParameterError: a prefix that is no plain file name.
    """
    ignored = sorted(set(options) - USED_OPTIONS)
    if ignored:
        _log.info("Options of save_result without effect here: %s.", ", ".join(ignored))
    prefix = options.get("filename_prefix", "openEO")
    if not isinstance(prefix, str) or not PREFIX.match(prefix):
        raise ParameterError(f"filename_prefix {prefix!r} is not a plain file name.")
    return {name: value for name, value in options.items() if name in USED_OPTIONS}
