"""A place to look at, a point or a parcel, and its weight on every grid it meets.

Weights are the exact share of each pixel inside the polygon (exactextract). The items of a tile
have one grid, so they are computed once per place and tile.
"""

import hashlib
import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
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

from lai_service.errors import BadRequestError
from lai_service.files.pixels import grid_of
from lai_service.files.rasters import GDAL_ENVIRONMENT

__all__ = ["MAX_PIXELS", "Place", "Weights"]

MAX_PIXELS = 1_000_000
"""Most pixels of the box around a place."""
_DEGREES = "EPSG:4326"


@dataclass(frozen=True)
class Weights:
    """A place on one grid."""

    window: Window
    """The pixels around the place that lie in the raster."""
    share: NDArray[np.float64]
    """Share of each pixel of the window inside the place, shape (y, x), 0 to 1."""
    area: float
    """Area of the whole place in pixels, with what lies outside the raster."""


@dataclass(frozen=True)
class Place:
    """A point or polygon in degrees, with its weights on every grid it has met."""

    geometry: BaseGeometry
    """Point, Polygon or MultiPolygon, longitude and latitude in degrees."""
    _met: dict[Hashable, Weights | None] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )

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

    @cached_property
    def digest(self) -> str:
        """Return what tells this place from others."""
        return hashlib.sha256(self.geometry.wkb).hexdigest()

    def weights(self, path: Path) -> Weights | None:
        """Return the weights on the grid of a raster; None where they do not meet.

        Raises:
            BadRequestError: the place covers more than `MAX_PIXELS` pixels.
            RasterioError: the file is gone or damaged.
        """
        grid = grid_of(path)
        if grid not in self._met:
            with rasterio.Env(**GDAL_ENVIRONMENT), rasterio.open(path, driver="GTiff") as raster:
                self._met[grid] = _weights(self.geometry, raster)
        return self._met[grid]


def _weights(geometry: BaseGeometry, raster: rasterio.DatasetReader) -> Weights | None:
    projected = shape(transform_geom(_DEGREES, raster.crs, mapping(geometry)))
    if projected.geom_type == "Point":
        row, column = raster.index(*projected.coords[0][:2])
        if not (0 <= row < raster.height and 0 <= column < raster.width):
            return None
        return Weights(Window(column, row, 1, 1), np.ones((1, 1)), 1.0)
    window = _window(projected, raster)
    if window is None:
        return None
    transform: Affine = raster.window_transform(window)
    share = _coverage(projected, transform, (window.height, window.width))
    if not share.any():
        return None
    pixel = abs(raster.transform.a * raster.transform.e)
    return Weights(window, share, float(projected.area) / pixel)


def _window(geometry: BaseGeometry, raster: rasterio.DatasetReader) -> Window | None:
    """Return the pixels around a geometry of the raster's CRS; None where there are none."""
    around = from_bounds(*geometry.bounds, transform=raster.transform)
    left, top = max(0, math.floor(around.col_off)), max(0, math.floor(around.row_off))
    right = min(raster.width, math.ceil(around.col_off + around.width))
    bottom = min(raster.height, math.ceil(around.row_off + around.height))
    if left >= right or top >= bottom:
        return None
    if (right - left) * (bottom - top) > MAX_PIXELS:
        raise BadRequestError(f"the geometry spans more than {MAX_PIXELS} pixels; use smaller ones")
    return Window(left, top, right - left, bottom - top)


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
