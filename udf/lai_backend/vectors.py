"""Polygons over cubes: statistics of them, masks by them, and files of both.

Polygons are `DriverVectorCube`s of openeo-driver, whose writers make the files of
`aggregate_spatial`: the same columns and names as on the cloud back-ends that build on it. A pixel
belongs to a polygon if its centre lies in it.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
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
from openeo_driver import save_result
from openeo_driver.datacube import DriverVectorCube
from openeo_driver.errors import OpenEOApiException
from pyproj.exceptions import CRSError
from shapely.geometry.base import BaseGeometry

from lai_backend.errors import ParameterError, SourceError, UnsupportedError
from lai_backend.extents import snap_outward
from lai_backend.files import Json
from lai_backend.graphs import GEOJSON
from lai_backend.grids import cut, georeference, georeference_like, grid_of
from lai_backend.neighborhood import run_on_cube
from lai_backend.udf_runner import LocalUdf

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


def read_polygons(value: Json) -> DriverVectorCube:
    """Return the vector cube of an argument `geometries`: GeoJSON, or one that a process gave.

    GeoJSON is in degrees, or in the CRS that its member `crs` names (GeoJSON 2008), as the openEO
    client writes it.
    """
    if isinstance(value, DriverVectorCube):
        return value
    if isinstance(value, ZonalValues):
        return value.polygons
    if hasattr(value, "model_dump"):  # the graph library has made a model of it
        value = value.model_dump(mode="json", exclude_none=True)
    try:
        given = value.get(GEOJSON, value)
        known = {name: part for name, part in given.items() if part is not None}
        return DriverVectorCube.from_geojson(known, ignore_crs=False, columns_for_cube=[])
    except (
        *(OpenEOApiException, CRSError),
        *(AttributeError, KeyError, TypeError, ValueError),
    ) as error:
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


def load_geojson(data: Json, properties: list[str] | None = None) -> DriverVectorCube:
    """Take polygons from GeoJSON."""
    return read_polygons(data)


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
    data = _cut_out(data, shapely.geometrycollections(shapes).envelope)
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
    return [shape or shapely.Polygon() for shape in frame.to_crs(data.rio.crs.to_wkt())]


def _cut_out(data: xr.DataArray, geometry: BaseGeometry) -> xr.DataArray:
    """Return the pixels around a polygon."""
    y, x, _ = _place(grid_of(data), geometry)
    return cut(data, y, x)


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
    window = _cut_out(data, whole)
    if 0 in window.shape:
        raise ParameterError("geometries of filter_spatial lie outside the cube.")
    return mask_polygon(window, geometries)


def apply_polygon(
    data: xr.DataArray,
    process: Process,
    geometries: Json = None,
    polygons: Json = None,
    mask_value: Json = None,
    context: Json = None,
) -> xr.DataArray:
    """Apply a process pixel by pixel in polygons; other pixels get `mask_value`, or NaN."""
    inside, fill, _ = _read_fields(data, geometries or polygons, mask_value)
    window = data.where(inside).transpose(*data.dims)
    given = {"x": window.data, "data": window.data, "context": context}
    whole = window.copy(data=process(named_parameters=given))
    return georeference_like(whole.where(inside, fill).transpose(*whole.dims), data)


def apply_udf_to_polygons(
    data: xr.DataArray,
    udf: LocalUdf,
    geometries: Json = None,
    polygons: Json = None,
    mask_value: Json = None,
) -> xr.DataArray:
    """Apply a UDF to the pixels of each polygon, NaN around; others get `mask_value`, or NaN."""
    _, fill, shapes = _read_fields(data, geometries or polygons, mask_value)
    grid = grid_of(data)
    filled, like = np.empty(0, np.float32), None
    for shape in shapes:
        y, x, kept = _place(grid, shape)
        if not kept.any():
            continue
        window = _cut_out(data, shape).where(xr.DataArray(kept, dims=("y", "x")))
        part = run_on_cube(window.transpose(*data.dims), udf).transpose(..., "y", "x")
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


def _read_fields(
    data: xr.DataArray, geometries: Json, mask_value: Json
) -> tuple[xr.DataArray, float, list[BaseGeometry]]:
    """Return the pixels in polygons that do not overlap, what the others get, and the polygons."""
    shapes = _projected(read_polygons(geometries), data)
    area = sum(shape.area for shape in shapes)
    if area - shapely.union_all(shapes).area > 1e-9 * area:
        raise ParameterError("GeometriesOverlap: polygons of apply_polygon overlap.")
    inside = _inside(data, geometries)
    if not inside.any():
        raise ParameterError("No pixel of the cube lies in the polygons of apply_polygon.")
    return inside, np.nan if mask_value is None else mask_value, shapes


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


def write_vectors(
    data: DriverVectorCube | ZonalValues, form: str, folder: Path, prefix: str
) -> list[dict[str, Any]]:
    """Write polygons or their values with the writers of openeo-driver.

    Args:
        data: what to write.
        form: format, a value of `formats.VECTOR_FORMATS`.
        folder: where the file goes; must exist.
        prefix: put before the name of the file.

    Returns:
        One dictionary per file: `name`, `type`, `bbox`, `geometry` and, where listed, `bands`.
    """
    polygons = data if isinstance(data, DriverVectorCube) else data.polygons
    footprint = shapely.box(*polygons.reproject("EPSG:4326").get_bounding_box())
    described = []
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        try:
            written = dict(_writer(data, form, Path(scratch)).write_assets(folder / "out"))
        except (OpenEOApiException, NotImplementedError, ValueError) as error:
            raise UnsupportedError(f"Polygons cannot be saved as {form}: {error}.") from error
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


def _writer(
    data: DriverVectorCube | ZonalValues, form: str, scratch: Path
) -> save_result.SaveResult:
    if isinstance(data, DriverVectorCube):
        return save_result.VectorCubeResult(data, form)
    polygons, cube = data.polygons, data.cube
    if "bands" not in cube.dims:
        cube = cube.expand_dims(bands=[NO_BAND], axis=-1)
    bands = [str(name) for name in cube["bands"].values]
    if form == "GeoJSON":
        dims = [name for name in ("geometry", "t", "bands") if name in cube.dims]
        if "t" in cube.dims:
            cube = cube.assign_coords(t=_spell_dates(cube["t"].values, "%Y-%m-%dT%H:%M:%SZ"))
        frame = polygons._geometries.reset_index(drop=True)
        valued = DriverVectorCube(frame, cube.transpose(*dims))
        return save_result.VectorCubeResult(valued, form)
    if form == "netCDF" and polygons.get_ids() is None:  # its writer needs some
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
    kind = save_result.AggregatePolygonSpatialResult
    if "t" in cube.dims:
        kind = save_result.AggregatePolygonResultCSV
    result: save_result.SaveResult = kind(str(scratch), polygons, metadata)
    return result.with_format(form, {})


def _table(cube: xr.DataArray, bands: list[str]) -> pd.DataFrame:
    """Return values as the tables of the cloud back-ends: a row per date and polygon."""
    table: pd.DataFrame = cube.to_series().unstack("bands")[bands].reset_index()
    table = table.rename(columns={"geometry": "feature_index", "t": "date"})
    if "date" not in table:
        return table
    table["date"] = _spell_dates(table["date"].to_numpy(), "%Y-%m-%dT%H:%M:%S.000Z")
    ordered = ["date", "feature_index", *bands]
    return table.reindex(columns=ordered).sort_values(["date", "feature_index"])


def _spell_dates(labels: npt.NDArray[Any], form: str) -> list[str]:
    """Return labels of t as texts, which others than dates may be already."""
    if labels.dtype.kind != "M":
        return [str(label) for label in labels]
    return list(pd.DatetimeIndex(labels).strftime(form))
