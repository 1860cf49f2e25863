"""The catalogue in one SQLite file: the embedded default.

WAL lets readers go on while one writer writes; writers queue at `begin immediate` for as long as
the busy timeout. Every write is one transaction: it is in the file with all its items or with none.
Do not put the file on a network drive (WAL needs shared memory).
"""

import itertools
import json
import os
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from lai_service.catalogue.cql2_sql import Sql, box_to_sql, value_of
from lai_service.catalogue.items import dump_json
from lai_service.catalogue.port import (
    QUICK_MS,
    Bucket,
    Document,
    Page,
    Search,
    WriteMode,
    Written,
    check_mode,
)
from lai_service.catalogue.search_sql import (
    conditions_of,
    next_token,
    order_of,
    places_of,
    start_after,
)
from lai_service.catalogue.sqlite_connections import Connections
from lai_service.catalogue.sqlite_extents import (
    Extent,
    compute_extent,
    forget_extent,
    keep_extent,
    kept_extent,
)
from lai_service.catalogue.sqlite_schema import (
    ItemRow,
    check_version,
    create_tables,
    document_of,
    row_of,
)
from lai_service.errors import (
    ConflictError,
    FilterError,
    InvalidItemError,
    NotFoundError,
    SettingsError,
)

__all__ = ["SqliteCatalogue"]

_CROWD = 5000
"""From so many candidates on, a search walks along its sort order instead of collecting them."""
_COLUMNS = "i.collection, i.geometry, i.props, i.rest"


