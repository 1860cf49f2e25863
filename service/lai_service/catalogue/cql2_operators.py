"""Temporal, spatial and array operators of CQL2: their meaning, the same for both databases.

Sources: OGC 21-065r2, sections 7.6 (spatial), 7.7 (temporal, after Allen) and 7.8 (array).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import shapely
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from lai_service.catalogue.times import DAY_US, to_microseconds
from lai_service.errors import FilterError

__all__ = [
    "ARRAY",
    "EVER_US",
    "SPATIAL",
    "TEMPORAL",
    "geometry_of",
    "instant_of",
    "read_geometry",
    "sides_of",
]

SPATIAL = {
    "s_intersects": "intersects",
    "s_disjoint": "disjoint",
    "s_equals": "equals",
    "s_touches": "touches",
    "s_crosses": "crosses",
    "s_overlaps": "overlaps",
    "s_within": "within",
    "s_contains": "contains",
}
"""Operator to predicate, of the footprint with a literal, as shapely and PostGIS name it."""
_SWAPPED = {"within": "contains", "contains": "within"}

ARRAY = ("a_contains", "a_containedby", "a_equals", "a_overlaps")
"""Operators between two arrays, which are taken as sets."""

TEMPORAL = {
    "t_after": "{a0} > {b1}",
    "t_before": "{a1} < {b0}",
    "t_contains": "{a0} < {b0} and {a1} > {b1}",
    "t_disjoint": "({a1} < {b0} or {a0} > {b1})",
    "t_during": "{a0} > {b0} and {a1} < {b1}",
    "t_equals": "{a0} = {b0} and {a1} = {b1}",
    "t_finishedby": "{a0} < {b0} and {a1} = {b1}",
    "t_finishes": "{a0} > {b0} and {a1} = {b1}",
    "t_intersects": "{a0} <= {b1} and {a1} >= {b0}",
    "t_meets": "{a1} = {b0}",
    "t_metby": "{a0} = {b1}",
    "t_overlappedby": "{a0} > {b0} and {a0} < {b1} and {a1} > {b1}",
    "t_overlaps": "{a0} < {b0} and {a1} > {b0} and {a1} < {b1}",
    "t_startedby": "{a0} = {b0} and {a1} > {b1}",
    "t_starts": "{a0} = {b0} and {a1} < {b1}",
}
"""Operator to condition; `a0` and `a1` are start and end of its first argument."""

EVER_US = 4_000 * 366 * DAY_US
"""So far from 1970 lies an open end of an interval, microseconds."""


def sides_of(predicate: str, args: Sequence[Any], operator: str) -> tuple[str, Mapping[str, Any]]:
    """Sort the arguments of a spatial operator.

    Returns:
        The predicate of the footprint with the literal, and the literal.

    Raises:
        FilterError: they are not the property `geometry` and one geometry.
    """
    footprints = [number for number, arg in enumerate(args) if _is_footprint(arg)]
    if len(args) != 2 or len(footprints) != 1 or not isinstance(args[1 - footprints[0]], Mapping):
        raise FilterError(f"{operator} compares the property 'geometry' with one geometry")
    literal = args[1 - footprints[0]]
    return (_SWAPPED.get(predicate, predicate) if footprints[0] else predicate), literal


def _is_footprint(node: object) -> bool:
    if not isinstance(node, Mapping):
        return False
    return str(node.get("property")).removeprefix("properties.") == "geometry"


def geometry_of(node: Mapping[str, Any]) -> BaseGeometry:
    """Read a geometry or a box of CQL2 JSON.

    Raises:
        FilterError: it is not valid.
    """
    try:
        return read_geometry(node)
    except ValueError as error:
        raise FilterError(f"the filter holds a geometry that is not valid: {error}") from error


def read_geometry(node: Mapping[str, Any]) -> BaseGeometry:
    """Read GeoJSON, or a box under `bbox`; one with west > east crosses the antimeridian.

    Raises:
        ValueError: it is not valid.
    """
    try:
        if "bbox" in node and "type" not in node:
            box = [float(number) for number in node["bbox"]]
            half = len(box) // 2
            west, south, east, north = box[0], box[1], box[half], box[half + 1]
            if south > north:
                raise ValueError("its south lies above its north")
            geometry: BaseGeometry = (
                shapely.box(west, south, east, north)
                if west <= east
                else shapely.union(
                    shapely.box(west, south, 180, north), shapely.box(-180, south, east, north)
                )
            )
        else:
            geometry = shape(dict(node))
        if geometry.is_empty or not geometry.is_valid:
            raise ValueError("empty" if geometry.is_empty else shapely.is_valid_reason(geometry))
    except Exception as error:  # shapely raises many kinds for malformed GeoJSON
        raise ValueError(str(error)) from error
    return geometry


def instant_of(node: object, *, last: bool) -> int:
    """Read an end of time: a timestamp, a day (its first or last microsecond), or `..`.

    Args:
        node: text, `{"timestamp": ...}` or `{"date": ...}`.
        last: read a day as its end, and `..` as never ending.

    Returns:
        Microseconds since 1970 UTC.

    Raises:
        FilterError: it is no time.
    """
    text = node
    if isinstance(node, Mapping):
        text = node.get("timestamp", node.get("date"))
    if text in ("..", ""):
        return EVER_US if last else -EVER_US
    if not isinstance(text, str):
        raise FilterError(f"expected a time in RFC 3339, found {str(node)[:80]}")
    try:
        moment = to_microseconds(text)
    except ValueError as error:
        raise FilterError(str(error)) from error
    is_day = "T" not in text.upper() and " " not in text.strip()
    return moment + DAY_US - 1 if is_day and last else moment
