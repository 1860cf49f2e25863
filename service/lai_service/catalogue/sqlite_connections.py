"""Connections to the SQLite file: a few that go from hand to hand, and one writer at a time.

Each has the SQL functions that SQLite lacks: `geometry_is`, `array_is`, `fold` and `to_us`.

A connection belongs to whoever uses it just now, not to a thread: web servers make and end threads
all day, and each would leave an open file behind.
"""

import json
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import shapely

from lai_service.catalogue.times import to_microseconds
from lai_service.errors import CatalogueBusyError, StorageFullError

__all__ = ["Connections"]

_KEPT = 8
"""So many idle connections stay open."""


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
        """Close the idle connections; all are where nobody uses one."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _mode(self) -> str:
        if not self._read_only:
            return ""
        # Readers of a WAL file write its index beside it; where they cannot, nobody writes at all.
        return "?mode=ro" if os.access(self._path.parent, os.W_OK) else "?immutable=1"

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"{self._path.absolute().as_uri()}{self._mode()}",
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


_CONVERSE = {"within": "contains", "contains": "within"}


def _geometry_is(geojson: str | None, wkb: bytes, predicate: str) -> bool | None:
    """Return whether a GeoJSON geometry stands in a relation to a WKB one; None without one."""
    if geojson is None:
        return None
    converse = getattr(shapely, _CONVERSE.get(predicate, predicate))
    return bool(converse(_prepared(wkb), shapely.from_geojson(geojson)))  # the prepared one first


def _array_is(first: object, second: object, operator: str) -> bool | None:
    """Compare two JSON arrays as sets; None where one of them is no array."""
    sets = [_set_of(text) for text in (first, second)]
    if sets[0] is None or sets[1] is None:
        return None
    a, b = sets[0], sets[1]
    answers = {
        "a_contains": a >= b,
        "a_containedby": a <= b,
        "a_equals": a == b,
        "a_overlaps": not a.isdisjoint(b),
    }
    return answers[operator]


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
