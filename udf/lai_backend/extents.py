"""Extents of a request, and how they meet a pixel grid.

Input: the `spatial_extent` and `temporal_extent` of openEO (bounding box or GeoJSON, dates or
date-times, half open). Output: `odc.geo` geometries, grids and instants. A spatial extent is
snapped outward to the pixels it touches; nothing is resampled for it.
"""

import functools
import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import shapely
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from odc.geo.geom import BoundingBox, Geometry
from shapely.geometry import Polygon

from lai_backend.errors import ParameterError
from lai_backend.files import Json

DEGREES = "EPSG:4326"
SNAP_TOLERANCE_PX = 1e-4
"""An extent this close to a pixel edge ends at that edge, so that rounding adds no pixel."""


@dataclass(frozen=True)
class TimeSpan:
    """A half-open span of time, in UTC."""

    start: datetime | None  # first instant inside; None: open
    end: datetime | None  # first instant outside; None: open

    def contains(self, instant: datetime) -> bool:
        """Return whether an instant (with time zone) lies in the span."""
        after_start = self.start is None or instant >= self.start
        return after_start and (self.end is None or instant < self.end)


def parse_temporal_extent(value: Json) -> TimeSpan:
    """Read a `temporal_extent`: null or `[start, end]` of RFC 3339 times, each may be null."""
    if value is None:
        return TimeSpan(None, None)
    start, end = (parse_instant(item) for item in value)
    if start is not None and end is not None and end <= start:
        raise ParameterError(
            f"The temporal extent {list(value)} is empty: the end is exclusive and must be later "
            "than the start."
        )
    return TimeSpan(start, end)


def parse_stac_interval(text: str) -> TimeSpan:
    """Read `datetime` of a STAC request: a time, a day or an interval, whose ends lie inside."""
    start, slash, end = text.partition("/")
    last = end if slash else start
    until = parse_instant(last or "..")
    length = timedelta(days=1) if len(last) == len("2024-06-01") else timedelta.resolution
    return TimeSpan(parse_instant(start or ".."), None if until is None else until + length)


def parse_instant(value: Json) -> datetime | None:
    """Read an RFC 3339 date or date-time; without a zone it is UTC; null and `..` are open."""
    if value is None or value == "..":
        return None
    try:
        instant = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise ParameterError(f"{value!r} is not an RFC 3339 date or date-time.") from None
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


def parse_spatial_extent(value: Json) -> Geometry | None:
    """Read a `spatial_extent`: null, a bounding box (west, …, optional crs) or GeoJSON.

    Returns:
        A geometry with its CRS, or None for everything.
    """
    if value is None:
        return None
    if "type" in value:
        try:
            geometry = _parse_geojson(value)
        except Exception as error:  # odc-geo raises what it meets, AssertionError too
            raise ParameterError(f"spatial_extent is not valid GeoJSON: {error}.") from error
        if geometry.is_empty:
            raise ParameterError("spatial_extent is an empty geometry.")
        return geometry
    missing = [side for side in ("west", "south", "east", "north") if value.get(side) is None]
    if missing:
        raise ParameterError(f"spatial_extent lacks {', '.join(missing)}.")
    crs = parse_crs(value.get("crs") or DEGREES)
    try:
        west, south, east, north = (float(value[s]) for s in ("west", "south", "east", "north"))
    except (TypeError, ValueError):
        raise ParameterError(f"The sides of spatial_extent must be numbers: {value!r}.") from None
    if crs.geographic and -180 <= east < west <= 180 and east + 360 - west < 180:
        east += 360  # across the antimeridian
    if not (west < east < math.inf and south < north < math.inf):
        raise ParameterError(
            f"The spatial extent is empty: west {west}, south {south}, east {east}, north {north}."
        )
    return BoundingBox(west, south, east, north, crs=crs).polygon


