"""The tables of the SQLite catalogue, and how a STAC document is laid into them and back.

A fact is stored once: an item is a row of `items` whose columns `geometry`, `props` and `rest`
together are the document. `t0` and `t1` are its time in integer microseconds, and the R*Tree
`items_rtree` holds its box (degrees) and nothing that is not in the row: both are indexes.
"""

import json
import sqlite3
from typing import Any

import shapely

from lai_service.catalogue import Document
from lai_service.cql2_sql import INDEXED
from lai_service.errors import InvalidItemError, SettingsError
from lai_service.times import to_microseconds

__all__ = ["ItemRow", "create_tables", "document_of", "dump_json", "row_of"]

SCHEMA_VERSION = 1

_TABLES = """
create table if not exists collections (
    id text primary key,
    doc text not null
) without rowid;
create table if not exists items (
    pk integer primary key,
    collection text not null references collections (id),
    id text not null,
    t0 integer not null,
    t1 integer not null,
    geometry text,
    props text not null,
    rest text not null,
    unique (collection, id)
);
create index if not exists items_by_time on items (t0 desc, pk desc);
create index if not exists items_by_collection_time on items (collection, t0 desc, pk desc);
create virtual table if not exists items_rtree using rtree (pk, minx, maxx, miny, maxy);
"""

ItemRow = tuple[str, str, int, int, str | None, str, str]
"""Values of the columns collection, id, t0, t1, geometry, props, rest."""


def create_tables(connection: sqlite3.Connection) -> None:
    """Create what is missing.

    Raises:
        SettingsError: the file was written by another version of the schema.
    """
    (version,) = connection.execute("pragma user_version").fetchone()
    if version not in (0, SCHEMA_VERSION):
        raise SettingsError(
            f"the catalogue has schema version {version}, this program reads {SCHEMA_VERSION}; "
            "export it with the program that wrote it and publish it again"
        )
    for statement in _TABLES.split(";"):
        connection.execute(statement)
    for name in INDEXED:
        index = name.replace(":", "_")
        connection.execute(
            f"create index if not exists items_by_{index} "
            f"on items (json_extract(props, '$.\"{name}\"'))"
        )
    connection.execute(f"pragma user_version = {SCHEMA_VERSION}")


def dump_json(value: object) -> str:
    """Write compact JSON with sorted keys, so that equal documents are equal texts.

    Raises:
        InvalidItemError: the value holds NaN or an infinity, which JSON does not have.
    """
    try:
        return json.dumps(
            value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True
        )
    except ValueError as error:
        raise InvalidItemError("the document holds a number that is not finite") from error


def row_of(collection_id: str, document: Document) -> tuple[ItemRow, tuple[float, ...] | None]:
    """Lay an item into columns.

    Args:
        collection_id: collection the row belongs to.
        document: a STAC item; not changed.

    Returns:
        The row, and its box (minx, maxx, miny, maxy) in degrees, None without a geometry.

    Raises:
        InvalidItemError: id, time or geometry cannot be read.
    """
    rest = dict(document)
    properties = rest.pop("properties", None)
    geometry = rest.pop("geometry", None)
    rest.pop("collection", None)
    item_id = rest.get("id")
    if not isinstance(item_id, str) or not item_id or not isinstance(properties, dict):
        raise InvalidItemError("an item needs a text 'id' and an object 'properties'")
    t0, t1 = _times(item_id, properties)
    box = _box(item_id, geometry)
    row: ItemRow = (
        collection_id,
        item_id,
        t0,
        t1,
        None if geometry is None else dump_json(geometry),
        dump_json(properties),
        dump_json(rest),
    )
    return row, box


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


def _box(item_id: str, geometry: object) -> tuple[float, ...] | None:
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
    return west, east, south, north


def document_of(collection: str, geometry: str | None, props: str, rest: str) -> Document:
    """Put an item together from its columns."""
    document: Document = json.loads(rest)
    document["geometry"] = None if geometry is None else json.loads(geometry)
    document["properties"] = json.loads(props)
    document["collection"] = collection
    return document
