"""The catalogue behind the API: one interface, whatever database stands behind it.

A catalogue stores STAC documents as plain dictionaries, exactly as they were given but for the
links that the API makes itself. It knows nothing of HTTP. `sqlite` is the embedded default,
`pgstac` the one on PostgreSQL; both pass the same tests but for those marked `sqlite_only`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from lai_service.errors import ConflictError, NotFoundError

__all__ = [
    "QUICK_MS",
    "Bucket",
    "Catalogue",
    "Document",
    "Page",
    "Search",
    "SortKey",
    "WriteMode",
    "Written",
    "check_mode",
]

QUICK_MS = 5
"""So long may it take to say how many items there are beside those on the page."""

Document = dict[str, Any]
"""A STAC item or collection, as `json.loads` gives it."""

WriteMode = Literal["insert", "replace", "upsert"]
"""`insert` fails where the id exists, `replace` where it does not, `upsert` never."""

Written = Literal["created", "updated", "unchanged"]
"""What a write did; writing the same document again is `unchanged`."""


def check_mode(mode: WriteMode, exists: bool, what: str) -> None:
    """Raise ConflictError or NotFoundError where a write mode does not allow the write."""
    if mode == "insert" and exists:
        raise ConflictError(f"{what} exists already; PUT replaces it")
    if mode == "replace" and not exists:
        raise NotFoundError(f"{what} does not exist")


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

    collections: tuple[str, ...] | None = None
    """Ids of collections; None is all."""
    ids: tuple[str, ...] | None = None
    """Ids of items; None is all."""
    bbox: tuple[float, float, float, float] | None = None
    """West, south, east, north in degrees; west > east crosses the antimeridian."""
    intersects: Mapping[str, Any] | None = None
    """GeoJSON geometry, longitude and latitude in degrees."""
    start_us: int | None = None
    """Earliest time, microseconds since 1970 UTC, inclusive; None is open."""
    end_us: int | None = None
    """Latest time, microseconds since 1970 UTC, inclusive; None is open."""
    filter: Mapping[str, Any] | bool | None = None
    """CQL2 JSON expression."""
    sort: tuple[SortKey, ...] = ()
    """Sort order; latest first where empty. Ties have a fixed order of their own."""
    limit: int = 10
    """Most items on the page."""
    token: str | None = None
    """Where the last page ended, as given by `Page.next_token`."""


@dataclass(frozen=True)
class Page:
    """One page of a search."""

    items: list[Document]
    """Items of the page in sort order."""
    next_token: str | None
    """Token of the following page; None on the last."""


@dataclass(frozen=True)
class Bucket:
    """How many items fall into one class of an aggregation."""

    key: str
    """Name of the class, e.g. `2024-06-01T00:00:00Z` or `0.8-0.9`."""
    frequency: int
    """Number of items."""
    lower: float | None = field(default=None)
    """Lower end of a numeric class, inclusive."""
    upper: float | None = field(default=None)
    """Upper end of a numeric class, exclusive."""


class Catalogue(Protocol):
    """What the service asks of a database; methods may be called from several threads."""

    computes: bool
    """Whether filters may hold arithmetic."""

    def collections(self) -> list[Document]:
        """Return all collections, ordered by id, their extents covering their items."""

    def collection(self, collection_id: str) -> Document:
        """Return one collection, or raise NotFoundError."""

    def put_collection(self, document: Document, mode: WriteMode) -> Written:
        """Store a collection, or raise ConflictError (insert) or NotFoundError (replace)."""

    def change_collection(
        self, collection_id: str, change: Callable[[Document], Document]
    ) -> Document:
        """Replace a collection by `change(collection)`; nobody writes in between."""

    def remove_collection(self, collection_id: str) -> Document:
        """Remove a collection with its items; return it, or raise NotFoundError."""

    def item(self, collection_id: str, item_id: str) -> Document:
        """Return one item, or raise NotFoundError."""

    def put_items(
        self, collection_id: str, documents: Iterable[Document], mode: WriteMode
    ) -> list[Written]:
        """Store items of one collection: all of them or, when an error is raised, none."""

    def change_item(
        self, collection_id: str, item_id: str, change: Callable[[Document], Document]
    ) -> Document:
        """Replace an item by `change(item)`; nobody writes in between."""

    def remove_item(self, collection_id: str, item_id: str) -> Document:
        """Remove an item; return it, or raise NotFoundError."""

    def search(self, search: Search) -> Page:
        """Return one page of the items that match."""

    def count(self, search: Search) -> int:
        """Return how many items match, whatever the limit and the token."""

    def quick_count(self, search: Search) -> int | None:
        """Return the same, or None where it takes more than `QUICK_MS` milliseconds."""

    def count_by_month(self, search: Search) -> list[Bucket]:
        """Return how many matching items fall into each calendar month (UTC)."""

    def count_by_range(self, search: Search, field: str, edges: tuple[float, ...]) -> list[Bucket]:
        """Return how many matching items have the property in each class between two edges."""

    def health(self) -> dict[str, Any]:
        """Return what an operator wants to see; raise where the database does not answer."""

    def close(self) -> None:
        """Give back connections."""
