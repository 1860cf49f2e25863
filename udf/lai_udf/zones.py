"""Zones on a grid: from geometries in any CRS to the exact share of every pixel inside them.

Geometries are repaired or refused, unrolled across ±180° and projected; the shares come from
exactextract. `lai_udf.zonal` computes statistics with them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS, Geod, Transformer
from rasterio.windows import Window
from shapely.geometry import Point, Polygon, box
from shapely.geometry.base import BaseGeometry

from lai_udf.errors import GeometryError
from lai_udf.grid import Grid
from lai_udf.longitudes import cut, polygons_of, unroll
from lai_udf.predict import HALO_PX, NEAR_PX

AnyCrs = Any  # whatever pyproj reads
Floats = NDArray[np.float64]
Index = NDArray[np.intp]
Row = tuple[Index, Index, Floats]
WGS84 = CRS.from_epsg(4326)
SLIVER = 1e-6  # A share of a pixel that is rounding of coordinates, not area
MIN_PART_M2 = 1.0  # slivers of an area beyond the border of a zone are left out
MIN_LATITUDE, MAX_LATITUDE = -80.0, 84.0  # where UTM ends
_MAX_EDGE_DEG, _MAX_EDGE_M = 0.02, 2_000.0  # longer edges bend visibly when they are projected
_MAX_POINTS_PER_SIDE = 1_000
# Widest first; where a parcel lies so far inside, none of its pixels has bit 64 by the border.
_RIMS_PX = (HALO_PX, 2 * NEAR_PX, 0)


@dataclass(frozen=True, eq=False)
class Zones:
    """Shares of pixels inside zones, on one grid; a row per pixel and zone that meet, (k,)."""

    window: Window  # of the grid: the pixels that any zone needs; empty where none meets the grid
    zone: Index  # number of the zone
    cell: Index  # number of the pixel in the flattened window
    share: Floats  # share of the pixel inside the zone, 0-1
    area_px: Floats  # area of the whole zones in pixels, off the grid too, shape (zones,)

    @property
    def met(self) -> Index:
        """Numbers of the zones that meet the grid."""
        return np.unique(self.zone)

    def pick(self, layer: NDArray[Any]) -> NDArray[Any]:
        """Return the values (k,) of a raster (y, x) of the whole grid or of `window`."""
        if layer.shape != (self.window.height, self.window.width):
            layer = layer[self.window.toslices()]
        return np.asarray(layer.reshape(-1)[self.cell])


def weigh_zones(geometries: Sequence[BaseGeometry | None], crs: AnyCrs, grid: Grid) -> Zones:
    """Compute the share of every pixel of a grid inside every zone.

    Args:
        geometries: polygons, multipolygons, or points, which stand for the pixel they lie in; None
            or an empty one is a zone that meets nothing.
        crs: of the geometries; degrees may cross ±180° in any spelling.
        grid: of the rasters.

    Raises:
        GeometryError: a geometry cannot be repaired, see `repair`.
    """
    pixel = abs(grid.transform.a * grid.transform.e)
    fit = [Polygon() if g is None or g.is_empty else repair(g, crs) for g in geometries]
    shapes = [project(geometry, crs, grid.crs) for geometry in fit]
    area = [
        1.0 if isinstance(shape, Point) else _area(shape, geometry, crs) / pixel
        for shape, geometry in zip(shapes, fit, strict=True)
    ]
    extent = box(*grid.bounds)
    near = [number for number, shape in enumerate(shapes) if shape.intersects(extent)]
    window = _window_around([shapes[number] for number in near], grid)
    rows: list[Row] = [(np.empty(0, np.intp), np.empty(0, np.intp), np.empty(0))]
    if window is not None:
        cropped = grid.crop(window, "the grid")
        points = [(n, shape) for n in near if isinstance(shape := shapes[n], Point)]
        areas = [n for n in near if not isinstance(shapes[n], Point)]
        rows += [_locate(number, point, cropped) for number, point in points]
        rows += _cover(areas, [shapes[number] for number in areas], cropped)
    zone, cell, share = (np.concatenate(column) for column in zip(*rows, strict=True))
    return Zones(window or Window(0, 0, 0, 0), zone, cell, share, np.array(area, dtype=np.float64))


def share_between_grids(
    geometries: Sequence[BaseGeometry | None], crs: AnyCrs, grids: Sequence[Grid]
) -> list[list[BaseGeometry | None]]:
    """Give every piece of ground to one grid: where grids overlap, to the one that holds more.

    Tiles overlap by 10 km and meet at borders of UTM zones; a parcel there is to count once.

    Returns:
        A list of pieces per grid. What no grid holds goes with the piece of the first one, so that
        it counts as not seen.
    """
    geographic = read_crs(crs).is_geographic

    def align(geometry: BaseGeometry) -> BaseGeometry:
        return cut(geometry) if geographic else geometry  # one turn for all, at ±180°

    extents = [[align(_inside(grid, rim, crs)) for grid in grids] for rim in _RIMS_PX]
    shared: list[list[BaseGeometry | None]] = [[None] * len(geometries) for _ in grids]
    fit = [Polygon() if g is None or g.is_empty else align(repair(g, crs)) for g in geometries]
    meets = np.array([shapely.intersects(np.array(fit, object), whole) for whole in extents[-1]])
    for number, geometry in enumerate(fit):
        near = np.flatnonzero(meets[:, number]).tolist()
        if len(near) < 2:
            shared[near[0] if len(near) else 0][number] = geometry
            continue
        if isinstance(geometry, Point):
            inmost = min(near, key=lambda i: [not geometry.intersects(e[i]) for e in extents])
            shared[inmost][number] = geometry
            continue
        order = sorted(near, key=lambda i: [-geometry.intersection(e[i]).area for e in extents])
        pieces: dict[int, list[BaseGeometry]] = {index: [] for index in order}
        left = geometry
        for index, held in [(i, part[i]) for part in extents for i in order]:
            pieces[index].append(left.intersection(held))
            left = left.difference(held)
        pieces[order[0]].append(left)
        for index, parts in pieces.items():
            own = polygons_of(shapely.union_all(parts))
            shared[index][number] = None if own.is_empty else own
    return shared


def repair(geometry: BaseGeometry, crs: AnyCrs = WGS84) -> BaseGeometry:
    """Return a valid polygon, multipolygon or point; in degrees, unrolled across ±180°.

    Rings that cross themselves are mended, so that both triangles of a bow-tie count; of a
    collection the polygons are taken.

    Raises:
        GeometryError: it is empty, is no point and has no area, or a coordinate is not finite or
            no latitude.
    """
    if geometry.is_empty:
        raise GeometryError("the geometry is empty")
    if not np.isfinite(shapely.get_coordinates(geometry)).all():
        raise GeometryError("the geometry has a coordinate that is not finite")
    flat = shapely.force_2d(geometry)
    if read_crs(crs).is_geographic:
        if not -90 <= flat.bounds[1] <= flat.bounds[3] <= 90:
            raise GeometryError("a latitude lies beyond 90°: are the coordinates metres?")
        flat = unroll(flat)
    if isinstance(flat, Point):
        return flat
    area = polygons_of(flat if flat.is_valid else shapely.make_valid(flat))
    area = area if area.is_valid else polygons_of(shapely.make_valid(area))
    if area.is_empty:
        kind = geometry.geom_type
        raise GeometryError(f"a {kind} without area: give a polygon, or a point for its pixel")
    return area


def project(geometry: BaseGeometry, crs: AnyCrs, target: AnyCrs) -> BaseGeometry:
    """Return a geometry, repaired, in another CRS; an empty one where that CRS does not reach.

    Long edges get further points, so that they stay where they are on the ground.
    """
    source = read_crs(crs)
    if geometry.is_empty or source == read_crs(target):
        return geometry
    if not isinstance(geometry, Point):
        west, south, east, north = geometry.bounds
        side = max(east - west, north - south)
        edge = _MAX_EDGE_DEG if source.is_geographic else _MAX_EDGE_M
        if side > edge:
            geometry = shapely.segmentize(geometry, max(edge, side / _MAX_POINTS_PER_SIDE))
    moved = transform_geometry(geometry, crs, target)
    if not np.isfinite(shapely.get_coordinates(moved)).all():
        return Polygon()
    return moved if moved.is_valid else polygons_of(shapely.make_valid(moved))


@lru_cache(maxsize=64)
def _crs_of_text(text: str) -> CRS:
    return CRS.from_user_input(text)


def read_crs(crs: AnyCrs) -> CRS:
    """Return whatever pyproj or rasterio call a CRS as one of pyproj; horizontal part only."""
    if not isinstance(crs, CRS):
        crs = _crs_of_text(crs if isinstance(crs, str) else _text(crs))
    read: CRS = crs
    return read.to_2d() if len(read.axis_info) > 2 else read


def _text(crs: AnyCrs) -> str:
    code = crs.to_epsg() if hasattr(crs, "to_epsg") else None
    if code:
        return f"EPSG:{code}"
    return str(crs.to_wkt() if hasattr(crs, "to_wkt") else CRS.from_user_input(crs).to_wkt())


@lru_cache(maxsize=64)
def _transformer(source: CRS, target: CRS) -> Transformer:
    return Transformer.from_crs(source, target, always_xy=True)


def transform_geometry(geometry: BaseGeometry, crs: AnyCrs, target: AnyCrs) -> BaseGeometry:
    """Return a geometry with its points in another CRS, longitudes from -180° to 180°."""
    transformer: Any = _transformer(read_crs(crs), read_crs(target))
    return shapely.transform(geometry, transformer.transform, interleaved=False)


def split_by_zone(geometry: BaseGeometry, crs: AnyCrs) -> Iterator[tuple[int, BaseGeometry]]:
    """Yield the EPSG code of each UTM zone that a geometry meets, and its part there, projected."""
    degrees = cut(repair(project(repair(geometry, crs), crs, WGS84)))
    west, south, east, north = degrees.bounds
    zones = range(_zone(west), _zone(east) + 1)
    for first, last, base in ((MIN_LATITUDE, 0.0, 32700), (0.0, MAX_LATITUDE, 32600)):
        if north <= first or south >= last:
            continue
        for zone in zones:
            part = degrees.intersection(box(6 * zone - 186, first, 6 * zone - 180, last))
            projected = project(part, WGS84, f"EPSG:{base + zone}")
            if projected.area > MIN_PART_M2:
                yield base + zone, projected


def _zone(longitude: float) -> int:
    return min(max(int((longitude + 180) // 6) + 1, 1), 60)


def _area(projected: BaseGeometry, geometry: BaseGeometry, crs: AnyCrs) -> float:
    """Return the area of a zone, m2; of the ground where the grid's CRS does not reach."""
    if geometry.is_empty or not projected.is_empty:
        return float(projected.area)
    degrees = transform_geometry(geometry, crs, WGS84)
    return abs(float(Geod(ellps="WGS84").geometry_area_perimeter(degrees)[0]))


