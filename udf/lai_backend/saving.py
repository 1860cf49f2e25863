"""`save_result`: a lazy cube -> files, and their STAC metadata.

GTiff: one COG per date; netCDF: one file. Files appear whole or not at all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from odc.geo.geom import BoundingBox
from openeo_driver.datacube import DriverVectorCube
from rasterio.errors import RasterioError

from lai_backend.errors import GraphError, NoDataError, ParameterError, ResultError
from lai_backend.extents import stac_footprint
from lai_backend.files import Json
from lai_backend.formats import check_format, read_prefix
from lai_backend.grids import georeference, transform_of
from lai_backend.rasters import write_cogs, write_netcdf
from lai_backend.sources import Scene
from lai_backend.vectors import ZonalValues, write_vectors

GTIFF_TYPE = "image/tiff; application=geotiff; profile=cloud-optimized"
NETCDF_TYPE = "application/x-netcdf"
UNNAMED_BAND = "var"  # name of the one band of a cube without bands, as the cloud back-ends have it
PRODUCT_FIELD = "s2:product_uri"
"""Where STAC items of Sentinel-2 give the name of their product, that holds time and tile."""


@dataclass(frozen=True)
class SavedResult:
    """What a process graph ends in, and how it shall be written."""

    data: xr.DataArray | DriverVectorCube | ZonalValues
    """A lazy cube with y and x, t and bands optional; polygons; or values of polygons."""
    format: str  # as `formats.check_format` returns it
    options: Mapping[str, Any] = field(default_factory=dict)  # format options of the client


def save_result(
    data: Json, format: str = "GTiff", options: dict[str, Any] | None = None
) -> SavedResult:
    """Record how a result is written; the worker writes it."""
    if not isinstance(data, xr.DataArray | DriverVectorCube | ZonalValues):
        raise GraphError(f"save_result cannot write {type(data).__name__}.")
    form = check_format(format, vector=not isinstance(data, xr.DataArray))
    return SavedResult(data, form, dict(options or {}))


def as_saved(result: Json) -> list[SavedResult]:
    """Return what a graph ends in as results to write, none if it is a plain value.

    A graph without `save_result` gives cubes as GTiff, polygons as GeoJSON, their values as JSON.
    """
    if isinstance(result, SavedResult):
        return [result]
    if isinstance(result, xr.DataArray | DriverVectorCube | ZonalValues):
        default = {ZonalValues: "JSON", DriverVectorCube: "GeoJSON"}.get(type(result), "GTiff")
        return [save_result(result, default)]
    many = isinstance(result, list) and any(map(as_saved, result))
    return [saved for one in result for saved in as_saved(one)] if many else []


def write_results(
    results: Sequence[SavedResult], folder: Path, single_file: bool
) -> list[dict[str, Any]]:
    """Write all results of a graph and describe their files; see `write_result`."""
    if single_file and len(results) > 1:
        raise ParameterError(
            f"The graph has {len(results)} save_result, a synchronous request carries one file: "
            "run a batch job."
        )
    assets: list[dict[str, Any]] = []
    for result in results:
        part = folder / f".part{len(assets)}"
        described = write_result(result, part, single_file)
        taken = {asset["name"] for asset in assets} & {asset["name"] for asset in described}
        if taken:
            raise ParameterError(
                f"Two save_result would write {', '.join(sorted(taken))}: give each a "
                "filename_prefix."
            )
        for asset in described:
            (part / asset["name"]).rename(folder / asset["name"])
        part.rmdir()
        assets += described
    return assets


def write_result(result: SavedResult, folder: Path, single_file: bool) -> list[dict[str, Any]]:
    """Write a result and describe its files.

    Args:
        result: cube or polygons, and format.
        folder: where the files go; made if absent.
        single_file: a synchronous request, which can carry one file only.

    Returns:
        One dictionary per file: `name`, `type`, `bands`, `datetime` or `start_datetime` and
        `end_datetime`, `bbox`, `geometry`, `proj:epsg`, `proj:shape`, `proj:bbox`.
    """
    prefix = read_prefix(result.options)
    folder.mkdir(parents=True, exist_ok=True)
    if not isinstance(result.data, xr.DataArray):
        return write_vectors(result.data, result.format, folder, prefix and f"{prefix}_")
    cube = _normalise(result.data, dated=result.format == "GTiff")
    if result.format == "GTiff" and single_file and cube.sizes["t"] > 1:
        raise ParameterError(
            f"The result has {cube.sizes['t']} dates, a synchronous GTiff request carries "
            "one: use netCDF, reduce t, or run a batch job."
        )
    try:
        return _write(cube, result.format, folder, prefix or "openEO")
    except (OSError, RasterioError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "NetCDF" not in str(error):
            raise
        raise ResultError(f"Cannot write the result to {folder}: {error}.") from error


def derived_from(scenes: Sequence[Scene]) -> list[dict[str, Any]]:
    """Return STAC links to the items that a result was made from, each once, where known."""
    links = {
        scene.href: {
            "rel": "derived_from",
            "href": scene.href,
            "type": "application/geo+json",
            "title": str(scene.properties.get(PRODUCT_FIELD) or scene.id),
        }
        for scene in scenes
        if scene.href
    }
    return list(links.values())


def _read_dates(labels: npt.NDArray[Any], *, dated: bool) -> npt.NDArray[Any]:
    """Return labels of t, which processes may have made texts, as dates; else, or refused, texts.

    Args:
        labels: of t.
        dated: whether they must be dates, as in names of files.
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


