"""Polygons over cubes: statistics of them, masks by them, and files of both.

Polygons are `DriverVectorCube`s of openeo-driver, whose writers make the files of
`aggregate_spatial`: the same columns and names as on the cloud back-ends that build on it. A pixel
belongs to a polygon if its centre lies in it.
"""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely
import xarray as xr
from dask.base import compute
from odc.geo.geobox import GeoBox
from odc.geo.geom import Geometry
from odc.geo.xr import rasterize
from openeo.metadata import CollectionMetadata
from openeo_driver.datacube import DriverVectorCube
from openeo_driver.errors import OpenEOApiException
from openeo_driver.save_result import (
    AggregatePolygonResultCSV,
    AggregatePolygonSpatialResult,
    SaveResult,
    VectorCubeResult,
)
from shapely.geometry.base import BaseGeometry

from lai_backend.errors import ParameterError, SourceError, UnsupportedError
from lai_backend.extents import snap_outward
from lai_backend.files import Json
from lai_backend.georeference import georeference, georeference_like
from lai_backend.resampling import grid_of

Process = Callable[..., Any]
MAX_BYTES_AT_ONCE = 2**30
MAX_FILE_BYTES = 200_000_000
NO_BAND = "band_unnamed"  # name of the one band of a cube without bands


@dataclass(frozen=True)
class ZonalValues:
    """What `aggregate_spatial` gives: a value per polygon, date and band."""

    polygons: DriverVectorCube  # the polygons, in order
    cube: xr.DataArray
    """Dims (geometry, t, bands), in memory; `t` is missing where the cube had none."""


@dataclass(frozen=True)
class SavedVectors:
    """Polygons or values of polygons, and how they shall be written."""

    data: DriverVectorCube | ZonalValues  # what to write
    format: str  # A value of `formats.VECTOR_FORMATS`
    options: Mapping[str, Any] = field(default_factory=dict)
    """Format options of the client; handed to openeo-driver."""


def read_polygons(value: Json) -> DriverVectorCube:
    """Return the vector cube of an argument `geometries`: GeoJSON, or one that a process gave."""
    if isinstance(value, DriverVectorCube):
        return value
    if isinstance(value, ZonalValues):
        return value.polygons
    if hasattr(value, "model_dump"):  # the graph library has made a model of it
        value = value.model_dump(mode="json", exclude_none=True)
    if not isinstance(value, Mapping) or "type" not in value:
        raise ParameterError(
            f"geometries must be GeoJSON or the result of a process, not {str(value)[:100]!r}; an "
            "address is read with load_url."
        )
    try:
        return DriverVectorCube.from_geojson(dict(value), columns_for_cube=[])
    except (OpenEOApiException, KeyError, TypeError, ValueError) as error:
        raise ParameterError(f"geometries are no valid GeoJSON: {error}.") from error


def read_file(path: Path, format: str) -> DriverVectorCube:
    """Read polygons from a file."""
    readers = {"geojson": gpd.read_file, "parquet": gpd.read_parquet}
    if str(format).lower() not in readers:
        raise ParameterError(f"load_url reads GeoJSON and Parquet, not {format!r}.")
    try:
        frame = readers[str(format).lower()](path)
    except Exception as error:  # the libraries agree on none
        raise SourceError(f"Cannot read {format} from {path}: {error}.") from error
    return DriverVectorCube.from_geodataframe(frame, columns_for_cube=[])


def aggregate_spatial(
    data: xr.DataArray, geometries: Json, reducer: Process, context: Json = None
) -> ZonalValues:
    """Reduce the pixels of each polygon; NaN where a polygon holds no centre of a pixel.

    Everything is computed in one go, so that polygons share the windows of a UDF; a cube that fits
    into memory, before polygons are cut out of it. (Upstream starts processes that wait for each
    other for minutes, in `xvec.zonal_stats` with its `n_jobs`.)
    """
    polygons = read_polygons(geometries)
    shapes = _projected(polygons, data)
    data, _ = _cut_out(data, shapely.box(*shapely.total_bounds(shapes)))
    if 0 < data.nbytes <= MAX_BYTES_AT_ONCE:
        data = data.compute()
    ordered = data.transpose(..., "y", "x")
    left = ordered.isel(y=slice(0), x=slice(0)).sum(("y", "x"))  # labels of the other dimensions
    positions, named = {"positional_parameters": {"data": 0}}, {"context": context}
    reduced = []
    for shape in shapes if data.size else []:
        y, x, inside = _place(grid_of(data), shape)
        pixels = ordered.data[..., y, x].reshape(*left.shape, -1)[..., np.flatnonzero(inside)]
        empty = np.full(left.shape, np.nan)
        given: dict[str, Any] = {"axis": -1, "named_parameters": named, **positions}
        reduced.append(reducer(pixels, **given) if inside.any() else empty)
    values = np.full((len(shapes), *left.shape), np.nan)
    if reduced:
        values = np.stack([np.asarray(part, float) for part in compute(*reduced)])
    labels = {name: left[name].values for name in left.dims}
    labels[DriverVectorCube.DIM_GEOMETRY] = np.arange(len(values))
    dims = (DriverVectorCube.DIM_GEOMETRY, *left.dims)
    return ZonalValues(polygons, xr.DataArray(values, labels, dims))