class SqliteCatalogue:
    """A `Catalogue` in a SQLite file.

    Args:
        path: the file; made with its folder where it does not exist.
        busy_timeout_s: how long a writer waits for another.
        read_only: the file is there and is never written.

    Raises:
        SettingsError: the file cannot be opened, or is not one of ours.
    """

    computes = True

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

    def collections(self) -> list[Document]:
        """Return all collections, ordered by id, their extents covering their items."""
        with self._connections.reading() as connection:
            rows = connection.execute("select id, doc from collections order by id").fetchall()
            extents = {key: kept_extent(connection, key) for key, _ in rows}
        return [self._with_extent(json.loads(doc), extents[key]) for key, doc in rows]

    def collection(self, collection_id: str) -> Document:
        """Return one collection, or raise NotFoundError."""
        with self._connections.reading() as connection:
            document = _collection(connection, collection_id)
            extent = kept_extent(connection, collection_id)
        return self._with_extent(document, extent)

    def _with_extent(self, document: Document, extent: Extent | None) -> Document:
        """Set the extent of a collection to that of its items."""
        if extent is None and self._read_only:
            with self._connections.reading() as connection:
                extent = compute_extent(connection, document["id"])
        elif extent is None:
            with self._connections.writing() as connection:
                extent = compute_extent(connection, document["id"])
                keep_extent(connection, document["id"], extent)
        return {**document, "extent": {**document.get("extent", {}), **extent.document()}}

    def put_collection(self, document: Document, mode: WriteMode) -> Written:
        """Store a collection, or raise ConflictError (insert) or NotFoundError (replace)."""
        key, text = str(document["id"]), dump_json(document)
        with self._connections.writing() as connection:
            row = connection.execute("select doc from collections where id = ?", (key,)).fetchone()
            check_mode(mode, row is not None, f"collection {key}")
            if row is not None and row[0] == text:
                return "unchanged"
            connection.execute(
                "insert into collections (id, doc) values (?, ?) "
                "on conflict (id) do update set doc = excluded.doc",
                (key, text),
            )
            if row is None:
                keep_extent(connection, key, Extent())
        return "created" if row is None else "updated"

    def change_collection(
        self, collection_id: str, change: Callable[[Document], Document]
    ) -> Document:
        """Replace a collection by `change(collection)`; nobody writes in between."""
        with self._connections.writing() as connection:
            document = change(_collection(connection, collection_id))
            connection.execute(
                "update collections set doc = ? where id = ?", (dump_json(document), collection_id)
            )
        return document

    def remove_collection(self, collection_id: str) -> Document:
        """Remove a collection with its items; return it, or raise NotFoundError."""
        with self._connections.writing() as connection:
            document = _collection(connection, collection_id)
            connection.execute(
                "delete from items_rtree where pk in (select pk from items where collection = ?)",
                (collection_id,),
            )
            connection.execute("delete from items where collection = ?", (collection_id,))
            forget_extent(connection, collection_id)
            connection.execute("delete from collections where id = ?", (collection_id,))
        return document

    def item(self, collection_id: str, item_id: str) -> Document:
        """Return one item, or raise NotFoundError."""
        with self._connections.reading() as connection:
            return _item(connection, collection_id, item_id)

    def put_items(
        self, collection_id: str, documents: Iterable[Document], mode: WriteMode
    ) -> list[Written]:
        """Store items of one collection: all of them or, when an error is raised, none."""
        rows = [row_of(collection_id, document) for document in documents]
        with self._connections.writing() as connection:
            _collection(connection, collection_id)
            return _put_rows(connection, collection_id, rows, mode)

    def change_item(
        self, collection_id: str, item_id: str, change: Callable[[Document], Document]
    ) -> Document:
        """Replace an item by `change(item)`; nobody writes in between."""
        with self._connections.writing() as connection:
            document = change(_item(connection, collection_id, item_id))
            if document.get("id") != item_id:
                raise InvalidItemError("a patch cannot change the id of an item")
            _put_rows(connection, collection_id, [row_of(collection_id, document)], "replace")
        return document

    def remove_item(self, collection_id: str, item_id: str) -> Document:
        """Remove an item; return it, or raise NotFoundError."""
        with self._connections.writing() as connection:
            document = _item(connection, collection_id, item_id)
            (key,) = connection.execute(
                "select pk from items where collection = ? and id = ?", (collection_id, item_id)
            ).fetchone()
            forget_extent(connection, collection_id)
            connection.execute("delete from items where pk = ?", (key,))
            connection.execute("delete from items_rtree where pk = ?", (key,))
        return document

    def search(self, search: Search) -> Page:
        """Return one page of the items that match."""
        where = conditions_of(search, by_index=not self._is_crowded(search))
        after = start_after(search)
        values, order = order_of(search)
        found = self._ask(
            f"select {_COLUMNS}, {values.text} from items i "
            f"where {where.text} and {after.text} order by {order.text} limit ?",
            (*values.params, *where.params, *after.params, *order.params, search.limit + 1),
        )
        shown = found[: search.limit]
        token = next_token(search, shown[-1][4:]) if len(found) > search.limit and shown else None
        return Page([document_of(*row[:4]) for row in shown], token)

    def _is_crowded(self, search: Search) -> bool:
        """Return whether so many items lie in the place that sorting them all would be slow."""
        if search.ids is not None:
            return False
        crowd = 0
        for place in places_of(search):
            box = box_to_sql(place)
            query = f"select count(*) from ({box.text} limit {_CROWD})"
            ((found,),) = self._ask(query, box.params)
            crowd += found
        return crowd >= _CROWD

    def count(self, search: Search) -> int:
        """Return how many items match, whatever the limit and the token."""
        ((count,),) = self._count(search, None)
        return int(count)

    def quick_count(self, search: Search) -> int | None:
        """Return the same, or None where it takes more than `QUICK_MS` milliseconds."""
        found = self._count(search, QUICK_MS)
        return int(found[0][0]) if found else None

    def _count(self, search: Search, within_ms: float | None) -> list[Any]:
        where = conditions_of(search)
        query = f"select count(*) from items i where {where.text}"
        return self._ask(query, where.params, within_ms)

    def count_by_month(self, search: Search) -> list[Bucket]:
        """Return how many matching items fall into each calendar month (UTC)."""
        month = Sql("strftime('%Y-%m-01T00:00:00Z', i.t0 / 1000000, 'unixepoch')")
        return [Bucket(str(key), count) for key, count in self._grouped(search, month)]

    def count_by_range(self, search: Search, field: str, edges: tuple[float, ...]) -> list[Bucket]:
        """Return how many matching items have the property in each class between two edges."""
        value = value_of(field)
        cases = " ".join("when {0} < ? then ?".replace("{0}", value.text) for _ in edges[1:])
        params: list[object] = [*value.params, edges[0]]
        for position, upper in enumerate(edges[1:]):
            params += [*value.params, upper, position]
        group = Sql(f"case when {value.text} < ? then null {cases} end", tuple(params))
        counts = dict(self._grouped(search, group))
        pairs = itertools.pairwise(edges)
        return [
            Bucket(f"{lower:g}-{upper:g}", counts.get(position, 0), lower, upper)
            for position, (lower, upper) in enumerate(pairs)
        ]

    def _grouped(self, search: Search, group: Sql) -> list[tuple[Any, int]]:
        where = conditions_of(search)
        return self._ask(
            f"select {group.text} as class, count(*) from items i "
            f"where {where.text} group by class order by class",
            (*group.params, *where.params),
        )

    def _ask(
        self, query: str, params: tuple[object, ...], within_ms: float | None = None
    ) -> list[Any]:
        """Return the rows of a query; none where it takes longer than it may."""
        with self._connections.reading() as connection, _limited(connection, within_ms):
            try:
                return connection.execute(query, params).fetchall()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
                    return []
                if any(limit in str(error) for limit in ("overflow", "too large", "too many")):
                    raise FilterError(
                        f"the filter is too long or nested too deep: {error}"
                    ) from error
                raise

    def health(self) -> dict[str, Any]:
        """Return what an operator wants to see; raise where the database does not answer."""
        ((items, collections),) = self._ask(
            "select (select count(*) from items), (select count(*) from collections)", ()
        )
        return {
            "catalogue": "sqlite",
            "sqlite_version": sqlite3.sqlite_version,
            "collections": collections,
            "items": items,
        }

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
            with (
                self._connections.reading() as connection,
                closing(sqlite3.connect(part)) as copy,
            ):
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


