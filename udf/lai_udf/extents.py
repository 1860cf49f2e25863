"""What a process graph loads: boxes with a margin, and the box of a polygon."""

import math
from collections.abc import Mapping
from typing import Any

from shapely.geometry import mapping, shape
from shapely.geometry.base import BaseGeometry, BaseMultipartGeometry

from lai_udf.errors import GeometryError, LaiGraphError
from lai_udf.longitudes import crosses_antimeridian
from lai_udf.predict import HALO_PX
from lai_udf.utm import split_by_zone
from lai_udf.zones import repair

PIXEL_M = 20.0
"""Side of a pixel, m."""
METRES_PER_DEGREE = 111_320.0
"""Length of one degree of latitude, m."""


def buffer_extent(
    extent: Mapping[str, Any], margin_px: int = HALO_PX, pixel_m: float = PIXEL_M
) -> dict[str, Any]:
    """Widen a bounding box by `margin_px` pixels on every side.

    Args:
        extent: west, south, east, north; degrees (west > east across ±180°), or metres where
            `crs` names another EPSG code than 4326.
        margin_px: pixels to add on every side.
        pixel_m: side of a pixel, m.

    Returns:
        The wider box with the same `crs`.

    Raises:
        LaiGraphError: a side is missing or the box is empty.
    """
    sides = ("west", "south", "east", "north")
    if missing := [side for side in sides if side not in extent]:
        raise LaiGraphError(f"spatial extent lacks {', '.join(missing)}: give {', '.join(sides)}")
    west, south, east, north = (float(extent[side]) for side in sides)
    in_degrees = str(extent.get("crs", 4326)).upper().removeprefix("EPSG:") == "4326"
    crosses = in_degrees and crosses_antimeridian(west, east)
    if not ((west < east or crosses) and south < north):
        raise LaiGraphError(f"spatial extent {dict(extent)} is empty: west < east, south < north")
    margin_x = margin_y = margin_px * pixel_m
    if in_degrees:
        margin_y /= METRES_PER_DEGREE
        widest = min(max(abs(south), abs(north)) + margin_y, 89.0)
        margin_x = margin_y / math.cos(math.radians(widest))
    return dict(extent) | {
        "west": west - margin_x,
        "south": south - margin_y,
        "east": east + margin_x,
        "north": north + margin_y,
    }


def read_geometry(geometry: Mapping[str, Any] | BaseGeometry) -> BaseGeometry:
    """Return a valid polygon of GeoJSON (a Feature and a FeatureCollection, too) or shapely.

    Args:
        geometry: degrees.

    Raises:
        LaiGraphError: it is none, is broken beyond repair, or lies in two UTM zones.
    """
    try:
        polygon = repair(geometry if isinstance(geometry, BaseGeometry) else _shape(geometry))
    except (GeometryError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise LaiGraphError(
            f"this is no polygon ({error})",
            parameter="geometry",
            expected="a polygon, as GeoJSON or of shapely, in degrees",
        ) from error
    zones = sorted({code for code, _ in split_by_zone(polygon, "EPSG:4326")})
    if len(zones) != 1:
        raise LaiGraphError(
            f"the polygon lies in {len(zones)} UTM zones ({', '.join(map(str, zones))}): a "
            "back-end would resample the pixels of one; `lai-udf produce` makes a job for each",
            parameter="geometry",
            expected="a polygon within one zone",
        )
    return polygon


def _shape(document: Mapping[str, Any]) -> BaseGeometry:
    kind = document["type"]
    if kind == "FeatureCollection":
        shapes = [_shape(feature) for feature in document["features"]]
        parts = [
            part
            for one in shapes
            for part in (one.geoms if isinstance(one, BaseMultipartGeometry) else [one])
        ]
        polygons = [mapping(part)["coordinates"] for part in parts]
        return shape({"type": "MultiPolygon", "coordinates": polygons})
    return _shape(document["geometry"]) if kind == "Feature" else shape(dict(document))


def box_of(polygon: BaseGeometry) -> dict[str, float]:
    """Return the bounding box of a polygon in degrees, as openEO has it."""
    west, south, east, north = polygon.bounds
    return {"west": west, "south": south, "east": east, "north": north}
