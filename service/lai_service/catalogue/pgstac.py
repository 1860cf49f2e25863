"""The catalogue in PostgreSQL, by the functions of pgstac.

Search, filter, sort order, paging and collections are pgstac's functions, those that
stac-fastapi-pgstac calls; items are stored by its loader and put together by its `hydrate_py`, six
times as fast as in the database. So other programs of pgstac may share a database. Ours is what
pgstac lacks: writes of which all or nothing is stored and that say what they did, a change under a
lock, counts by class, and extents that follow the items.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
from psycopg.types.json import Jsonb
from pypgstac.db import PgstacDB
from pypgstac.hydration import hydrate_py
from pypgstac.load import Loader, Methods

from lai_service.catalogue.cql2_sql import value_of
from lai_service.catalogue.items import dump_json, facts_of
from lai_service.catalogue.pgstac_schema import NUMBERS, errors, open_pool, prepare_schema
from lai_service.catalogue.pgstac_search import request_of
from lai_service.catalogue.port import (
    Bucket,
    Document,
    Page,
    Search,
    WriteMode,
    Written,
    check_mode,
)
from lai_service.catalogue.search_sql import next_token
from lai_service.errors import (
    BadRequestError,
    InvalidItemError,
    NotFoundError,
)

__all__ = ["PgstacCatalogue"]

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

    computes = False

    def __init__(self, url: str, *, busy_timeout_s: float = 30.0, connections: int = 10) -> None:
        self._pool = open_pool(url, busy_timeout_s=busy_timeout_s, size=connections)
        try:
            self._version = prepare_schema(self._pool, url)
        except BaseException:
            self._pool.close()
            raise

    @contextmanager
    def _reading(self) -> Iterator[psycopg.Connection]:
        with errors(BadRequestError), self._pool.connection() as connection:
            yield connection

    @contextmanager
    def _writing(self, collection_id: str) -> Iterator[psycopg.Connection]:
        """Lend a connection inside a transaction; writers of one collection queue at a lock."""
        with (
            errors(InvalidItemError),
            self._pool.connection() as connection,
            connection.transaction(),
        ):
            connection.execute(
                "select pg_advisory_xact_lock(hashtextextended(%s, 0))",
                (f"lai-service collection {collection_id}",),
            )
            yield connection

    def _ask(self, query: str, *params: object) -> list[tuple[Any, ...]]:
        with self._reading() as connection:
            return _fetch(connection, query, *params)

    def collections(self) -> list[Document]:
        """Return all collections, ordered by id, their extents covering their items."""
        with self._reading() as connection:
            rows = _fetch(connection, 'select content from collections order by id collate "C"')
            return [_with_extent(connection, document) for (document,) in rows]

    def collection(self, collection_id: str) -> Document:
        """Return one collection, or raise NotFoundError."""
        with self._reading() as connection:
            return _with_extent(connection, _collection(connection, collection_id))

    def put_collection(self, document: Document, mode: WriteMode) -> Written:
        """Store a collection, or raise ConflictError (insert) or NotFoundError (replace)."""
        key, text = str(document["id"]), dump_json(document)
        with self._writing(key) as connection:
            old = _fetch(connection, "select get_collection(%s)", key)[0][0]
            check_mode(mode, old is not None, f"collection {key}")
            if old == document:
                return "unchanged"
            connection.execute("select upsert_collection(%s::jsonb)", (text,))
        return "created" if old is None else "updated"

    def change_collection(
        self, collection_id: str, change: Callable[[Document], Document]
    ) -> Document:
        """Replace a collection by `change(collection)`; nobody writes in between."""
        with self._writing(collection_id) as connection:
            document = change(_collection(connection, collection_id))
            connection.execute("select update_collection(%s::jsonb)", (dump_json(document),))
        return document

    def remove_collection(self, collection_id: str) -> Document:
        """Remove a collection with its items; return it, or raise NotFoundError."""
        with self._writing(collection_id) as connection:
            document = _collection(connection, collection_id)
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
        items = [_checked(collection_id, document) for document in documents]
        with self._writing(collection_id) as connection:
            _collection(connection, collection_id)
            stored = _items(connection, collection_id, [item["id"] for item in items])
            replaces = bool(stored)
            written: list[Written] = []
            pending: dict[str, Document] = {}
            for item in items:
                old = stored.get(item["id"])
                check_mode(mode, old is not None, f"item {item['id']} of {collection_id}")
                if old == item:
                    written.append("unchanged")
                    continue
                written.append("created" if old is None else "updated")
                stored[item["id"]] = pending[item["id"]] = item
            self._store(connection, list(pending.values()), replaces)
        return written

    def change_item(
        self, collection_id: str, item_id: str, change: Callable[[Document], Document]
    ) -> Document:
        """Replace an item by `change(item)`; nobody writes in between."""
        with self._writing(collection_id) as connection:
            document = change(_item(connection, collection_id, item_id))
            if document.get("id") != item_id:
                raise InvalidItemError("a patch cannot change the id of an item")
            self._store(connection, [_checked(collection_id, document)], True)
        return document

    def _store(self, connection: psycopg.Connection, items: list[Document], replaces: bool) -> None:
        """Store items of one collection, inside the transaction of the connection."""
        if items:
            loader = Loader(PgstacDB(pool=self._pool, connection=connection))
            method = Methods.delsert if replaces else Methods.insert
            try:
                loader.load_items(iter(items), method, chunksize=len(items))
            except TypeError as error:  # of orjson
                raise InvalidItemError(f"pgstac cannot store the item: {error}") from error

    def remove_item(self, collection_id: str, item_id: str) -> Document:
        """Remove an item; return it, or raise NotFoundError."""
        with self._writing(collection_id) as connection:
            document = _item(connection, collection_id, item_id)
            connection.execute("select delete_item(%s, %s)", (item_id, collection_id))
        return document

    def search(self, search: Search) -> Page:
        """Return one page of the items that match."""
        ((found,),) = self._ask("select search(%s)", Jsonb(request_of(search)))
        links = {link["rel"]: link["href"] for link in found["links"]}
        following = parse_qs(urlsplit(links.get("next", "")).query).get("token")
        token = next_token(search, (following[0],)) if following else None
        return Page([_whole(item) for item in found["features"]], token)

    def count(self, search: Search) -> int:
        """Return how many items match, whatever the limit and the token."""
        return int(self._count(search, context="on") or 0)

    def quick_count(self, search: Search) -> int | None:
        """Return the same, or None where it takes more than `QUICK_MS` milliseconds."""
        return self._count(
            search,
            context="auto",
            context_estimated_count=str(_COUNTABLE),
            context_estimated_cost="0",
        )

    def _count(self, search: Search, **conf: str) -> int | None:
        conf |= {"context_stats_ttl": "0 seconds"}  # counts that others wrote down may be old
        ((count,),) = self._ask(
            "select (where_stats(stac_search_to_where(%s), false, %s)).total_count",
            Jsonb(request_of(search)),
            Jsonb(conf),
        )
        return None if count is None else int(count)

    def count_by_month(self, search: Search) -> list[Bucket]:
        """Return how many matching items fall into each calendar month (UTC)."""
        month = """to_char(datetime at time zone 'UTC', 'YYYY-MM-01"T00:00:00Z"')"""
        return [Bucket(str(key), count) for key, count in self._grouped(search, month)]

    def count_by_range(self, search: Search, field: str, edges: tuple[float, ...]) -> list[Bucket]:
        """Return how many matching items have the property in each class between two edges."""
        value_of(field)  # says what cannot be a name
        with self._reading() as connection:
            ((value,),) = _fetch(connection, "select (queryable(%s)).expression", field)
        group = f"width_bucket({value}, array{[float(edge) for edge in edges]}::float8[])"
        counts = dict(self._grouped(search, group))
        return [
            Bucket(f"{lower:g}-{upper:g}", counts.get(position, 0), lower, upper)
            for position, (lower, upper) in enumerate(itertools.pairwise(edges), start=1)
        ]

    def _grouped(self, search: Search, group: str) -> list[tuple[Any, ...]]:
        """Count by a value; its SQL and that of the search are pgstac's, with literals quoted."""
        with self._reading() as connection:
            ((where,),) = _fetch(
                connection, "select stac_search_to_where(%s)", Jsonb(request_of(search))
            )
            query = f"select {group}, count(*) from items where {where} group by 1 order by 1"
            return connection.execute(query.encode()).fetchall()

    def health(self) -> dict[str, Any]:
        """Return what an operator wants to see; raise where the database does not answer."""
        ((items, collections, server),) = self._ask(
            "select (select count(*) from items), (select count(*) from collections), "
            "current_setting('server_version')"
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
    return connection.execute(query.encode(), params or None).fetchall()


def _collection(connection: psycopg.Connection, collection_id: str) -> Document:
    document: Document | None = _fetch(connection, "select get_collection(%s)", collection_id)[0][0]
    if document is None:
        raise NotFoundError(f"collection {collection_id} does not exist")
    return document


def _with_extent(connection: psycopg.Connection, document: Document) -> Document:
    """Return a collection whose extent is that of its items, where it has any."""
    ((start, end, west, south, east, north),) = _fetch(  # each from the end of an index
        connection,
        "select min(datetime), max(end_datetime), min(ST_XMin(geometry)), min(ST_YMin(geometry)), "
        "max(ST_XMax(geometry)), max(ST_YMax(geometry)) from items where collection = %s",
        document["id"],
    )
    if start is None:
        return document
    interval = [moment.isoformat().replace("+00:00", "Z") for moment in (start, end)]
    extent = {
        "spatial": {"bbox": [[west, south, east, north]]},
        "temporal": {"interval": [interval]},
    }
    return {**document, "extent": {**document.get("extent", {}), **extent}}


def _item(connection: psycopg.Connection, collection_id: str, item_id: str) -> Document:
    found = _items(connection, collection_id, [item_id])
    if item_id not in found:
        raise NotFoundError(f"item {item_id} does not exist in collection {collection_id}")
    return found[item_id]


def _items(
    connection: psycopg.Connection, collection_id: str, ids: list[str]
) -> dict[str, Document]:
    """Return the items of these ids that are there."""
    query = "select content_nonhydrated(i) from items i where collection = %s and id = any(%s)"
    rows = _fetch(connection, query, collection_id, ids)
    return {item["id"]: _whole(item) for (item,) in rows}


def _whole(item: Document) -> Document:
    """Put together an item and what its collection says of all items."""
    base = item.pop("pgstac:base_item", None)
    item = hydrate_py(base, item) if base else item
    # some writers of pgstac leave this null out, which the item schema demands
    item["properties"] = {"datetime": None, **item.get("properties", {})}
    return item


def _checked(collection_id: str, document: Document) -> Document:
    """Return an item as pgstac gives it back.

    Raises:
        InvalidItemError: it cannot be stored.
    """
    facts = facts_of(document)
    if facts.footprint is None:
        raise InvalidItemError(f"item {facts.id} has no geometry; pgstac stores none without one")
    for name in NUMBERS & document["properties"].keys():
        value = document["properties"][name]
        if not isinstance(value, int | float | None):
            raise InvalidItemError(f"item {facts.id}: {name} must be a number, not {value!r}")
    dump_json(document)
    return {**document, "collection": collection_id, "type": "Feature"}