def _collection(connection: sqlite3.Connection, collection_id: str) -> Document:
    row = connection.execute(
        "select doc from collections where id = ?", (collection_id,)
    ).fetchone()
    if row is None:
        raise NotFoundError(f"collection {collection_id} does not exist")
    document: Document = json.loads(row[0])
    return document


def _item(connection: sqlite3.Connection, collection_id: str, item_id: str) -> Document:
    row = connection.execute(
        f"select {_COLUMNS} from items i where i.collection = ? and i.id = ?",
        (collection_id, item_id),
    ).fetchone()
    if row is None:
        raise NotFoundError(f"item {item_id} does not exist in collection {collection_id}")
    return document_of(*row)


def _put_rows(
    connection: sqlite3.Connection,
    collection_id: str,
    rows: list[tuple[ItemRow, tuple[float, ...] | None]],
    mode: WriteMode,
) -> list[Written]:
    """Write rows of one collection, and its extent."""
    extent = before = kept_extent(connection, collection_id)
    written: list[Written] = []
    for row, box in rows:
        old = connection.execute(
            "select t0, t1, geometry, props, rest from items where collection = ? and id = ?",
            row[:2],
        ).fetchone()
        check_mode(mode, old is not None, f"item {row[1]} of collection {row[0]}")
        if old is not None and old == row[2:]:
            written.append("unchanged")
            continue
        if old is not None and old[:3] != row[2:5]:  # another time or place
            extent = None
        _put_row(connection, row, box)
        extent = extent and extent.joined(Extent(*row[2:4], *(box or ())))
        written.append("created" if old is None else "updated")
    if extent is None:
        forget_extent(connection, collection_id)
    elif extent != before:
        keep_extent(connection, collection_id, extent)
    return written


def _put_row(connection: sqlite3.Connection, row: ItemRow, box: tuple[float, ...] | None) -> None:
    (key,) = connection.execute(
        "insert into items (collection, id, t0, t1, geometry, props, rest) "
        "values (?, ?, ?, ?, ?, ?, ?) on conflict (collection, id) do update set "
        "t0 = excluded.t0, t1 = excluded.t1, geometry = excluded.geometry, "
        "props = excluded.props, rest = excluded.rest returning pk",
        row,
    ).fetchone()
    connection.execute("delete from items_rtree where pk = ?", (key,))
    if box is not None:
        connection.execute("insert into items_rtree values (?, ?, ?, ?, ?)", (key, *box))
