"""What a catalogue reads out of an item before it stores it: id, time and footprint."""

import json
from dataclasses import dataclass
from typing import Any

import shapely
from shapely.geometry.base import BaseGeometry

from lai_service.catalogue.times import to_microseconds
from lai_service.errors import InvalidItemError

__all__ = ["Document", "ItemFacts", "dump_json", "facts_of"]

Document = dict[str, Any]
"""A STAC item or collection, as `json.loads` gives it."""


@dataclass(frozen=True)
class ItemFacts:
    """What indexes are made of."""

    id: str
    """Its id."""
    start_us: int
    """`start_datetime` or `datetime`, microseconds since 1970 UTC."""
    end_us: int
    """`end_datetime` or `datetime`, microseconds since 1970 UTC."""
    footprint: BaseGeometry | None
    """Its geometry, longitude and latitude in degrees; None where it has none."""


def facts_of(document: Document) -> ItemFacts:
    """Read id, time and footprint of a STAC item.

    Raises:
        InvalidItemError: one of them cannot be read or makes no sense.
    """
    item_id, properties = document.get("id"), document.get("properties")
    if not isinstance(item_id, str) or not item_id or not isinstance(properties, dict):
        raise InvalidItemError("an item needs a text 'id' and an object 'properties'")
    start, end = _times(item_id, properties)
    _check_bbox(item_id, document.get("bbox"))
    return ItemFacts(item_id, start, end, _footprint(item_id, document.get("geometry")))


def _check_bbox(item_id: str, bbox: object) -> None:
    """Refuse a box upside down; one with its west above its east crosses the antimeridian."""
    if isinstance(bbox, list) and len(bbox) in (4, 6) and bbox[1] > bbox[len(bbox) // 2 + 1]:
        raise InvalidItemError(f"item {item_id} has a bbox {bbox} with its south above its north")


def _times(item_id: str, properties: dict[str, Any]) -> tuple[int, int]:
    start = properties.get("start_datetime") or properties.get("datetime")
    end = properties.get("end_datetime") or properties.get("datetime")
    if not isinstance(start, str) or not isinstance(end, str):
        raise InvalidItemError(f"item {item_id} has neither datetime nor start and end")
    try:
        t0, t1 = to_microseconds(start), to_microseconds(end)
    except ValueError as error:
        raise InvalidItemError(f"item {item_id}: {error}") from error
    if t0 > t1:
        raise InvalidItemError(f"item {item_id} starts at {start}, after it ends at {end}")
    return t0, t1


def _footprint(item_id: str, geometry: object) -> BaseGeometry | None:
    if geometry is None:
        return None
    try:
        shape = shapely.from_geojson(json.dumps(geometry))
    except (shapely.errors.GEOSException, ValueError, TypeError) as error:
        raise InvalidItemError(f"item {item_id} has a geometry that is not GeoJSON") from error
    if shape is None or shape.is_empty or not shape.is_valid:
        reason = "empty" if shape is None or shape.is_empty else shapely.is_valid_reason(shape)
        raise InvalidItemError(f"item {item_id} has a geometry that is not valid: {reason}")
    west, south, east, north = shape.bounds
    if west < -180 or east > 180 or south < -90 or north > 90:
        raise InvalidItemError(
            f"item {item_id} has a geometry outside longitude ±180, latitude ±90; "
            "it must be in degrees (EPSG:4326)"
        )
    return shape


def dump_json(value: object) -> str:
    """Write compact JSON with sorted keys, so that equal documents are equal texts.

    Raises:
        InvalidItemError: the value holds NaN or an infinity, which JSON does not have, or half of a
            surrogate pair, which is no text.
    """
    try:
        text = json.dumps(
            value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True
        )
    except ValueError as error:
        raise InvalidItemError("the document holds a number that is not finite") from error
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidItemError("the document holds half a surrogate pair") from error
    return text
