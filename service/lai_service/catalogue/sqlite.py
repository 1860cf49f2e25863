"""The catalogue in one SQLite file: the embedded default.

WAL lets readers go on while one writer writes; writers queue at `begin immediate` for as long as
the busy timeout. Every write is one transaction: it is in the file with all its items or with none.
Do not put the file on a network drive (WAL needs shared memory).
"""

import json
import os
import sqlite3
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

from lai_service.catalogue.cql2_sql import Sql, box_to_sql, value_of
from lai_service.catalogue.items import Document, dump_json
from lai_service.catalogue.port import QUICK_MS, Catalogue, Connection, Page, Search
from lai_service.catalogue.search_sql import (
    conditions_of,
    next_token,
    order_of,
    place_of,
    start_after,
)
from lai_service.catalogue.sqlite_file import (
    Connections,
    check_version,
    compute_extent,
    create_tables,
    document_of,
    extent_document,
    extent_of,
    forget_extent,
    keep_extent,
    kept_extent,
    row_of,
    widen_extent,
)
from lai_service.errors import ConflictError, FilterError, SettingsError

_CROWD = 5000
"""From so many candidates on, a search walks along its sort order instead of collecting them."""
_LIMITS = ("overflow", "too large", "too many", "too complex")
"""In errors of SQLite for a statement that is too long or nested too deep for it."""
_COLUMNS = "i.collection, i.geometry, i.props, i.rest"


