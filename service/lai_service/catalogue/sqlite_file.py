"""The SQLite file: its connections, its tables, and how a STAC document is laid into them and back.

A connection belongs to the request that uses it, not to a thread: web servers make and end threads
all day, and each would leave an open file behind. Each has the SQL functions that SQLite lacks:
`geometry_is`, `array_is`, `fold` and `to_us`.

A fact is stored once: an item is a row of `items` whose columns `geometry`, `props` and `rest`
together are the document. `t0` and `t1` are its time in integer microseconds, and the R*Tree
`items_rtree` holds its box (degrees) and nothing that is not in the row: both are indexes. A row
of `extents` covers the items of its collection; where an item changes its time or place, or goes,
the row goes too, and the next reader has it made anew from all items.
"""

import json
import math
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import shapely
from pydantic_core import from_json
from shapely.geometry.base import BaseGeometry

from lai_service.catalogue.cql2 import ARRAY, CONVERSE
from lai_service.catalogue.cql2_sql import INDEXED
from lai_service.catalogue.items import (
    Document,
    dump_json,
    facts_of,
    from_microseconds,
    to_microseconds,
)
from lai_service.catalogue.port import Connection
from lai_service.errors import CatalogueBusyError, SettingsError, StorageFullError
from lai_udf.longitudes import Bounds, bounding_box, enclosing_box

_KEPT = 8  # so many idle connections stay open


class Connections:
    """The connections of one process to one file.

    Args:
        path: the file; its folder exists.
        busy_timeout_s: how long a writer waits for another.
        read_only: open what is there, and write nothing, neither beside it.
    """

    def __init__(self, path: Path, busy_timeout_s: float, *, read_only: bool = False) -> None:
        self._read_only = read_only
        self._path = path
        self._timeout = busy_timeout_s
        self._lock = threading.Lock()
        self._idle: list[sqlite3.Connection] = []

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection; do not use it after the block.

        Raises:
            CatalogueBusyError: the file stayed locked.
            StorageFullError: there is no space for what was written.
        """
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        if connection is None:
            connection = self._open()
        try:
            yield connection
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise CatalogueBusyError(
                    f"another writer held the catalogue for more than {self._timeout:g} s; "
                    "try again"
                ) from error
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_FULL:
                raise StorageFullError("the disk is full; nothing was stored") from error
            raise
        finally:
            with self._lock:
                keep = len(self._idle) < _KEPT
                if keep:
                    self._idle.append(connection)
            if not keep:
                connection.close()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection inside a transaction: all of the block is stored, or nothing.

        Raises:
            CatalogueBusyError: another writer took longer than the busy timeout.
        """
        with self.reading() as connection:
            connection.execute("begin immediate")
            try:
                yield connection
                connection.execute("commit")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("rollback")
                raise

    def close(self) -> None:
        """Close the idle connections: all that are not in use."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _open(self) -> sqlite3.Connection:
        mode = ""
        if self._read_only:
            # Readers of a WAL file write its index beside it; where they cannot, nobody writes.
            mode = "?mode=ro" if os.access(self._path.parent, os.W_OK) else "?immutable=1"
        connection = sqlite3.connect(
            f"{self._path.absolute().as_uri()}{mode}",
            uri=True,
            timeout=self._timeout,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            if not self._read_only:
                connection.execute("pragma journal_mode = wal")
                connection.execute("pragma synchronous = full")  # what is acknowledged survives
                connection.execute("pragma foreign_keys = on")
            for function, count in _FUNCTIONS.items():
                name = function.__name__.removeprefix("_")
                connection.create_function(name, count, function, deterministic=True)
        except BaseException:
            connection.close()
            raise
        return connection


def _geometry_is(geojson: str | None, wkb: bytes, predicate: str) -> bool | None:
    """Return whether a GeoJSON geometry stands in a relation to a WKB one; None without one."""
    if geojson is None:
        return None
    converse = getattr(shapely, CONVERSE.get(predicate, predicate))
    return bool(converse(_prepared(wkb), shapely.from_geojson(geojson)))  # the prepared one first


def _array_is(first: object, second: object, operator: str) -> bool | None:
    """Compare two JSON arrays as sets; None where one of them is no array."""
    sets = [_set_of(text) for text in (first, second)]
    if sets[0] is None or sets[1] is None:
        return None
    a, b = sets[0], sets[1]
    answers = (a >= b, a <= b, a == b, not a.isdisjoint(b))
    return dict(zip(ARRAY, answers, strict=True))[operator]


def _set_of(text: object) -> frozenset[str] | None:
    try:
        values = json.loads(text) if isinstance(text, str) else None
    except ValueError:
        return None
    if not isinstance(values, list):
        return None
    return frozenset(json.dumps(value, sort_keys=True) for value in values)


def _fold(value: object) -> str | None:
    return value.lower() if isinstance(value, str) else None


@lru_cache(maxsize=64)
def _prepared(wkb: bytes) -> shapely.Geometry:
    geometry = shapely.from_wkb(wkb)
    shapely.prepare(geometry)
    return geometry


def _to_us(value: object) -> int | None:
    if not isinstance(value, str):
        return None
    try:
        return to_microseconds(value)
    except ValueError:
        return None


_FUNCTIONS: dict[Callable[..., str | int | None], int] = {
    _geometry_is: 3,
    _array_is: 3,
    _fold: 1,
    _to_us: 1,
}
"""Function of SQL, named like it, to the number of its arguments."""


SCHEMA_VERSION = 2  # 1 had no table of extents; it is added to such a file

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
    # Releases that took -180 to 180 for the box of what lies on both sides of ±180° kept it.
    connection.execute("delete from extents where east - west >= 360")
    connection.execute(f"pragma user_version = {SCHEMA_VERSION}")


def row_of(document: Document) -> tuple[ItemRow, BaseGeometry | None]:
    """Lay an item into columns.

    Args:
        document: a STAC item with its collection; not changed.

    Returns:
        The row, and its footprint in degrees.

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
    return row, facts.footprint


