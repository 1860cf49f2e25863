"""The tables of the SQLite catalogue, and how a STAC document is laid into them and back.

A fact is stored once: an item is a row of `items` whose columns `geometry`, `props` and `rest`
together are the document. `t0` and `t1` are its time in integer microseconds, and the R*Tree
`items_rtree` holds its box (degrees) and nothing that is not in the row: both are indexes. A row
of `extents` covers the items of its collection; where an item changes its time or place, or goes,
the row goes too, and the next reader has it made anew from all items.
"""

import json
import math
from collections.abc import Iterable

from lai_service.catalogue.cql2_sql import INDEXED
from lai_service.catalogue.items import Document, dump_json, facts_of
from lai_service.catalogue.port import Connection
from lai_service.catalogue.times import from_microseconds
from lai_service.errors import SettingsError

__all__ = [
    "NOTHING",
    "check_version",
    "compute_extent",
    "create_tables",
    "document_of",
    "extent_document",
    "forget_extent",
    "keep_extent",
    "kept_extent",
    "row_of",
    "widen_extent",
]

SCHEMA_VERSION = 2
"""1 had no table of extents; it is added to such a file."""

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
create table if not exists extents (
    collection text primary key, t0, t1, west, east, south, north
) without rowid;
create virtual table if not exists items_rtree using rtree (pk, minx, maxx, miny, maxy);
"""

ItemRow = tuple[str, str, int, int, str | None, str, str]
"""Values of the columns collection, id, t0, t1, geometry, props, rest."""


def check_version(connection: Connection) -> None:
    """Check that a file which cannot be written has the tables of this program.

    Raises:
        SettingsError: it has those of another version.
    """
    (version,) = connection.execute("pragma user_version").fetchone()
    if version != SCHEMA_VERSION:
        raise SettingsError(
            f"the catalogue has schema version {version} and is read-only; start the service once "
            f"where it can be written, so that it becomes version {SCHEMA_VERSION}"
        )


def create_tables(connection: Connection) -> None:
    """Create what is missing.

    Raises:
        SettingsError: the file was written by another version of the schema.
    """
    (version,) = connection.execute("pragma user_version").fetchone()
    if not 0 <= version <= SCHEMA_VERSION:
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


def row_of(document: Document) -> tuple[ItemRow, tuple[float, ...] | None]:
    """Lay an item into columns.

    Args:
        document: a STAC item with its collection; not changed.

    Returns:
        The row, and its box (minx, maxx, miny, maxy) in degrees, None without a geometry.

    Raises:
        InvalidItemError: id, time or geometry cannot be read.
    """
    facts = facts_of(document)
    rest = dict(document)
    properties = rest.pop("properties")
    geometry = rest.pop("geometry")
    row: ItemRow = (
        rest.pop("collection"),
        facts.id,
        facts.start_us,
        facts.end_us,
        None if geometry is None else dump_json(geometry),
        dump_json(properties),
        dump_json(rest),
    )
    if facts.footprint is None:
        return row, None
    west, south, east, north = facts.footprint.bounds
    return row, (west, east, south, north)


def document_of(collection: str, geometry: str | None, props: str, rest: str) -> Document:
    """Put an item together from its columns."""
    document: Document = json.loads(rest)
    document["geometry"] = None if geometry is None else json.loads(geometry)
    document["properties"] = json.loads(props)
    document["collection"] = collection
    return document


Extent = tuple[float, ...]
"""Earliest start and latest end (microseconds since 1970 UTC), west, east, south, north (degrees);
infinite the wrong way round where there is nothing."""
NOTHING: Extent = (math.inf, -math.inf) * 3


def extent_document(extent: Extent) -> Document:
    """Return the parts of a STAC extent that are known."""
    t0, t1, west, east, south, north = extent
    document: Document = {}
    if t0 <= t1:
        document["temporal"] = {"interval": [[from_microseconds(int(t)) for t in (t0, t1)]]}
    if west <= east:
        document["spatial"] = {"bbox": [[west, south, east, north]]}
    return document


def kept_extent(connection: Connection, collection_id: str) -> Extent | None:
    """Return the extent that is kept; None where it has to be made anew."""
    extent: Extent | None = connection.execute(
        "select t0, t1, west, east, south, north from extents where collection = ?",
        (collection_id,),
    ).fetchone()
    return extent


def keep_extent(connection: Connection, collection_id: str, extent: Extent = NOTHING) -> None:
    """Write down the extent of a collection."""
    connection.execute(
        "insert or replace into extents values (?, ?, ?, ?, ?, ?, ?)", (collection_id, *extent)
    )


def widen_extent(connection: Connection, collection_id: str, extents: Iterable[Extent]) -> None:
    """Widen the extent of a collection, where one is kept, by those of some items."""
    edges = list(zip(NOTHING, *extents, strict=True))
    ends = [max(edge) if number % 2 else min(edge) for number, edge in enumerate(edges)]
    connection.execute(
        "update extents set t0 = min(t0, ?), t1 = max(t1, ?), west = min(west, ?), "
        "east = max(east, ?), south = min(south, ?), north = max(north, ?) where collection = ?",
        (*ends, collection_id),
    )


def forget_extent(connection: Connection, collection_id: str) -> None:
    """Mark the extent as unknown: the next reader computes it anew."""
    connection.execute("delete from extents where collection = ?", (collection_id,))


def compute_extent(connection: Connection, collection_id: str) -> Extent:
    """Return the extent of all items of a collection; it takes a while where they are many."""
    found = connection.execute(
        "select min(i.t0), max(i.t1), min(r.minx), max(r.maxx), min(r.miny), max(r.maxy) "
        "from items i left join items_rtree r using (pk) where i.collection = ?",
        (collection_id,),
    ).fetchone()
    return tuple(NOTHING[n] if edge is None else edge for n, edge in enumerate(found))
