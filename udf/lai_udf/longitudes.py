"""Shapes in degrees across ±180°: unrolled for arithmetic, cut for GeoJSON.

The longitudes of a shape that crosses the antimeridian are written in three ways: cut there into
parts (RFC 7946), running on beyond it (179.9 to 180.1), or with a jump (179.9 to -179.9). All of
them are read here; what is returned is unrolled or cut, never with a jump.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.affinity import translate
from shapely.geometry import MultiPolygon, Point, Polygon, box
from shapely.geometry.base import BaseGeometry, BaseMultipartGeometry

Bounds = tuple[float, float, float, float]


def unroll(geometry: BaseGeometry) -> BaseGeometry:
    """Return a geometry, degrees, whose rings run on beyond ±180° where they jumped.

    A step of more than 180° of longitude between two points counts as a jump, except where taking
    it for one leaves nothing of the ring, or goes once round a pole: a box from -180° to 180° is
    the whole world.
    """
    west, _, east, _ = geometry.bounds
    if not east - west > 180:
        return geometry
    if isinstance(geometry, Polygon):
        return _unroll_polygon(geometry)
    if isinstance(geometry, BaseMultipartGeometry):
        kind: Any = type(geometry)
        return kind([unroll(part) for part in geometry.geoms])  # type: ignore[no-any-return]
    return geometry


def cut(geometry: BaseGeometry) -> BaseGeometry:
    """Return polygons or a point, degrees, cut at ±180° (RFC 7946); they may run on by one turn."""
    west, south, east, north = geometry.bounds
    if geometry.is_empty or (west >= -180 and east <= 180):
        return geometry
    if isinstance(geometry, Point):
        return Point((geometry.x + 180) % 360 - 180, geometry.y)
    turns = [(shift, box(-180 + shift, south, 180 + shift, north)) for shift in (-360, 0, 360)]
    pieces = [translate(geometry.intersection(world), -shift) for shift, world in turns]
    return polygons_of(shapely.geometrycollections(pieces))


def polygons_of(geometry: BaseGeometry) -> BaseGeometry:
    """Return the polygons of a geometry, as Polygon or MultiPolygon; its lines and points go."""
    parts = list(_iterate_polygons(geometry))
    return parts[0] if len(parts) == 1 else MultiPolygon(parts)


def bounding_box(geometry: BaseGeometry) -> Bounds:
    """Return west, south, east, north of a geometry, degrees; west > east across ±180°.

    Of all boxes that hold it, the narrowest: parts on either side of ±180° are taken round that
    side where that is shorter.
    """
    west, south, east, north = geometry.bounds
    if west >= -180 and east <= 180 and east - west <= 180:
        return west, south, east, north
    parts = [part.bounds for part in shapely.get_parts(cut(geometry))]
    west, east = _narrowest([(part[0], part[2]) for part in parts])
    return west, south, east, north


def flat_box(numbers: Sequence[float]) -> Bounds:
    """Return a box of four or six numbers, as STAC and GeoJSON write it, without its heights."""
    half = len(numbers) // 2
    return numbers[0], numbers[1], numbers[half], numbers[half + 1]


def enclosing_box(boxes: Iterable[Bounds]) -> Bounds:
    """Return the box that holds some boxes, in degrees; west > east across ±180° (RFC 7946, 5.2).

    It goes across ±180° where boxes do, or lie at it on either side, and that is narrower.

    Args:
        boxes: at least one: west, south, east, north; west > east across ±180°.
    """
    parts = [part for box in boxes for part in split_box(box)]
    west, south = (min(part[edge] for part in parts) for edge in (0, 1))
    east, north = (max(part[edge] for part in parts) for edge in (2, 3))
    if west <= -180 and east >= 180:
        west, east = _narrowest([(part[0], part[2]) for part in parts])
    return west, south, east, north


def crosses_antimeridian(west: float, east: float) -> bool:
    """Return whether a box with west > east goes across ±180° and is not merely turned round.

    The sides of a box that were mixed up would span nearly the whole world.
    """
    return east < west and east + 360 - west < 180


def split_box(bounds: Bounds) -> list[Bounds]:
    """Return a box as one or two within ±180°, across which west > east, or an edge lies beyond."""
    west, south, east, north = bounds
    if -180 <= west <= east <= 180:
        return [bounds]
    if -180 < east < west < 180:
        return [(west, south, 180.0, north), (-180.0, south, east, north)]
    if east < west:
        east += 360
    if east - west >= 360:
        return [(-180.0, south, 180.0, north)]
    west, east = (west + 180) % 360 - 180, (west + 180) % 360 - 180 + (east - west)
    if east <= 180:
        return [(west, south, east, north)]
    return [(west, south, 180.0, north), (-180.0, south, east - 360, north)]


def box_holds(outer: Bounds, inner: Bounds, tolerance: float = 0.0) -> bool:
    """Return whether a box in degrees holds another, up to a tolerance; either may cross ±180°."""
    return all(
        any(
            own[0] - tolerance <= part[0] and part[2] <= own[2] + tolerance
            for own in split_box(outer)
        )
        and outer[1] - tolerance <= part[1]
        and part[3] <= outer[3] + tolerance
        for part in split_box(inner)
    )


def _narrowest(spans: list[tuple[float, float]]) -> tuple[float, float]:
    """Return the west and east that hold all spans, leaving out the widest gap between them."""
    ordered = sorted(spans)
    merged = [ordered[0]]
    for west, east in ordered[1:]:
        if west <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(east, merged[-1][1]))
        else:
            merged.append((west, east))
    starts = [span[0] for span in merged]
    gaps = [
        after - span[1] for span, after in zip(merged, [*starts[1:], starts[0] + 360], strict=True)
    ]
    last = int(np.argmax(gaps))  # the widest gap follows this span
    return merged[(last + 1) % len(merged)][0], merged[last][1]


def _iterate_polygons(geometry: BaseGeometry) -> Iterator[Polygon]:
    if isinstance(geometry, Polygon):
        if geometry.area > 0:
            yield geometry
    elif isinstance(geometry, BaseMultipartGeometry):
        for part in geometry.geoms:
            yield from _iterate_polygons(part)


def _unroll_polygon(polygon: Polygon) -> Polygon:
    shell = _unroll_ring(polygon.exterior.coords)
    if np.ptp(shell[:, 0]) < 1e-9 or abs(shell[0, 0] - shell[-1, 0]) > 180:
        return polygon
    holes = [_unroll_ring(ring.coords) for ring in polygon.interiors]
    west = shell[:, 0].min()  # a hole starts anywhere: bring it to the turn of its shell
    for hole in holes:
        hole[:, 0] += 360 * np.ceil((west - hole[0, 0]) / 360)
    return Polygon(shell, holes)


def _unroll_ring(coordinates: Any) -> NDArray[np.float64]:  # noqa: ANN401  (shapely's sequence)
    points = np.asarray(coordinates, dtype=np.float64)[:, :2].copy()
    points[:, 0] += 360 * np.round((np.unwrap(points[:, 0], period=360) - points[:, 0]) / 360)
    return points