def _projected(polygons: DriverVectorCube, data: xr.DataArray) -> list[BaseGeometry]:
    """Return the polygons in the projection of a cube."""
    frame = polygons.get_geometries().set_crs(polygons.get_crs())
    return list(frame.to_crs(data.rio.crs.to_wkt()))


def _cut_out(
    data: xr.DataArray, geometry: BaseGeometry
) -> tuple[xr.DataArray, npt.NDArray[np.bool_]]:
    """Return the pixels around a polygon, and which of them belong to it."""
    grid = grid_of(data)
    y, x, inside = _place(grid, geometry)
    corner = grid.affine * grid.affine.translation(x.start, y.start)
    return georeference(data.isel(y=y, x=x), data.rio.crs, corner), inside


def _place(grid: GeoBox, geometry: BaseGeometry) -> tuple[slice, slice, npt.NDArray[np.bool_]]:
    """Return rows and columns around a polygon, and which of their pixels belong to it."""
    if geometry.is_empty:
        return slice(0, 0), slice(0, 0), np.zeros((0, 0), bool)
    polygon = Geometry(geometry, grid.crs)
    roi: Any = grid.overlap_roi(snap_outward(grid, polygon))
    y, x = roi
    if y.start >= y.stop or x.start >= x.stop:
        return slice(0, 0), slice(0, 0), np.zeros((0, 0), bool)
    return y, x, rasterize(polygon, grid[y, x]).values


def _inside(data: xr.DataArray, geometries: Json) -> xr.DataArray:
    """Return which pixels of a cube lie in any of the polygons."""
    grid = grid_of(data)
    whole = shapely.union_all(_projected(read_polygons(geometries), data))
    if whole.is_empty:
        return xr.DataArray(np.zeros(tuple(grid.shape), bool), dims=("y", "x"))
    return xr.DataArray(rasterize(Geometry(whole, grid.crs), grid).values, dims=("y", "x"))


def mask_polygon(
    data: xr.DataArray, mask: Json, replacement: Json = None, inside: bool = False
) -> xr.DataArray:
    """Replace the pixels outside of polygons, or inside; upstream does the other, and no holes."""
    kept = _inside(data, mask) ^ inside
    masked = data.where(kept, np.nan if replacement is None else replacement)
    return masked.transpose(*data.dims)


def filter_spatial(data: xr.DataArray, geometries: Json) -> xr.DataArray:
    """Cut a cube to the pixels around polygons, and mask those outside of them."""
    whole = shapely.union_all(_projected(read_polygons(geometries), data))
    window, _ = _cut_out(data, whole)
    if 0 in window.shape:
        raise ParameterError("geometries of filter_spatial lie outside the cube.")
    return mask_polygon(window, geometries)


def apply_polygon(
    data: xr.DataArray,
    geometries: Json,
    run: Callable[[xr.DataArray], xr.DataArray],
    mask_value: Json,
    one_by_one: bool,
) -> xr.DataArray:
    """Apply a process to the pixels of each polygon; all others get `mask_value`.

    Args:
        data: the cube.
        geometries: polygons that do not overlap.
        run: the process, on a cube that is NaN outside of its polygon.
        mask_value: of the pixels outside of all polygons; None: no data.
        one_by_one: a UDF, which sees one polygon at a time and gives back what is in memory; else
            the process works pixel by pixel, on all of them at once.
    """
    shapes = _projected(read_polygons(geometries), data)
    area = sum(shape.area for shape in shapes)
    if area - shapely.union_all(shapes).area > 1e-9 * area:
        raise ParameterError("GeometriesOverlap: polygons of apply_polygon overlap.")
    inside = _inside(data, geometries)
    if not inside.any():
        raise ParameterError("No pixel of the cube lies in the polygons of apply_polygon.")
    fill = np.nan if mask_value is None else mask_value
    if not one_by_one:
        whole = run(data.where(inside).transpose(*data.dims))
        return georeference_like(whole.where(inside, fill).transpose(*whole.dims), data)
    grid = grid_of(data)
    filled, like = np.empty(0, np.float32), None
    for shape in shapes:
        y, x, kept = _place(grid, shape)
        if not kept.any():
            continue
        window = _cut_out(data, shape)[0].where(xr.DataArray(kept, dims=("y", "x")))
        part = run(window.transpose(*data.dims)).transpose(..., "y", "x")
        if like is None:
            like = part
            filled = np.full((*part.shape[:-2], *grid.shape), fill, np.float32)
        if part.dims != like.dims:
            raise UnsupportedError("The UDF of apply_polygon gives polygons other dimensions.")
        np.copyto(filled[..., y, x], part.values, where=kept)
    assert like is not None  # some pixel lies inside
    coords = {name: like[name].values for name in like.dims[:-2]}
    coords |= {name: data[name].values for name in ("y", "x")}
    return georeference(xr.DataArray(filled, coords, like.dims), data.rio.crs, grid.affine)


