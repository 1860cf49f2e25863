"""`save_result`: a lazy cube -> files, and what STAC says about them.

GTiff: one COG per date (`cogs`); netCDF and Zarr: one file (`stores`). Files appear whole or not at
all.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from odc.geo.geom import BoundingBox
from rasterio.errors import RasterioError

from lai_backend.cogs import StoreBlocks, write_cogs
from lai_backend.errors import LaiBackendError, ParameterError, ResultError
from lai_backend.georeference import georeference, transform_of
from lai_backend.sources import Scene
from lai_backend.stores import write_netcdf, write_zarr

GTIFF_TYPE = "image/tiff; application=geotiff; profile=cloud-optimized"
NETCDF_TYPE = "application/x-netcdf"
ZARR_TYPE = "application/vnd.zarr+zip"
UNNAMED_BAND = "var"
"""Name of the one band of a cube without bands, as the cloud back-ends have it."""
PRODUCT_FIELD = "s2:product_uri"
"""Where STAC items of Sentinel-2 tell the name of their product, that holds time and tile."""
OPTIONS = frozenset({"filename_prefix"})
PREFIX = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")


@dataclass(frozen=True)
class SavedResult:
    """A cube and how it shall be written; what a process graph ends in."""

    cube: xr.DataArray
    """Lazy cube with y and x; t and bands optional."""
    format: str
    """`GTiff`, `netCDF` or `Zarr`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Format options of the client."""


def write_result(
    result: SavedResult, folder: Path, single_file: bool, store: StoreBlocks
) -> list[dict[str, Any]]:
    """Write a result and describe its files.

    Args:
        result: cube and format.
        folder: where the files go; made if absent.
        single_file: a synchronous request, which can carry one file only.
        store: computes the cube.

    Returns:
        One dictionary per file: `name`, `type`, `bands`, `datetime` or `start_datetime` and
        `end_datetime`, `bbox`, `geometry`, `proj:epsg`, `proj:shape`, `proj:bbox`.

    Raises:
        ParameterError: unknown options, or several dates where one file is needed.
        ResultError: the disk is full or not writable.
    """
    prefix = _check_options(result.options)
    cube = _normalise(result.cube, dated=result.format == "GTiff")
    folder.mkdir(parents=True, exist_ok=True)
    if result.format == "GTiff" and single_file and cube.sizes["t"] > 1:
        raise ParameterError(
            f"The result has {cube.sizes['t']} dates, a synchronous GTiff request carries "
            "one: use netCDF, reduce t, or run a batch job."
        )
    try:
        return _write(cube, result.format, folder, prefix, store)
    except LaiBackendError:
        raise
    except (OSError, RasterioError) as error:
        raise ResultError(f"Cannot write the result to {folder}: {error}.") from error
    except RuntimeError as error:
        if "NetCDF" not in str(error):
            raise
        raise ResultError(f"Cannot write the result to {folder}: {error}.") from error


def derived_from(scenes: Sequence[Scene]) -> list[dict[str, Any]]:
    """Return STAC links to the items that a result was made from, each once.

    Args:
        scenes: what was loaded; those whose place nobody knows are left out.
    """
    return list(
        {
            scene.href: {
                "rel": "derived_from",
                "href": scene.href,
                "type": "application/geo+json",
                "title": str(scene.properties.get(PRODUCT_FIELD) or scene.id),
            }
            for scene in scenes
            if scene.href
        }.values()
    )


def _read_dates(labels: npt.NDArray[Any], *, dated: bool) -> npt.NDArray[Any]:
    """Return labels of t, which processes may have made texts, as dates, or else as texts.

    Raises:
        ParameterError: they are no dates, and must be.
    """
    if np.issubdtype(labels.dtype, np.datetime64):
        return labels
    try:
        dates = pd.to_datetime(pd.Series(labels.astype(str)), utc=True, format="ISO8601")
    except ValueError as error:
        if not dated:
            return labels.astype(str)
        raise ParameterError(
            f"The labels of t are no dates and cannot be written as GTiff: {labels.tolist()}."
        ) from error
    return np.asarray(dates.dt.tz_localize(None).values, "datetime64[ns]")


def _write(
    cube: xr.DataArray, form: str, folder: Path, prefix: str, store: StoreBlocks
) -> list[dict[str, Any]]:
    dates = cube["t"].values
    if form == "netCDF":
        name, media_type = f"{prefix}.nc", NETCDF_TYPE
        write_netcdf(cube, folder / name, store)
    elif form == "Zarr":
        name, media_type = f"{prefix}.zarr.zip", ZARR_TYPE
        write_zarr(cube, folder / name, store)
    else:
        names = [f"{prefix}{_name_moment(date)}.tif" for date in dates]
        if len(set(names)) < len(names):
            raise ParameterError(f"Labels of t repeat; one GeoTIFF each needs others: {names}.")
        write_cogs(cube, [folder / name for name in names], store)
        return [
            {"name": name, "type": GTIFF_TYPE, **_describe(cube, [date])}
            for name, date in zip(names, dates, strict=True)
        ]
    return [{"name": name, "type": media_type, **_describe(cube, dates)}]


def _name_moment(date: np.datetime64) -> str:
    """Return the part of a file name that tells a date, as the cloud back-ends have it."""
    if np.isnat(date):
        return ""
    moment = pd.Timestamp(date)
    return f"_{moment:%Y-%m-%dZ}" if moment == moment.normalize() else f"_{moment:%Y%m%dT%H%M%SZ}"


def _check_options(options: Mapping[str, Any]) -> str:
    unknown = set(options) - OPTIONS
    if unknown:
        raise ParameterError(
            f"save_result does not know the option {', '.join(sorted(unknown))}; "
            f"it knows {', '.join(sorted(OPTIONS))}."
        )
    prefix = options.get("filename_prefix", "openEO")
    if not isinstance(prefix, str) or not PREFIX.match(prefix):
        raise ParameterError(f"filename_prefix {prefix!r} is not a plain file name.")
    return prefix


def _normalise(cube: xr.DataArray, *, dated: bool) -> xr.DataArray:
    """Bring a cube to (t, bands, y, x), float32; a missing t has the label NaT.

    Args:
        cube: what the process graph gave.
        dated: whether the labels of t must be dates, as in names of files; else texts may stay.
    """
    for axis in ("y", "x"):
        if axis not in cube.dims:
            raise ParameterError(f"save_result needs a raster cube; this one has {cube.dims}.")
    if cube.rio.crs is None:
        raise ParameterError("save_result needs a cube with a coordinate reference system.")
    crs, transform = cube.rio.crs, transform_of(cube)
    if "t" not in cube.dims:
        cube = cube.drop_vars("t", errors="ignore").expand_dims(t=[np.datetime64("NaT", "ns")])
    if "bands" not in cube.dims:
        cube = cube.drop_vars("bands", errors="ignore").expand_dims(bands=[UNNAMED_BAND])
    kept = {"t", "bands", "y", "x"}
    cube = cube.drop_vars([name for name in cube.coords if name not in kept])
    ordered = cube.transpose("t", "bands", "y", "x").astype(np.float32)
    ordered = ordered.assign_coords(bands=[str(name) for name in ordered["bands"].values])
    ordered = ordered.assign_coords(t=_read_dates(ordered["t"].values, dated=dated))
    return georeference(ordered.drop_attrs().rename(None), crs, transform)


def _describe(cube: xr.DataArray, dates: Sequence[Any] | npt.NDArray[Any]) -> dict[str, Any]:
    west, south, east, north = cube.rio.bounds(recalc=True)
    footprint = BoundingBox(west, south, east, north, crs=str(cube.rio.crs)).polygon.to_crs(
        "EPSG:4326"
    )
    description: dict[str, Any] = {
        "bands": [{"name": name} for name in cube["bands"].values.tolist()],
        "bbox": list(footprint.boundingbox.bbox),
        "geometry": footprint.json,
        "proj:epsg": cube.rio.crs.to_epsg(),
        "proj:shape": [cube.sizes["y"], cube.sizes["x"]],
        "proj:bbox": [west, south, east, north],
    }
    moments = [date for date in dates if isinstance(date, np.datetime64) and not np.isnat(date)]
    known = sorted(pd.Timestamp(date) for date in moments)
    if len(known) == 1:
        description["datetime"] = f"{known[0]:%Y-%m-%dT%H:%M:%SZ}"
    elif known:
        description["start_datetime"] = f"{known[0]:%Y-%m-%dT%H:%M:%SZ}"
        description["end_datetime"] = f"{known[-1]:%Y-%m-%dT%H:%M:%SZ}"
    return description
