"""The LAI of a place in one item: a pixel, or the area-weighted mean over a polygon.

Weights are the exact share of each pixel inside the polygon (exactextract). A pixel counts where
LAI has a value and none of the excluded flags is set. The interval of a parcel is the mean of its
pixels' lower and upper ends: right if the errors of neighbouring pixels go together, and too wide,
never too narrow, where they do not.

Published rasters never change under their path, which holds the digest of their bytes. So what was
read once is kept: the second look at a parcel, as a plot after the numbers, reads no file.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from exactextract import exact_extract
from exactextract.raster import NumPyRasterSource
from numpy.typing import NDArray
from rasterio.transform import Affine, array_bounds
from rasterio.warp import transform_geom
from rasterio.windows import Window, from_bounds
from shapely.geometry import mapping, shape
from shapely.geometry.base import BaseGeometry

from lai_service.catalogue import Document
from lai_service.errors import BadRequestError
from lai_service.hrefs import is_relative
from lai_service.rasters import GDAL_ENVIRONMENT

__all__ = ["DEFAULT_EXCLUDE", "Observation", "Place", "observe"]

DEFAULT_EXCLUDE = 8 | 16 | 32 | 64
"""Flags that make a pixel unusable: LAI below or above what is possible, beyond the tolerance
(SNAP calls such a value invalid; the raster keeps it, negative ones too); cloud, shadow or snow
within reach; no data within reach."""
MAX_PIXELS = 4_000_000
_KEPT = 20_000
"""Observations that are kept, some 10 MB."""
_SLIVER = 1e-6  # a share of a pixel that is rounding of coordinates, not area
_VALUES = {"lai": "lai", "lower": "lai_lower", "upper": "lai_upper", "sd": "lai_sd"}
_DEGREES = "EPSG:4326"


@dataclass(frozen=True)
class Observation:
    """LAI of a place at one time."""

    item: str
    """Id of the item."""
    collection: str
    """Id of its collection."""
    datetime: str
    """Acquisition time, RFC 3339."""
    lai: float | None
    """Mean LAI, m2 m-2; None where no pixel is valid."""
    lower: float | None
    """Mean of the lower ends of the 95 % interval, m2 m-2."""
    upper: float | None
    """Mean of the upper ends of the 95 % interval, m2 m-2."""
    sd: float | None
    """Mean of the Monte-Carlo standard deviation, m2 m-2."""
    valid_fraction: float
    """Share of the place's area with valid pixels, 0 to 1."""
    pixels: float
    """Area of the valid part, in pixels."""


@dataclass(frozen=True)
class Place:
    """A point or polygon in degrees, with its weights on every grid it has met."""

    geometry: BaseGeometry
    """Point, Polygon or MultiPolygon, longitude and latitude in degrees."""
    weights: dict["_Grid", "_Weights | None"] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )
    """What was found out about it; the items of a tile have one grid."""

    @classmethod
    def from_geojson(cls, geojson: Mapping[str, Any]) -> "Place":
        """Read a GeoJSON geometry, or a Feature that holds one.

        Raises:
            BadRequestError: not a valid point or polygon in degrees.
        """
        if geojson.get("type") == "Feature":
            geojson = geojson.get("geometry") or {}
        if geojson.get("type") not in ("Point", "Polygon", "MultiPolygon"):
            raise BadRequestError("geometry must be a GeoJSON Point, Polygon or MultiPolygon")
        try:
            geometry = shape(dict(geojson))
        except Exception as error:  # shapely raises many kinds for malformed GeoJSON
            raise BadRequestError(f"geometry is not GeoJSON: {error}") from error
        if geometry.is_empty or not geometry.is_valid:
            raise BadRequestError("geometry is empty or crosses itself")
        west, south, east, north = geometry.bounds
        if west < -180 or east > 180 or south < -90 or north > 90:
            raise BadRequestError("geometry must be in degrees: longitude ±180, latitude ±90")
        return cls(geometry)


_Grid = tuple[str, Affine, int, int]  # CRS as WKT, transform, height, width


@dataclass(frozen=True)
class _Weights:
    """Share of each pixel of a window inside the place."""

    window: Window
    weight: NDArray[np.float64]  # (y, x), 0 to 1
    area: float  # of the whole place, in pixels, with what lies outside the raster


def observe(
    item: Document, place: Place, data: Path, exclude_flags: int = DEFAULT_EXCLUDE
) -> Observation | None:
    """Read the LAI of a place from the published rasters of one item.

    Args:
        item: item as stored.
        place: where.
        data: data root.
        exclude_flags: bits of LAI_FLAGS that make a pixel unusable.

    Returns:
        The observation, or None where the item has no LAI raster here or does not meet the place.

    Raises:
        BadRequestError: the place covers more than `MAX_PIXELS` pixels.
    """
    paths = _paths(item, data)
    if "lai" not in paths:
        return None
    measured = _measure(tuple(sorted(paths.items())), place, exclude_flags)
    if measured is None:
        return None
    properties = item["properties"]
    return Observation(
        item=item["id"],
        collection=item["collection"],
        datetime=properties.get("datetime") or properties["start_datetime"],
        lai=measured.means["lai"],
        lower=measured.means.get("lower"),
        upper=measured.means.get("upper"),
        sd=measured.means.get("sd"),
        valid_fraction=min(1.0, measured.pixels / measured.area),
        pixels=measured.pixels,
    )