class SqliteCatalogue(Catalogue):
    """A `Catalogue` in a SQLite file.

    Args:
        path: the file; made with its folder where it does not exist.
        busy_timeout_s: how long a writer waits for another.
        read_only: the file is there and is never written.

    Raises:
        SettingsError: the file cannot be opened, or is not one of ours.
    """

    MONTH = Sql("strftime('%Y-%m-01T00:00:00Z', i.t0 / 1000000, 'unixepoch')")

    def __init__(
        self, path: Path, *, busy_timeout_s: float = 30.0, read_only: bool = False
    ) -> None:
        self._connections = Connections(path, busy_timeout_s, read_only=read_only)
        self._read_only = read_only
        try:
            if read_only:
                with self._connections.reading() as connection:
                    check_version(connection)
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            with self._connections.writing() as connection:
                create_tables(connection)
        except (sqlite3.Error, OSError) as error:
            raise SettingsError(f"the catalogue {path} cannot be opened: {error}") from error

    def _reading(self) -> AbstractContextManager[sqlite3.Connection]:
        return self._connections.reading()

    def _writing(self, collection_id: str) -> AbstractContextManager[sqlite3.Connection]:
        return self._connections.writing()

    def _collections(self, connection: Connection, collection_id: str | None) -> list[Document]:
        found = connection.execute(
            "select doc from collections where id = coalesce(?, id) order by id", (collection_id,)
        )
        return [json.loads(text) for (text,) in found]

    def _with_extent(self, connection: Connection, document: Document) -> Document:
        extent = kept_extent(connection, document["id"])
        if extent is None and self._read_only:
            extent = compute_extent(connection, document["id"])
        elif extent is None:
            with self._connections.writing() as writer:
                extent = compute_extent(writer, document["id"])
                keep_extent(writer, document["id"], extent)
        return {**document, "extent": {**document.get("extent", {}), **extent_document(extent)}}

    def _store_collection(self, connection: Connection, document: Document, is_new: bool) -> None:
        connection.execute(
            "insert into collections (id, doc) values (?, ?) "
            "on conflict (id) do update set doc = excluded.doc",
            (document["id"], dump_json(document)),
        )
        if is_new:
            keep_extent(connection, document["id"])

    def _drop_collection(self, connection: Connection, collection_id: str) -> None:
        connection.execute(
            "delete from items_rtree where pk in (select pk from items where collection = ?)",
            (collection_id,),
        )
        connection.execute("delete from items where collection = ?", (collection_id,))
        forget_extent(connection, collection_id)
        connection.execute("delete from collections where id = ?", (collection_id,))

    def _items(
        self, connection: Connection, collection_id: str, ids: list[str]
    ) -> dict[str, Document]:
        rows = connection.execute(
            f"select {_COLUMNS} from items i where i.collection = ? "
            "and i.id in (select value from json_each(?))",
            (collection_id, json.dumps(ids)),
        )
        found = [document_of(*row) for row in rows]
        return {item["id"]: item for item in found}

    def _checked(self, document: Document) -> Document:
        return {"geometry": None, **document}  # read when it is stored, once

    def _store_items(
        self,
        connection: Connection,
        collection_id: str,
        items: list[Document],
        old: Mapping[str, Document],
    ) -> None:
        extents = []
        for item in items:
            row, footprint = row_of(item)
            extents.append(extent_of(row, footprint))
            if item["id"] in old and row_of(old[item["id"]])[0][2:5] != row[2:5]:
                forget_extent(connection, collection_id)  # it had another time or place
            (key,) = connection.execute(
                "insert into items (collection, id, t0, t1, geometry, props, rest) "
                "values (?, ?, ?, ?, ?, ?, ?) on conflict (collection, id) do update set "
                "t0 = excluded.t0, t1 = excluded.t1, geometry = excluded.geometry, "
                "props = excluded.props, rest = excluded.rest returning pk",
                row,
            ).fetchone()
            if footprint is None:
                connection.execute("delete from items_rtree where pk = ?", (key,))
            else:
                west, south, east, north = footprint.bounds
                connection.execute(
                    "insert or replace into items_rtree values (?, ?, ?, ?, ?)",
                    (key, west, east, south, north),
                )
        widen_extent(connection, collection_id, extents)

    def _drop_item(self, connection: Connection, collection_id: str, item_id: str) -> None:
        forget_extent(connection, collection_id)
        (key,) = connection.execute(
            "delete from items where collection = ? and id = ? returning pk",
            (collection_id, item_id),
        ).fetchone()
        connection.execute("delete from items_rtree where pk = ?", (key,))

    def search(self, search: Search) -> Page:
        """Return one page of the items that match."""
        where = conditions_of(search, by_index=not self._is_crowded(search))
        after = start_after(search)
        values, order = order_of(search)
        found = self._ask(
            Sql(
                f"select {_COLUMNS}, {values.text} from items i "
                f"where {where.text} and {after.text} order by {order.text} limit ?",
                (*values.params, *where.params, *after.params, *order.params, search.limit + 1),
            )
        )
        shown = found[: search.limit]
        token = next_token(search, shown[-1][4:]) if len(found) > search.limit and shown else None
        return Page([document_of(*row[:4]) for row in shown], token)

    def _is_crowded(self, search: Search) -> bool:
        """Return whether so many items lie in the place that sorting them all would be slow."""
        place = place_of(search)
        if search.ids is not None or place is None:
            return False
        box = box_to_sql(place)
        query = Sql(f"select count(*) from ({box.text} limit {_CROWD})", box.params)
        return bool(self._ask(query)[0][0] == _CROWD)

    def _where(self, search: Search) -> Sql:
        return conditions_of(search)

    def count(self, search: Search) -> int:
        """Return how many items match, whatever the limit and the token."""
        return int(self._ask(self._count(search))[0][0])

    def quick_count(self, search: Search) -> int | None:
        """Return the same, or None where it takes more than `QUICK_MS` milliseconds."""
        query = self._count(search)
        found = [] if self._reads_a_crowd(query, search) else self._ask(query, QUICK_MS)
        return int(found[0][0]) if found else None

    def _reads_a_crowd(self, query: Sql, search: Search) -> bool:
        """Return whether a count reads so many whole rows, some 2 µs each, that it is not tried."""
        plan = self._ask(Sql(f"explain query plan {query.text}", query.params))[0][3]
        if "COVERING" in plan or not plan.endswith(("SCAN i", "(collection=?)")):
            return False
        among = conditions_of(Search(collections=search.collections))
        crowd = f"select 1 from items i where {among.text} limit 1 offset {_CROWD}"
        return bool(self._ask(Sql(crowd, among.params)))

    def _count(self, search: Search) -> Sql:
        where = conditions_of(search)
        return Sql(f"select count(*) from items i where {where.text}", where.params)

    def _class_of(self, field: str, edges: tuple[float, ...]) -> Sql:
        value = value_of(field)
        cases = " ".join(f"when {value.text} < ? then {number}" for number, _ in enumerate(edges))
        params = tuple(param for edge in edges for param in (*value.params, edge))
        return Sql(f"case {cases} end", params)

    def _ask(self, query: Sql, within_ms: float | None = None) -> list[Any]:
        """Return the rows of a query; none where it takes longer than it may."""
        with self._connections.reading() as connection, _limited(connection, within_ms):
            try:
                return connection.execute(query.text, query.params).fetchall()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
                    return []
                if any(limit in str(error) for limit in _LIMITS):
                    raise FilterError(
                        f"the filter is too long or nested too deep: {error}"
                    ) from error
                raise

    def _server(self) -> dict[str, str]:
        return {"catalogue": "sqlite", "sqlite_version": sqlite3.sqlite_version}

    def backup(self, target: Path) -> None:
        """Write a consistent copy of the catalogue to a new file while the service runs.

        Raises:
            ConflictError: the file exists.
            SettingsError: its folder is missing or cannot be written.
        """
        if target.exists():
            raise ConflictError(f"{target} exists; give a new file")
        part = target.with_name(f".{target.name}-{uuid.uuid4().hex}")
        try:
            with self._connections.reading() as connection, closing(sqlite3.connect(part)) as copy:
                connection.backup(copy)
            os.replace(part, target)
        except (sqlite3.Error, OSError) as error:
            raise SettingsError(f"the backup {target} cannot be written: {error}") from error
        finally:
            part.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the connections."""
        self._connections.close()


@contextmanager
def _limited(connection: sqlite3.Connection, within_ms: float | None) -> Iterator[None]:
    """Interrupt what a connection does after some milliseconds; None is never."""
    if within_ms is None:
        yield
        return
    end = time.monotonic() + within_ms / 1000
    connection.set_progress_handler(lambda: time.monotonic() > end, 1000)
    try:
        yield
    finally:
        connection.set_progress_handler(None, 0)
