"""The file formats of results."""

from typing import Any

from lai_backend.errors import ParameterError

FORMATS = {"gtiff": "GTiff", "cog": "GTiff", "netcdf": "netCDF", "zarr": "Zarr"}


def file_formats() -> dict[str, Any]:
    """Return the answer to `GET /file_formats`."""
    prefix = {
        "filename_prefix": {
            "type": "string",
            "description": "Start of the file names.",
            "default": "openEO",
        }
    }
    raster = {"gis_data_types": ["raster"], "parameters": prefix}
    return {
        "input": {},
        "output": {
            "GTiff": {"title": "Cloud Optimized GeoTIFF, one file per date", **raster},
            "netCDF": {"title": "netCDF, one variable per band", **raster},
            "Zarr": {"title": "Zarr store in one zip file, one variable per band", **raster},
        },
    }


def check_format(name: str) -> str:
    """Return the proper spelling of a format name.

    Raises:
        ParameterError: the format is not offered.
    """
    if str(name).lower() not in FORMATS:
        raise ParameterError(f"save_result cannot write {name!r}; formats: GTiff, netCDF, Zarr.")
    return FORMATS[str(name).lower()]