def vector_buffer(geometries: Json, distance: float) -> DriverVectorCube:
    """Widen polygons by metres; degrees go by way of the UTM zone that fits them."""
    polygons = read_polygons(geometries)
    frame: gpd.GeoDataFrame = polygons._geometries  # there is no other way to the properties
    crs = frame.estimate_utm_crs() if polygons.get_crs().is_geographic else frame.crs
    wider = frame.set_geometry(frame.to_crs(crs).buffer(distance).to_crs(frame.crs))
    return DriverVectorCube.from_geodataframe(wider, columns_for_cube=[])


def vector_reproject(data: Json, projection: Json) -> DriverVectorCube:
    """Bring polygons into another projection."""
    return read_polygons(data).reproject(projection)


def write_vectors(saved: SavedVectors, folder: Path, prefix: str) -> list[dict[str, Any]]:
    """Write polygons or their values with the writers of openeo-driver.

    Args:
        saved: what, and how.
        folder: where the file goes; must exist.
        prefix: put before the name of the file.

    Returns:
        One dictionary per file: `name`, `type`, `bbox`, `geometry`, and what the writer says.
    """
    polygons = saved.data if isinstance(saved.data, DriverVectorCube) else saved.data.polygons
    footprint = shapely.box(*polygons.reproject("EPSG:4326").get_bounding_box())
    described = []
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        try:
            written = dict(_writer(saved, Path(scratch)).write_assets(folder / "out"))
        except (OpenEOApiException, NotImplementedError) as error:
            raise UnsupportedError(
                f"Polygons cannot be saved as {saved.format}: {error}."
            ) from error
    for name, asset in written.items():
        Path(str(asset["href"])).rename(folder / f"{prefix}{name}")
        bands = [{"name": band["name"]} for band in asset.get("bands", [])]
        described.append(
            {
                "name": f"{prefix}{name}",
                "type": asset["type"],
                "bbox": list(footprint.bounds),
                "geometry": shapely.geometry.mapping(footprint),
                **({"bands": bands} if bands else {}),
            }
        )
    return described


def _writer(saved: SavedVectors, scratch: Path) -> SaveResult:
    if isinstance(saved.data, DriverVectorCube):
        return VectorCubeResult(saved.data, saved.format, dict(saved.options))
    polygons, cube = saved.data.polygons, saved.data.cube
    if "bands" not in cube.dims:
        cube = cube.expand_dims(bands=[NO_BAND], axis=-1)
    bands = [str(name) for name in cube["bands"].values]
    if saved.format == "GeoJSON":
        dims = [name for name in ("geometry", "t", "bands") if name in cube.dims]
        if "t" in cube.dims:
            labels = [f"{date}Z" for date in np.datetime_as_string(cube["t"], "s")]
            cube = cube.assign_coords(t=labels)
        frame = polygons._geometries.reset_index(drop=True)
        return VectorCubeResult(DriverVectorCube(frame, cube.transpose(*dims)), "GeoJSON")
    if saved.format == "netCDF" and polygons.get_ids() is None:  # its writer needs some
        frame = polygons._geometries
        ids = [f"feature_{number}" for number in range(len(frame))]
        polygons = DriverVectorCube(frame.assign(id=ids))
    metadata = CollectionMetadata(
        {
            "cube:dimensions": {"bands": {"type": "bands", "values": bands}},
            "summaries": {"eo:bands": [{"name": name} for name in bands]},
        }
    )
    _table(cube, bands).to_csv(scratch / "timeseries.csv", index=False)
    kind = AggregatePolygonResultCSV if "t" in cube.dims else AggregatePolygonSpatialResult
    result: SaveResult = kind(str(scratch), polygons, metadata)
    return result.with_format(saved.format, dict(saved.options))


def _table(cube: xr.DataArray, bands: list[str]) -> pd.DataFrame:
    """Return values as the tables of the cloud back-ends: a row per date and polygon."""
    table: pd.DataFrame = cube.to_series().unstack("bands")[bands].reset_index()
    table = table.rename(columns={"geometry": "feature_index", "t": "date"})
    if "date" not in table:
        return table
    table["date"] = table["date"].dt.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    ordered = ["date", "feature_index", *bands]
    return table.reindex(columns=ordered).sort_values(["date", "feature_index"])