def document_of(collection: str, geometry: str | None, props: str, rest: str) -> Document:
    """Put an item together from its columns."""
    document: Document = from_json(rest)  # twice as fast as `json`
    document["geometry"] = None if geometry is None else from_json(geometry)
    document["properties"] = from_json(props)
    document["collection"] = collection
    return document


Extent = tuple[float, ...]
"""Earliest start and latest end (microseconds since 1970 UTC), west, east, south, north (degrees;
west > east across ±180°); infinite the wrong way round where there is nothing."""
NOTHING: Extent = (math.inf, -math.inf) * 3


def extent_of(row: ItemRow, footprint: BaseGeometry | None) -> Extent:
    """Return the extent of one item."""
    if footprint is None:
        return (*row[2:4], *NOTHING[2:])
    west, south, east, north = bounding_box(footprint)
    return (*row[2:4], west, east, south, north)


def extent_document(extent: Extent) -> Document:
    """Return the parts of a STAC extent that are known."""
    t0, t1, west, east, south, north = extent
    document: Document = {}
    if t0 <= t1:
        document["temporal"] = {"interval": [[from_microseconds(int(t)) for t in (t0, t1)]]}
    if south <= north:
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
    """Widen the extent of a collection, where one is kept, by those of some items.

    Which way round the world is the shorter one, only all items show: then it is forgotten.
    """
    kept = kept_extent(connection, collection_id)
    if kept is None:
        return
    every = [kept, *extents]
    ends = (min(extent[0] for extent in every), max(extent[1] for extent in every))
    boxes = [(west, south, east, north) for *_, west, east, south, north in every if south <= north]
    if not boxes:
        keep_extent(connection, collection_id, (*ends, *NOTHING[2:]))
        return
    west, south, east, north = enclosing_box(boxes)
    is_round = west > east or east - west >= 360
    if is_round and (west, east) != kept[2:4]:
        forget_extent(connection, collection_id)
    else:
        keep_extent(connection, collection_id, (*ends, west, east, south, north))


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
    extent = tuple(NOTHING[n] if edge is None else edge for n, edge in enumerate(found))
    if extent[3] - extent[2] < 360:
        return extent
    west, _, east, _ = enclosing_box(_boxes(connection, collection_id))
    return (*extent[:2], west, east, *extent[4:])


def _boxes(connection: Connection, collection_id: str) -> Iterator[Bounds]:
    """Yield the boxes of the items of a collection, each once; west > east across ±180°."""
    of_items = "from items i join items_rtree r using (pk) where i.collection = ?"
    is_round = "r.minx <= -180 and r.maxx >= 180"
    yield from connection.execute(
        f"select distinct minx, miny, maxx, maxy {of_items} and not ({is_round})", (collection_id,)
    )
    rounds = f"select distinct i.geometry {of_items} and {is_round}"
    for (geometry,) in connection.execute(rounds, (collection_id,)):
        yield bounding_box(shapely.from_geojson(geometry))
