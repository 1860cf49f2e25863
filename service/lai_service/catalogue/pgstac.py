"""The catalogue in PostgreSQL, in the tables of pgstac.

Other programs that speak pgstac (titiler-pgstac, stac-fastapi-pgstac, pypgstac) read the same
database, and may load items into it. Items are written into pgstac's partitions; they are found by
SQL of our own over `pgstac.items` and its indexes, because pgstac's `search()` differs from the
contract: its page token dies with the item it names, its filters fail on an item with a value of
another type, nulls are sorted otherwise, and every search writes to the database.

Writers of one collection queue at an advisory lock. Every write is one transaction.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql

from lai_service.catalogue.cql2_postgres import number_of
from lai_service.catalogue.cql2_sql import Sql
from lai_service.catalogue.items import dump_json
from lai_service.catalogue.pgstac_rows import COLUMNS, BaseItem, Row, document_of, row_from, spans
from lai_service.catalogue.pgstac_schema import open_pool, prepare_schema, reading, writing
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
from lai_service.catalogue.search_postgres import conditions_of, keys_of, stages_of, token_values
from lai_service.catalogue.search_sql import next_token
from lai_service.errors import InvalidItemError, NotFoundError

__all__ = ["PgstacCatalogue"]

_MANY = 1000
"""From so many new items on, where they are many for the partition, the planner is told at once."""
_COUNTABLE = 5000
"""Where the planner expects more items, counting takes longer than `QUICK_MS`: it is not tried."""


class PgstacCatalogue:
    """A `Catalogue` in a PostgreSQL database with pgstac.

    Args:
        url: `postgresql://user:password@host:port/name`; pgstac is installed where it is missing.
        busy_timeout_s: how long a writer waits for another, a request for a connection.
        connections: most connections at a time.

    Raises:
        SettingsError: the database does not answer, or holds another version of pgstac.
    """

    def __init__(self, url: str, *, busy_timeout_s: float = 30.0, connections: int = 10) -> None:
        self._pool = open_pool(url, busy_timeout_s=busy_timeout_s, size=connections)
        try:
            self._version = prepare_schema(self._pool, url)
        except BaseException:
            self._pool.close()
            raise

    @contextmanager
    def _reading(self) -> Iterator[psycopg.Connection]:
        with reading(), self._pool.connection() as connection:
            yield connection

    @contextmanager
    def _writing(self, collection_id: str) -> Iterator[psycopg.Connection]:
        with writing(), self._pool.connection() as connection, connection.transaction():
            connection.execute(
                "select pg_advisory_xact_lock(hashtextextended(%s, 0))",
                (f"lai-service collection {collection_id}",),
            )
            yield connection

    def collections(self) -> list[Document]:
        """Return all collections, ordered by id, their extents covering their items."""
        with self._reading() as connection:
            rows = connection.execute(
                'select id, content from collections order by id collate "C"'
            ).fetchall()
            return [_with_extent(connection, key, content) for key, content in rows]

    def collection(self, collection_id: str) -> Document:
        """Return one collection, or raise NotFoundError."""
        with self._reading() as connection:
            document = _collection(connection, collection_id)
            return _with_extent(connection, collection_id, document)

    def put_collection(self, document: Document, mode: WriteMode) -> Written:
        """Store a collection, or raise ConflictError (insert) or NotFoundError (replace)."""
        key = str(document["id"])
        text = dump_json(document)
        with self._writing(key) as connection:
            row = connection.execute(
                "select content from collections where id = %s", (key,)
            ).fetchone()
            check_mode(mode, row is not None, f"collection {key}")
            if row is None:
                connection.execute("select create_collection(%s::jsonb)", (text,))
                return "created"
            if row[0] == document:
                return "unchanged"
            connection.execute("select update_collection(%s::jsonb)", (text,))
            return "updated"

    def change_collection(
        self, collection_id: str, change: Callable[[Document], Document]
    ) -> Document:
        """Replace a collection by `change(collection)`; nobody writes in between."""
        with self._writing(collection_id) as connection:
            document = change(_collection(connection, collection_id, lock=True))
            connection.execute("select update_collection(%s::jsonb)", (dump_json(document),))
        return document

    def remove_collection(self, collection_id: str) -> Document:
        """Remove a collection with its items; return it, or raise NotFoundError."""
        with self._writing(collection_id) as connection:
            document = _collection(connection, collection_id, lock=True)
            connection.execute("select delete_collection(%s)", (collection_id,))
        return document

    def item(self, collection_id: str, item_id: str) -> Document:
        """Return one item, or raise NotFoundError."""
        with self._reading() as connection:
            return _item(connection, collection_id, item_id)

    def put_items(
        self, collection_id: str, documents: Iterable[Document], mode: WriteMode
    ) -> list[Written]:
        """Store items of one collection: all of them or, when an error is raised, none."""
        rows = [row_from(collection_id, document) for document in documents]
        with self._writing(collection_id) as connection:
            _collection(connection, collection_id)
            stored = _stored(connection, collection_id, [row.id for row in rows], mode)
            written: list[Written] = []
            pending: dict[str, Row] = {}
            gone = list(stored)
            for row in rows:
                old = stored.get(row.id)
                check_mode(mode, old is not None, f"item {row.id} of collection {collection_id}")
                if old == row.document:
                    written.append("unchanged")
                    continue
                written.append("created" if old is None else "updated")
                stored[row.id] = row.document
                pending[row.id] = row
            _replace(connection, collection_id, pending, gone)
        return written

    def change_item(
        self, collection_id: str, item_id: str, change: Callable[[Document], Document]
    ) -> Document:
        """Replace an item by `change(item)`; nobody writes in between."""
        with self._writing(collection_id) as connection:
            document = change(_item(connection, collection_id, item_id, lock=True))
            if document.get("id") != item_id:
                raise InvalidItemError("a patch cannot change the id of an item")
            row = row_from(collection_id, document)
            _replace(connection, collection_id, {item_id: row}, [item_id])
        return document

    def remove_item(self, collection_id: str, item_id: str) -> Document:
        """Remove an item; return it, or raise NotFoundError."""
        with self._writing(collection_id) as connection:
            document = _item(connection, collection_id, item_id, lock=True)
            connection.execute(
                "delete from items where collection = %s and id = %s", (collection_id, item_id)
            )
        return document

    def search(self, search: Search) -> Page:
        """Return one page of the items that match."""
        where, keys = conditions_of(search), keys_of(search)
        values = ", ".join(key.sql.text for key in keys)
        params = [param for key in keys for param in key.sql.params]
        found: list[tuple[Any, ...]] = []
        with self._reading() as connection:
            for stage in stages_of(search, keys):
                found += _fetch(
                    connection,
                    f"select {COLUMNS}, {values} from items i "
                    f"where {where.text} and {stage.where.text} "
                    f"order by {stage.order.text} limit %s",
                    *params,
                    *where.params,
                    *stage.where.params,
                    *stage.order.params,
                    search.limit + 1 - len(found),
                )
                if len(found) > search.limit:
                    break
        shown = found[: search.limit]
        token = None
        if len(found) > search.limit and shown:
            token = next_token(search, token_values(keys, shown[-1][5:]))
        return Page([document_of(*row[:5]) for row in shown], token)

    def count(self, search: Search) -> int:
        """Return how many items match, whatever the limit and the token."""
        where = conditions_of(search)
        query = f"select count(*) from items i where {where.text}"
        with self._reading() as connection:
            ((count,),) = _fetch(connection, query, *where.params)
        return int(count)

    def quick_count(self, search: Search) -> int | None:
        """Return the same, or None where it takes more than `QUICK_MS` milliseconds."""
        where = conditions_of(search)
        found = f"from items i where {where.text}"
        with self._reading() as connection, connection.transaction():
            ((plan,),) = _fetch(connection, f"explain (format json) select {found}", *where.params)
            if plan[0]["Plan"]["Plan Rows"] > _COUNTABLE:
                return None
            connection.execute(f"set local statement_timeout = {QUICK_MS}".encode())
            try:
                ((count,),) = _fetch(connection, f"select count(*) {found}", *where.params)
            except psycopg.errors.QueryCanceled as error:
                raise psycopg.Rollback from error
            return int(count)
        return None

    def count_by_month(self, search: Search) -> list[Bucket]:
        """Return how many matching items fall into each calendar month (UTC)."""
        month = Sql("""to_char(i.datetime at time zone 'UTC', 'YYYY-MM-01"T00:00:00Z"')""")
        return [Bucket(str(key), count) for key, count in self._grouped(search, month)]

    def count_by_range(self, search: Search, field: str, edges: tuple[float, ...]) -> list[Bucket]:
        """Return how many matching items have the property in each class between two edges."""
        value = number_of(field)
        group = Sql(
            f"width_bucket({value.text}, %s::float8[])",
            (*value.params, [float(edge) for edge in edges]),
        )
        counts = dict(self._grouped(search, group))
        return [
            Bucket(f"{lower:g}-{upper:g}", counts.get(position, 0), lower, upper)
            for position, (lower, upper) in enumerate(itertools.pairwise(edges), start=1)
        ]

    def _grouped(self, search: Search, group: Sql) -> list[tuple[Any, ...]]:
        where = conditions_of(search)
        query = (
            f"select {group.text} as class, count(*) from items i "
            f"where {where.text} group by class order by class"
        )
        with self._reading() as connection:
            return _fetch(connection, query, *group.params, *where.params)

    def health(self) -> dict[str, Any]:
        """Return what an operator wants to see; raise where the database does not answer."""
        with self._reading() as connection:
            ((items, collections, server),) = _fetch(
                connection,
                "select (select count(*) from items), (select count(*) from collections), "
                "current_setting('server_version')",
            )
        return {
            "catalogue": "pgstac",
            "pgstac_version": self._version,
            "postgresql_version": server,
            "collections": collections,
            "items": items,
        }

    def close(self) -> None:
        """Give back connections."""
        self._pool.close()


def _fetch(connection: psycopg.Connection, query: str, *params: object) -> list[tuple[Any, ...]]:
    """Run a query that we put together ourselves, with its parameters bound."""
    return connection.execute(query, params or None).fetchall()


def _collection(
    connection: psycopg.Connection, collection_id: str, *, lock: bool = False
) -> Document:
    query = "select content from collections where id = %s" + (" for update" if lock else "")
    rows = _fetch(connection, query, collection_id)
    if not rows:
        raise NotFoundError(f"collection {collection_id} does not exist")
    document: Document = rows[0][0]
    return document


def _with_extent(
    connection: psycopg.Connection, collection_id: str, document: Document
) -> Document:
    """Return a collection whose extent is that of its items, where it has any."""
    ((start, end, west, south, east, north),) = _fetch(  # each from the end of an index
        connection,
        "select min(datetime), max(end_datetime), min(ST_XMin(geometry)), min(ST_YMin(geometry)), "
        "max(ST_XMax(geometry)), max(ST_YMax(geometry)) from items where collection = %s",
        collection_id,
    )
    if start is None:
        return document
    interval = [moment.isoformat().replace("+00:00", "Z") for moment in (start, end)]
    extent = {
        "spatial": {"bbox": [[west, south, east, north]]},
        "temporal": {"interval": [interval]},
    }
    return {**document, "extent": {**document.get("extent", {}), **extent}}


def _item(
    connection: psycopg.Connection, collection_id: str, item_id: str, *, lock: bool = False
) -> Document:
    rows = _fetch(
        connection,
        f"select {COLUMNS} from items i where i.collection = %s and i.id = %s"
        + (" for update" if lock else ""),
        collection_id,
        item_id,
    )
    if not rows:
        raise NotFoundError(f"item {item_id} does not exist in collection {collection_id}")
    return document_of(*rows[0])


def _stored(
    connection: psycopg.Connection, collection_id: str, ids: list[str], mode: WriteMode
) -> dict[str, Document]:
    """Return the items of these ids that are there; on insert empty, their ids are enough."""
    columns = "i.id" if mode == "insert" else COLUMNS
    rows = _fetch(
        connection,
        f"select {columns} from items i where i.collection = %s and i.id = any(%s::text[])",
        collection_id,
        ids,
    )
    if mode == "insert":
        return {row[0]: {} for row in rows}
    return {row[1]: document_of(*row) for row in rows}


def _replace(
    connection: psycopg.Connection, collection_id: str, rows: dict[str, Row], old: list[str]
) -> None:
    """Write rows in place of those of the same ids that are there."""
    if not rows:
        return
    ((trunc, number, base),) = _fetch(
        connection,
        "select c.partition_trunc, b.base_item_id, b.base_item "
        "from collections c, current_base_item(c.id) b where c.id = %s",
        collection_id,
    )
    partitions = [
        _fetch(
            connection,
            "select check_partition(%s, tstzrange(%s::timestamptz, %s::timestamptz, '[]'), "
            "tstzrange(%s::timestamptz, %s::timestamptz, '[]'))",
            collection_id,
            *span,
        )[0][0]
        for span in spans(rows.values(), trunc)
    ]
    replaced = [item_id for item_id in old if item_id in rows]
    if replaced:
        connection.execute(
            "delete from items where collection = %s and id = any(%s::text[])",
            (collection_id, replaced),
        )
    base_item = BaseItem(number, base.get("assets"))
    with connection.cursor().copy(
        "copy items (id, collection, datetime, end_datetime, geometry, content, private) from stdin"
    ) as copy:
        for row in rows.values():
            copy.write_row(row.values(base_item))
    if len(rows) >= _MANY:
        for partition in partitions:
            _analyze(connection, partition, len(rows))


def _analyze(connection: psycopg.Connection, partition: str, new: int) -> None:
    """Count a partition that has grown by a fifth; the server itself gets to it in a minute."""
    name = sql.Identifier(partition)
    query = sql.SQL("select reltuples from pg_class where oid = {}::regclass")
    row = connection.execute(query.format(sql.Literal(partition))).fetchone()
    if row is None or new > 0.2 * row[0]:
        connection.execute(sql.SQL("analyze {}").format(name))
