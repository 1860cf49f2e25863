"""The catalogue behind the API: one class, whatever database stands behind it.

A catalogue stores STAC documents as plain dictionaries, exactly as they were given but for the
links that the API makes itself. It is independent of HTTP. `sqlite` is the embedded default,
`pgstac` the one on PostgreSQL; both pass the same tests but for those marked `sqlite_only`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Protocol

from lai_service.catalogue.cql2_sql import Sql
from lai_service.catalogue.items import Document, dump_json
from lai_service.errors import ConflictError, InvalidItemError, NotFoundError

QUICK_MS = 5  # time allowed to count the items beside those on the page

WriteMode = Literal["insert", "replace", "upsert"]
"""`insert` fails where the id exists, `replace` where it does not, `upsert` never."""

Written = Literal["created", "updated", "unchanged"]
"""What a write did; writing the same document again is `unchanged`."""


@dataclass(frozen=True)
class SortKey:
    """One key of a sort order."""

    field: str
    """`id`, `collection`, `datetime`, or the name of a property (with or without `properties.`)."""
    descending: bool = False
    """Largest first; items without the property come last when descending, first otherwise."""


@dataclass(frozen=True)
class Search:
    """What to look for; everything given must hold."""

    collections: tuple[str, ...] | None = None  # ids of collections; None is all
    ids: tuple[str, ...] | None = None  # ids of items; None is all
    bbox: tuple[float, float, float, float] | None = None
    """West, south, east, north in degrees; west > east crosses the antimeridian."""
    intersects: Mapping[str, Any] | None = None
    """GeoJSON geometry, longitude and latitude in degrees."""
    start_us: int | None = None
    """Earliest time, microseconds since 1970 UTC, inclusive; None is open."""
    end_us: int | None = None  # latest time, microseconds since 1970 UTC, inclusive; None is open
    filter: Mapping[str, Any] | bool | None = None  # CQL2 JSON expression
    sort: tuple[SortKey, ...] = ()
    """Sort order; latest first where empty. Ties have a fixed order of their own."""
    limit: int = 10  # most items on the page
    token: str | None = None  # where the last page ended, as given by `Page.next_token`


@dataclass(frozen=True)
class Page:
    """One page of a search."""

    items: list[Document]  # items of the page in sort order
    next_token: str | None  # token of the following page; None on the last


class Connection(Protocol):
    """What `sqlite3` and `psycopg` have in common."""

    def execute(self, query: Any, params: Any = ..., /) -> Any:  # noqa: ANN401
        """Run one statement."""


class Catalogue(ABC):
    """Documents in a database; methods may be called from several threads.

    Every write is one transaction: it is stored whole or not at all. The abstract methods are what
    a database does in its own way; those that take a connection run inside such a transaction.
    """

    MONTH: ClassVar[Sql]  # the month of an item, `2024-06-01T00:00:00Z`

    @abstractmethod
    def _reading(self) -> AbstractContextManager[Connection]:
        """Lend a connection."""

    @abstractmethod
    def _writing(self, collection_id: str) -> AbstractContextManager[Connection]:
        """Lend a connection inside a transaction; writers of one collection queue."""

    @abstractmethod
    def _ask(self, query: Sql) -> list[Any]:
        """Return the rows of a query."""

    @abstractmethod
    def _collections(self, connection: Connection, collection_id: str | None) -> list[Document]:
        """Return the collection of this id as stored, or all in the order of their ids."""

    @abstractmethod
    def _with_extent(self, connection: Connection, document: Document) -> Document:
        """Return a collection whose extent is that of its items."""

    @abstractmethod
    def _store_collection(self, connection: Connection, document: Document, is_new: bool) -> None:
        """Store a collection."""

    @abstractmethod
    def _drop_collection(self, connection: Connection, collection_id: str) -> None:
        """Remove a collection and its items."""

    @abstractmethod
    def _items(
        self, connection: Connection, collection_id: str, ids: list[str]
    ) -> dict[str, Document]:
        """Return the items of these ids that are there."""

    @abstractmethod
    def _checked(self, document: Document) -> Document:
        """Return an item as it is given back later, or raise InvalidItemError."""

    @abstractmethod
    def _store_items(
        self,
        connection: Connection,
        collection_id: str,
        items: list[Document],
        old: Mapping[str, Document],
    ) -> None:
        """Store checked items, or raise InvalidItemError; `old` holds those that they replace."""

    @abstractmethod
    def _drop_item(self, connection: Connection, collection_id: str, item_id: str) -> None:
        """Remove an item."""

    @abstractmethod
    def _where(self, search: Search) -> Sql:
        """Return the condition of a search on the table `items`."""

    @abstractmethod
    def _class_of(self, field: str, edges: tuple[float, ...]) -> Sql:
        """Return the number of the class that the value of a property is in; 1 is the first."""

    @abstractmethod
    def _server(self) -> dict[str, str]:
        """Return the kind of the catalogue and the versions of its database."""

    @abstractmethod
    def search(self, search: Search) -> Page:
        """Return one page of the items that match."""

    @abstractmethod
    def count(self, search: Search) -> int:
        """Return how many items match, whatever the limit and the token."""

    @abstractmethod
    def quick_count(self, search: Search) -> int | None:
        """Return the same, or None where it takes more than `QUICK_MS` milliseconds."""

    @abstractmethod
    def close(self) -> None:
        """Give back connections."""

    def collections(self) -> list[Document]:
        """Return all collections, ordered by id, their extents covering their items."""
        with self._reading() as connection:
            found = self._collections(connection, None)
            return [self._with_extent(connection, document) for document in found]

    def collection(self, collection_id: str) -> Document:
        """Return one collection, or raise NotFoundError."""
        with self._reading() as connection:
            return self._with_extent(connection, self._collection(connection, collection_id))

    def _collection(self, connection: Connection, collection_id: str) -> Document:
        found = self._collections(connection, collection_id)
        if not found:
            raise NotFoundError(f"collection {collection_id} does not exist")
        return found[0]

    def put_collection(self, document: Document, mode: WriteMode) -> Written:
        """Store a collection, or raise ConflictError (insert) or NotFoundError (replace)."""
        key = str(document["id"])
        with self._writing(key) as connection:
            old = next(iter(self._collections(connection, key)), None)
            written = _outcome(mode, old, document, f"collection {key}")
            if written != "unchanged":
                self._store_collection(connection, document, old is None)
        return written

    def change_collection(
        self, collection_id: str, change: Callable[[Document], Document]
    ) -> Document:
        """Replace a collection by `change(collection)`, with no write in between."""
        with self._writing(collection_id) as connection:
            document = change(self._collection(connection, collection_id))
            self._store_collection(connection, document, False)
        return document

    def remove_collection(self, collection_id: str) -> Document:
        """Remove a collection with its items; return it, or raise NotFoundError."""
        with self._writing(collection_id) as connection:
            document = self._collection(connection, collection_id)
            self._drop_collection(connection, collection_id)
        return document

    def find_item(self, collection_id: str, item_id: str) -> Document | None:
        """Return one item; None where it is not there."""
        with self._reading() as connection:
            return self._items(connection, collection_id, [item_id]).get(item_id)

    def item(self, collection_id: str, item_id: str) -> Document:
        """Return one item, or raise NotFoundError."""
        with self._reading() as connection:
            return self._item(connection, collection_id, item_id)

    def _item(self, connection: Connection, collection_id: str, item_id: str) -> Document:
        found = self._items(connection, collection_id, [item_id])
        if item_id not in found:
            raise NotFoundError(f"item {item_id} does not exist in collection {collection_id}")
        return found[item_id]

    def put_items(
        self, collection_id: str, documents: Iterable[Document], mode: WriteMode
    ) -> list[Written]:
        """Store items of one collection: all of them or, when an error is raised, none."""
        items = [self._checked({**document, "collection": collection_id}) for document in documents]
        with self._writing(collection_id) as connection:
            self._collection(connection, collection_id)
            ids = [str(item.get("id")) for item in items]
            old = self._items(connection, collection_id, ids)
            known, written = dict(old), list[Written]()
            changed: dict[str, Document] = {}
            for key, item in zip(ids, items, strict=True):
                what = f"item {key} of collection {collection_id}"
                written.append(_outcome(mode, known.get(key), item, what))
                if written[-1] != "unchanged":
                    known[key] = changed[key] = item
            self._store_items(connection, collection_id, list(changed.values()), old)
        return written

    def change_item(
        self, collection_id: str, item_id: str, change: Callable[[Document], Document]
    ) -> Document:
        """Replace an item by `change(item)`, with no write in between."""
        with self._writing(collection_id) as connection:
            old = self._item(connection, collection_id, item_id)
            document = change(old)
            if document.get("id") != item_id:
                raise InvalidItemError("a patch cannot change the id of an item")
            item = self._checked({**document, "collection": collection_id})
            self._store_items(connection, collection_id, [item], {item_id: old})
        return document

    def remove_item(self, collection_id: str, item_id: str) -> Document:
        """Remove an item; return it, or raise NotFoundError."""
        with self._writing(collection_id) as connection:
            document = self._item(connection, collection_id, item_id)
            self._drop_item(connection, collection_id, item_id)
        return document

    def count_by_month(self, search: Search) -> list[tuple[str, int]]:
        """Return how many matching items each calendar month (UTC) has, by its first second."""
        return self._grouped(search, self.MONTH)

    def count_by_range(self, search: Search, field: str, edges: tuple[float, ...]) -> list[int]:
        """Return how many matching items have the property between two edges, the upper excluded.

        Returns:
            One number fewer than edges.
        """
        counts = dict(self._grouped(search, self._class_of(field, edges)))
        return [counts.get(number, 0) for number in range(1, len(edges))]

    def _grouped(self, search: Search, group: Sql) -> list[tuple[Any, int]]:
        where = self._where(search)
        query = (
            f"select {group.text}, count(*) from items i where {where.text} group by 1 order by 1"
        )
        return self._ask(Sql(query, group.params + where.params))

    def health(self) -> dict[str, Any]:
        """Return facts for an operator; raise where the database does not answer."""
        counts = "select (select count(*) from items), (select count(*) from collections)"
        ((items, collections),) = self._ask(Sql(counts))
        return {**self._server(), "collections": collections, "items": items}


def _outcome(mode: WriteMode, old: Document | None, new: Document, what: str) -> Written:
    """Return what a write does, or raise where its mode does not allow it."""
    if mode == "insert" and old is not None:
        raise ConflictError(f"{what} exists already; PUT replaces it")
    if mode == "replace" and old is None:
        raise NotFoundError(f"{what} does not exist")
    if old is None:
        return "created"
    return "unchanged" if dump_json(old) == dump_json(new) else "updated"


def all_items(catalogue: Catalogue, search: Search | None = None) -> Iterator[Document]:
    """Yield every item that matches, in the order of the search.

    Args:
        catalogue: where to look.
        search: what to look for; everything where not given. Its token is where to start.
    """
    search = replace(search or Search(), limit=1000)
    while True:
        page = catalogue.search(search)
        yield from page.items
        if page.next_token is None:
            return
        search = replace(search, token=page.next_token)