def _write(cube: xr.DataArray, form: str, folder: Path, prefix: str) -> list[dict[str, Any]]:
    dates = cube["t"].values
    if form == "netCDF":
        names, media_type, parts = [f"{prefix}.nc"], NETCDF_TYPE, [slice(None)]
        bands = [write_netcdf(cube, folder / names[0])]
    else:
        names = [f"{prefix}{_name_moment(date)}.tif" for date in dates]
        media_type, parts = GTIFF_TYPE, [slice(one, one + 1) for one in range(len(dates))]
        if len(set(names)) < len(names):
            raise ParameterError(f"Labels of t repeat; one GeoTIFF each needs others: {names}.")
        bands = write_cogs(cube, [folder / name for name in names])
    return [
        {"name": name, "type": media_type, **_describe(cube, dates[part]), "raster:bands": layers}
        for name, part, layers in zip(names, parts, bands, strict=True)
    ]


def _name_moment(date: np.datetime64) -> str:
    """Return the part of a file name that gives a date, as the cloud back-ends have it."""
    if np.isnat(date):
        return ""
    moment = pd.Timestamp(date)
    return f"_{moment:%Y-%m-%dZ}" if moment == moment.normalize() else f"_{moment:%Y%m%dT%H%M%SZ}"


def _normalise(cube: xr.DataArray, *, dated: bool) -> xr.DataArray:
    """Bring a cube to (t, bands, y, x), float32; a missing t has the label NaT."""
    for axis in ("y", "x"):
        if axis not in cube.dims:
            raise ParameterError(f"save_result needs a raster cube; this one has {cube.dims}.")
    if 0 in cube.shape:
        raise NoDataError(f"Nothing is left of the cube to be saved: {dict(cube.sizes)}.")
    if cube.rio.crs is None:
        raise ParameterError("save_result needs a cube with a coordinate reference system.")
    crs, transform = cube.rio.crs, transform_of(cube)
    cube = _usual_names(cube)
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


def _usual_names(cube: xr.DataArray) -> xr.DataArray:
    """Return a cube whose dates and bands have their usual names, whatever they were renamed to."""
    others = [name for name in cube.dims if name not in ("t", "bands", "y", "x")]
    dated = [name for name in others if cube[name].dtype.kind == "M"]
    if "t" not in cube.dims and len(dated) == 1:
        cube = cube.drop_vars("t", errors="ignore").rename({dated[0]: "t"})
        others.remove(dated[0])
    if "bands" not in cube.dims and len(others) == 1:
        cube = cube.drop_vars("bands", errors="ignore").rename({others[0]: "bands"})
        others = []
    if others:
        raise ParameterError(
            "save_result writes cubes of x, y, t and bands; reduce or drop what this one has "
            f"besides: {', '.join(map(str, others))}."
        )
    return cube


def _describe(cube: xr.DataArray, dates: Sequence[Any] | npt.NDArray[Any]) -> dict[str, Any]:
    west, south, east, north = cube.rio.bounds(recalc=True)
    region = BoundingBox(west, south, east, north, crs=str(cube.rio.crs)).polygon
    bbox, geometry = stac_footprint(region)
    description: dict[str, Any] = {
        "bands": [{"name": name} for name in cube["bands"].values.tolist()],
        "bbox": bbox,
        "geometry": geometry,
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