def wrapped_boxes(region: Geometry) -> list[tuple[float, float, float, float]]:
    """Return the boxes in degrees, -180 to 180, around a region; two across the antimeridian."""
    geographic = region if region.crs == CRS(DEGREES) else region.to_crs(DEGREES)
    west, south, east, north = geographic.boundingbox.bbox
    if region.crs != geographic.crs and east - west > 180:  # its corners lie on both sides
        points = shapely.get_coordinates(geographic.geom)[:, 0] % 360
        west, east = float(points.min()), float(points.max())
    turns = 360 * math.floor((west + 180) / 360)
    west, east = west - turns, east - turns
    if east <= 180:
        return [(west, south, east, north)]
    return [(west, south, 180.0, north), (-180.0, south, min(east - 360, 180.0), north)]


def stac_boxes(bbox: Sequence[float], margin_deg: float = 0.0) -> list[Polygon]:
    """Return the area of a STAC `bbox` of four numbers; two boxes across the antimeridian."""
    west, south, east, north = bbox
    east += 360 * (east < west)
    around = (west - margin_deg, south - margin_deg, east + margin_deg, north + margin_deg)
    return [shapely.box(*one) for one in wrapped_boxes(BoundingBox(*around, crs=DEGREES).polygon)]


def stac_footprint(region: Geometry) -> tuple[list[float], dict[str, Any]]:
    """Return `bbox` and `geometry` of a region in STAC (RFC 7946, 3.1.9 and 5.2), degrees.

    Across the antimeridian the geometry is a box on either side, and west is larger than east.
    """
    boxes = wrapped_boxes(region)
    (west, south, _, north), (_, _, east, _) = boxes[0], boxes[-1]
    if len(boxes) == 1:
        return [west, south, east, north], dict(region.to_crs(DEGREES).json)
    return [west, south, east, north], shapely.geometry.mapping(
        shapely.union_all([shapely.box(*one) for one in boxes])
    )


def parse_crs(value: Json) -> CRS:
    """Read an EPSG code, WKT or PROJ string; a wrong one is a `ParameterError`."""
    try:
        return CRS(f"EPSG:{value}" if str(value).isdigit() else value)
    except Exception as error:
        raise ParameterError(f"{value!r} is not a coordinate reference system.") from error


def _parse_geojson(value: dict[str, Any], crs: CRS | str = DEGREES) -> Geometry:
    named = (value.get("crs") or {}).get("properties") or {}
    crs = parse_crs(named["name"]) if "name" in named else crs
    if value["type"] == "FeatureCollection":
        parts = [_parse_geojson(feature, crs) for feature in value["features"]]
        return functools.reduce(operator.or_, parts)
    return (
        _parse_geojson(value["geometry"], crs)
        if value["type"] == "Feature"
        else Geometry({key: part for key, part in value.items() if key != "crs"}, crs)
    )


def bounds_in(region: Geometry, crs: CRS) -> BoundingBox:
    """Return the bounds of a region in another projection, in which edges of boxes bend."""
    step = max(region.boundingbox.span_x, region.boundingbox.span_y) / 32
    return (region if region.crs == crs else region.to_crs(crs, resolution=step)).boundingbox


def snap_outward(grid: GeoBox, region: Geometry, margin_px: int = 0) -> GeoBox:
    """Return the pixels that a region in any CRS touches, of the infinite grid that `grid` is of.

    `margin_px` further pixels are added on every side.
    """
    assert grid.crs is not None  # grids are made with a CRS
    area, pixel = bounds_in(region, grid.crs), grid.affine
    columns = sorted((edge - pixel.c) / pixel.a for edge in (area.left, area.right))
    rows = sorted((edge - pixel.f) / pixel.e for edge in (area.top, area.bottom))
    left = math.floor(columns[0] + SNAP_TOLERANCE_PX) - margin_px
    top = math.floor(rows[0] + SNAP_TOLERANCE_PX) - margin_px
    right = max(math.ceil(columns[1] - SNAP_TOLERANCE_PX) + margin_px, left + 1)
    bottom = max(math.ceil(rows[1] - SNAP_TOLERANCE_PX) + margin_px, top + 1)
    return GeoBox((bottom - top, right - left), grid.translate_pix(left, top).affine, grid.crs)