def _inside(grid: Grid, rim_px: int, crs: AnyCrs) -> BaseGeometry:
    """Return the outline of a grid without its rim in a CRS, its edges bent as they are."""
    if min(grid.shape) <= 2 * rim_px:
        return Polygon()
    rim = rim_px * grid.transform.a
    west, south, east, north = box(*grid.bounds).buffer(-rim, join_style="mitre").bounds
    edge = max(east - west, north - south) / 64
    outline = shapely.segmentize(box(west, south, east, north), edge)
    return repair(transform_geometry(outline, grid.crs, crs), crs)


def _window_around(shapes: Sequence[BaseGeometry], grid: Grid) -> Window | None:
    if not shapes:
        return None
    west, south, east, north = shapely.total_bounds(np.array(shapes, dtype=object))
    x, y = abs(grid.transform.a), abs(grid.transform.e)  # one pixel more: a point has no extent
    return grid.covering((west - x, south - y, east + x, north + y))


def _locate(number: int, point: Point, grid: Grid) -> Row:
    t = grid.transform
    column = min(int((point.x - t.c) / t.a), grid.width - 1)
    row = min(int((point.y - t.f) / t.e), grid.height - 1)
    return np.array([number]), np.array([row * grid.width + column]), np.ones(1)


def _cover(numbers: Sequence[int], shapes: Sequence[BaseGeometry], grid: Grid) -> Iterator[Row]:
    """Yield zone, cell and share of the pixels of each polygon."""
    if not shapes:
        return
    from exactextract import exact_extract  # only who needs zones waits for it
    from exactextract.feature import JSONFeature, JSONFeatureSource
    from exactextract.raster import NumPyRasterSource

    class Shape(JSONFeature):  # type: ignore[misc]  # exactextract is untyped
        def geometry(self) -> bytes:  # four times faster than GeoJSON
            wkb: bytes = self.feature["wkb"]
            return wkb

    class Shapes(JSONFeatureSource):  # type: ignore[misc]
        def __iter__(self) -> Iterator[Shape]:
            return map(Shape, self.src)

    source = NumPyRasterSource(np.zeros(grid.shape, np.int8), *grid.bounds)
    features = [{"wkb": shape.wkb, "properties": {}} for shape in shapes]
    covered = exact_extract(source, Shapes(features), ["cell_id", "coverage"])
    for number, feature in zip(numbers, covered, strict=True):
        cell = np.asarray(feature["properties"]["cell_id"], dtype=np.intp)
        share = np.asarray(feature["properties"]["coverage"], dtype=np.float64)
        keep = share > SLIVER
        yield np.full(int(keep.sum()), number), cell[keep], share[keep]