@dataclass(frozen=True)
class _Measured:
    """What the rasters of one item say of a place."""

    means: dict[str, float | None]
    pixels: float
    area: float


@lru_cache(maxsize=_KEPT)
def _measure(
    files: tuple[tuple[str, Path], ...], place: Place, exclude_flags: int
) -> _Measured | None:
    paths = dict(files)
    with rasterio.Env(**GDAL_ENVIRONMENT):
        with rasterio.open(paths["lai"], driver="GTiff") as raster:
            weights = _weights(place, raster)
            if weights is None:
                return None
            lai = _read(raster, weights.window)
        flags = _flags(paths.get("lai_flags"), weights.window)
        usable = np.isfinite(lai) & ((flags & exclude_flags) == 0)
        layers = {"lai": lai}
        for name in ("lower", "upper", "sd"):
            if _VALUES[name] in paths:
                with rasterio.open(paths[_VALUES[name]], driver="GTiff") as raster:
                    layers[name] = _read(raster, weights.window)
    weight = np.where(usable & (weights.weight > _SLIVER), weights.weight, 0.0)
    means = {name: _mean(layer, weight) for name, layer in layers.items()}
    return _Measured(means, float(weight.sum()), weights.area)


def _paths(item: Document, data: Path) -> dict[str, Path]:
    assets = item.get("assets") or {}
    keys = [key for key in (*_VALUES.values(), "lai_flags") if key in assets]
    return {key: data / assets[key]["href"] for key in keys if is_relative(assets[key]["href"])}


def _weights(place: Place, raster: rasterio.DatasetReader) -> _Weights | None:
    """Return the weights of a place on the grid of a raster; None where they do not meet."""
    grid: _Grid = (raster.crs.to_wkt(), raster.transform, raster.height, raster.width)
    if grid not in place.weights:
        place.weights[grid] = _new_weights(place, raster)
    return place.weights[grid]


def _new_weights(place: Place, raster: rasterio.DatasetReader) -> _Weights | None:
    projected = shape(transform_geom(_DEGREES, raster.crs, mapping(place.geometry)))
    if projected.geom_type == "Point":
        row, column = raster.index(*projected.coords[0][:2])
        if not (0 <= row < raster.height and 0 <= column < raster.width):
            return None
        return _Weights(Window(column, row, 1, 1), np.ones((1, 1)), 1.0)
    around = from_bounds(*projected.bounds, transform=raster.transform)
    left, top = max(0, math.floor(around.col_off)), max(0, math.floor(around.row_off))
    right = min(raster.width, math.ceil(around.col_off + around.width))
    bottom = min(raster.height, math.ceil(around.row_off + around.height))
    if left >= right or top >= bottom:
        return None
    if (right - left) * (bottom - top) > MAX_PIXELS:
        raise BadRequestError(f"the geometry spans more than {MAX_PIXELS} pixels; use smaller ones")
    window = Window(left, top, right - left, bottom - top)
    transform: Affine = raster.window_transform(window)
    weight = _coverage(projected, transform, (bottom - top, right - left))
    if not weight.any():
        return None
    pixel = abs(raster.transform.a * raster.transform.e)
    return _Weights(window, weight, float(projected.area) / pixel)


def _coverage(
    geometry: BaseGeometry, transform: Affine, shape_yx: tuple[int, int]
) -> NDArray[np.float64]:
    """Return the share of each pixel inside a polygon of the same CRS; north is up."""
    west, south, east, north = array_bounds(*shape_yx, transform)
    grid = NumPyRasterSource(np.zeros(shape_yx, np.int8), west, south, east, north)
    feature = {"type": "Feature", "geometry": mapping(geometry), "properties": {}}
    found = exact_extract(grid, feature, ["cell_id", "coverage"])[0]["properties"]
    weight = np.zeros(shape_yx[0] * shape_yx[1])
    weight[np.asarray(found["cell_id"], dtype=np.intp)] = found["coverage"]
    return weight.reshape(shape_yx)


def _read(raster: rasterio.DatasetReader, window: Window) -> NDArray[np.float64]:
    """Read a window in physical units, NaN where there is no data."""
    stored = raster.read(1, window=window)
    values: NDArray[np.float64] = stored * raster.scales[0] + raster.offsets[0]
    if raster.nodata is not None and not math.isnan(raster.nodata):
        values[stored == raster.nodata] = np.nan
    return values


def _flags(path: Path | None, window: Window) -> NDArray[np.uint8]:
    if path is None:
        return np.zeros((window.height, window.width), np.uint8)
    with rasterio.open(path, driver="GTiff") as raster:
        flags: NDArray[np.uint8] = raster.read(1, window=window)
    return flags


def _mean(layer: NDArray[np.float64], weight: NDArray[np.float64]) -> float | None:
    total = float(weight.sum())
    if total <= 0:
        return None
    return float(np.sum(np.where(weight > 0, layer, 0.0) * weight) / total)
