"""The catalogue in one SQLite file: the embedded default.

WAL lets readers go on while one writer writes; writers queue at `begin immediate` for as long as
the busy timeout. Each thread has its own connection. Every write is one transaction: it is in the
file with all its items or with none. Do not put the file on a network drive (WAL needs shared
memory).
"""

import itertools
import json
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lai_service.catalogue import (
    Bucket,
    Document,
    Page,
    Search,
    WriteMode,
    Written,
    check_mode,
)
from lai_service.cql2_sql import Sql, box_to_sql, value_of
from lai_service.errors import (
    CatalogueBusyError,
    FilterError,
    InvalidItemError,
    NotFoundError,
    SettingsError,
)
from lai_service.items import dump_json
from lai_service.search_sql import conditions_of, next_token, order_of, places_of, start_after
from lai_service.sqlite_functions import register_functions
from lai_service.sqlite_schema import create_tables, document_of, row_of
from lai_service.times import from_microseconds

__all__ = ["SqliteCatalogue"]

_CROWD = 5000
"""From so many candidates on, a search walks along its sort order instead of collecting them."""
_COLUMNS = "i.collection, i.geometry, i.props, i.rest"


class SqliteCatalogue:
    """A `Catalogue` in a SQLite file.

    Args:
        path: the file; made with its folder where it does not exist.
        busy_timeout_s: how long a writer waits for another.

    Raises:
        SettingsError: the file cannot be opened, or is not one of ours.
    """

    def __init__(self, path: Path, *, busy_timeout_s: float = 30.0) -> None:
        self._path = path
        self._timeout = busy_timeout_s
        self._local = threading.local()
        self._lock = threading.Lock()
        self._connections: list[sqlite3.Connection] = []
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with self._writing() as connection:
                create_tables(connection)
        except (sqlite3.Error, OSError) as error:
            raise SettingsError(f"the catalogue {path} cannot be opened: {error}") from error

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(
                self._path, timeout=self._timeout, isolation_level=None, check_same_thread=False
            )
            connection.execute("pragma journal_mode = wal")
            connection.execute("pragma synchronous = full")  # an acknowledged item survives a crash
            connection.execute("pragma foreign_keys = on")
            register_functions(connection)
            self._local.connection = connection
            with self._lock:
                self._connections.append(connection)
        return connection

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        connection = self._connection()
        try:
            connection.execute("begin immediate")
        except sqlite3.OperationalError as error:
            raise CatalogueBusyError(
                f"another writer held the catalogue for more than {self._timeout:g} s; try again"
            ) from error
        try:
            yield connection
            connection.execute("commit")
        except BaseException:
            if connection.in_transaction:
                connection.execute("rollback")
            raise

    def collections(self) -> list[Document]:
        """Return all collections, ordered by id, their extents covering their items."""
        connection = self._connection()
        rows = connection.execute("select id, doc from collections order by id").fetchall()
        return [self._with_extent(key, json.loads(doc)) for key, doc in rows]

    def collection(self, collection_id: str) -> Document:
        """Return one collection, or raise NotFoundError."""
        connection = self._connection()
        return self._with_extent(collection_id, _collection(connection, collection_id))

    def _with_extent(self, collection_id: str, document: Document) -> Document:
        """Set the extent of a collection to that of its items; kept until the file changes."""
        connection = self._connection()
        (version,) = connection.execute("pragma data_version").fetchone()
        state = (version, connection.total_changes)  # others' writes, our own
        if getattr(self._local, "state", None) != state:
            self._local.state, self._local.extents = state, {}
        extents: dict[str, Document] = self._local.extents
        if collection_id not in extents:
            extents[collection_id] = _extent(connection, collection_id)
        extent = extents[collection_id]
        return {**document, "extent": {**document.get("extent", {}), **extent}}

    def put_collection(self, document: Document, mode: WriteMode) -> Written:
        """Store a collection, or raise ConflictError (insert) or NotFoundError (replace)."""
        key, text = str(document["id"]), dump_json(document)
        with self._writing() as connection:
            row = connection.execute("select doc from collections where id = ?", (key,)).fetchone()
            check_mode(mode, row is not None, f"collection {key}")
            if row is not None and row[0] == text:
                return "unchanged"
            connection.execute(
                "insert into collections (id, doc) values (?, ?) "
                "on conflict (id) do update set doc = excluded.doc",
                (key, text),
            )
        return "created" if row is None else "updated"

    def change_collection(
        self, collection_id: str, change: Callable[[Document], Document]
    ) -> Document:
        """Replace a collection by `change(collection)`; nobody writes in between."""
        with self._writing() as connection:
            document = change(_collection(connection, collection_id))
            connection.execute(
                "update collections set doc = ? where id = ?", (dump_json(document), collection_id)
            )
        return document

    def remove_collection(self, collection_id: str) -> Document:
        """Remove a collection with its items; return it, or raise NotFoundError."""
        with self._writing() as connection:
            document = _collection(connection, collection_id)
            connection.execute(
                "delete from items_rtree where pk in (select pk from items where collection = ?)",
                (collection_id,),
            )
            connection.execute("delete from items where collection = ?", (collection_id,))
            connection.execute("delete from collections where id = ?", (collection_id,))
        return document

    def item(self, collection_id: str, item_id: str) -> Document:
        """Return one item, or raise NotFoundError."""
        return _item(self._connection(), collection_id, item_id)

    def put_items(
        self, collection_id: str, documents: Iterable[Document], mode: WriteMode
    ) -> list[Written]:
        """Store items of one collection: all of them or, when an error is raised, none."""
        rows = [row_of(collection_id, document) for document in documents]
        with self._writing() as connection:
            _collection(connection, collection_id)
            return [_put_row(connection, row, box, mode) for row, box in rows]

    def change_item(
        self, collection_id: str, item_id: str, change: Callable[[Document], Document]
    ) -> Document:
        """Replace an item by `change(item)`; nobody writes in between."""
        with self._writing() as connection:
            document = change(_item(connection, collection_id, item_id))
            if document.get("id") != item_id:
                raise InvalidItemError("a patch cannot change the id of an item")
            _put_row(connection, *row_of(collection_id, document), "replace")
        return document

    def remove_item(self, collection_id: str, item_id: str) -> Document:
        """Remove an item; return it, or raise NotFoundError."""
        with self._writing() as connection:
            document = _item(connection, collection_id, item_id)
            (key,) = connection.execute(
                "delete from items where collection = ? and id = ? returning pk",
                (collection_id, item_id),
            ).fetchone()
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
            (found,) = (
                self._connection()
                .execute(f"select count(*) from ({box.text} limit {_CROWD})", box.params)
                .fetchone()
            )
            crowd += found
        return crowd >= _CROWD

    def count(self, search: Search) -> int:
        """Return how many items match, whatever the limit and the token."""
        where = conditions_of(search)
        query = f"select count(*) from items i where {where.text}"
        ((count,),) = self._ask(query, where.params)
        return int(count)

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

    def _ask(self, query: str, params: tuple[object, ...]) -> list[Any]:
        try:
            return self._connection().execute(query, params).fetchall()
        except sqlite3.OperationalError as error:
            if any(limit in str(error) for limit in ("overflow", "too large", "too many")):
                raise FilterError(f"the filter is too long or nested too deep: {error}") from error
            raise

    def health(self) -> dict[str, Any]:
        """Return what an operator wants to see; raise where the database does not answer."""
        (items,) = self._connection().execute("select count(*) from items").fetchone()
        (collections,) = self._connection().execute("select count(*) from collections").fetchone()
        return {
            "catalogue": "sqlite",
            "sqlite_version": sqlite3.sqlite_version,
            "collections": collections,
            "items": items,
        }

    def backup(self, target: Path) -> None:
        """Write a consistent copy of the catalogue to a new file while the service runs."""
        copy = sqlite3.connect(target)
        try:
            self._connection().backup(copy)
        finally:
            copy.close()

    def close(self) -> None:
        """Close the connections of all threads."""
        with self._lock:
            for connection in self._connections:
                connection.close()
            self._connections.clear()
        self._local = threading.local()


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


def _put_row(
    connection: sqlite3.Connection,
    row: tuple[Any, ...],
    box: tuple[float, ...] | None,
    mode: WriteMode,
) -> Written:
    old = connection.execute(
        "select pk, geometry, props, rest from items where collection = ? and id = ?", row[:2]
    ).fetchone()
    check_mode(mode, old is not None, f"item {row[1]} of collection {row[0]}")
    if old is not None and old[1:] == row[4:]:
        return "unchanged"
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
    return "created" if old is None else "updated"


def _extent(connection: sqlite3.Connection, collection_id: str) -> Document:
    """Return the extent of the items of a collection; empty where there are none."""
    t0, t1, west, south, east, north = connection.execute(
        "select min(i.t0), max(i.t1), min(r.minx), min(r.miny), max(r.maxx), max(r.maxy) "
        "from items i left join items_rtree r using (pk) where i.collection = ?",
        (collection_id,),
    ).fetchone()
    if t0 is None:
        return {}
    interval = [from_microseconds(t0), from_microseconds(t1)]
    extent: Document = {"temporal": {"interval": [interval]}}
    if west is not None:
        extent["spatial"] = {"bbox": [[west, south, east, north]]}
    return extent
