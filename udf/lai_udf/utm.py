"""The UTM zones that a geometry meets."""

from collections.abc import Iterator

from shapely.geometry import box
from shapely.geometry.base import BaseGeometry

from lai_udf.longitudes import cut
from lai_udf.zones import project, repair

MIN_PART_M2 = 1.0
"""Slivers of an area beyond the border of a zone are left out."""
MIN_LATITUDE, MAX_LATITUDE = -80.0, 84.0
"""Where UTM ends."""


def split_by_zone(geometry: BaseGeometry, crs: object) -> Iterator[tuple[int, BaseGeometry]]:
    """Yield the EPSG code of each UTM zone that a geometry meets, and its part there, projected."""
    degrees = cut(repair(project(repair(geometry, crs), crs, "EPSG:4326")))
    west, south, east, north = degrees.bounds
    zones = range(_zone(west), _zone(east) + 1)
    for first, last, base in ((MIN_LATITUDE, 0.0, 32700), (0.0, MAX_LATITUDE, 32600)):
        if north <= first or south >= last:
            continue
        for zone in zones:
            part = degrees.intersection(box(6 * zone - 186, first, 6 * zone - 180, last))
            projected = project(part, "EPSG:4326", f"EPSG:{base + zone}")
            if projected.area > MIN_PART_M2:
                yield base + zone, projected


def _zone(longitude: float) -> int:
    return min(max(int((longitude + 180) // 6) + 1, 1), 60)
