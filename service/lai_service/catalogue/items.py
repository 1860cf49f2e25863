"""Items as they come in: their id, validity, time and footprint, checked before they are stored.

Times are integers: microseconds since 1970 in UTC, what the catalogue compares and stores.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import shapely
from shapely.geometry.base import BaseGeometry

from lai_service.errors import InvalidItemError
from lai_stac import validation
from lai_stac.errors import LaiStacError

DAY_US = 86_400_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_microseconds(text: str) -> int:
    """Read an RFC 3339 time or date; one without a zone is UTC.

    Args:
        text: such as `2024-06-21T10:36:31.024Z` or `2024-06-21`.

    Returns:
        Microseconds since 1970-01-01T00:00:00Z.

    Raises:
        ValueError: the text is neither a time nor a date.
    """
    try:
        time = datetime.fromisoformat(text.strip().upper())
    except ValueError:
        raise ValueError(f"{text!r} is not an RFC 3339 time or date") from None
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    return (time - _EPOCH) // timedelta(microseconds=1)


def from_microseconds(value: int) -> str:
    """Write microseconds since 1970 as RFC 3339, without a fraction where there is none."""
    return (_EPOCH + timedelta(microseconds=value)).isoformat().replace("+00:00", "Z")


def interval_from_text(text: str | None) -> tuple[int | None, int | None]:
    """Read the `datetime` parameter of a STAC search.

    Args:
        text: one time, or `start/end` where either end may be `..` or empty.

    Returns:
        Start and end in microseconds, inclusive; None is open.

    Raises:
        ValueError: more than one slash, an unreadable end, both ends open, or start after end.
    """
    if text is None:
        return None, None
    parts = text.split("/")
    if len(parts) > 2:
        raise ValueError(f"datetime {text!r} has more than one slash")
    ends = [None if part in ("", "..") else to_microseconds(part) for part in parts]
    start, end = (ends[0], ends[-1])
    if start is None and end is None:
        raise ValueError(f"datetime {text!r} is open at both ends; leave the parameter out")
    if start is not None and end is not None and start > end:
        raise ValueError(f"datetime {text!r} starts after it ends")
    return start, end


Document = dict[str, Any]  # a STAC item or collection, as `json.loads` gives it


@dataclass(frozen=True)
class ItemFacts:
    """What indexes are made of."""

    id: str  # its id
    start_us: int  # `start_datetime` or `datetime`, microseconds since 1970 UTC
    end_us: int  # `end_datetime` or `datetime`, microseconds since 1970 UTC
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


def validate_document(
    document: Document, kind: Literal["item", "collection"], unknown: Literal["refuse", "skip"]
) -> None:
    """Check a document against the core, our extension and the others it declares.

    Args:
        document: STAC 1.1, or 1.0, which is checked as 1.1: that admits what 1.0 admits.
        kind: what it has to be.
        unknown: what to do about an extension without a local schema.

    Raises:
        InvalidItemError: naming the first field that breaks a rule.
    """
    if str(document.get("stac_version", "")).startswith("1.0."):
        document = {**document, "stac_version": "1.1.0"}
    check = validation.validate_item if kind == "item" else validation.validate_collection
    try:
        check(document, unknown=unknown)
    except LaiStacError as error:
        text = " ".join(str(error).split())
        raise InvalidItemError(text if len(text) <= 500 else f"{text[:497]}...") from error


_FORBIDDEN = frozenset("/\\:?#[]@!$&'\"()*+,;=%<>{}|^`\x00\n\r\t ")


def checked_id(value: object, what: str) -> str:
    """Return an id that can stand in an address and in a folder name.

    Raises:
        InvalidItemError: empty, longer than 200 characters, `.`-led, or with a reserved character.
    """
    if not isinstance(value, str) or value.startswith("."):
        raise InvalidItemError(f"{what} needs an id: a text that does not start with a dot")
    if not 0 < len(value.encode("utf-8", "surrogatepass")) <= 200:  # a file name has 255 at most
        raise InvalidItemError(f"{what} needs an id of 1 to 200 bytes")
    bad = sorted(one for one in set(value) if one in _FORBIDDEN or not one.isprintable())
    if bad:
        raise InvalidItemError(f"{what} id {value!r} holds {bad[0]!r}; use letters, digits, _ - .")
    return value
