"""A `Search` as SQL: conditions, order, and the key of the page that follows.

Paging is by key, not by count: the token holds the sort values and the row number of the last item
shown, and the next page starts after them. Items that arrive or leave meanwhile neither shift the
pages nor appear twice.
"""

import base64
import binascii
import json

import shapely

from lai_service.catalogue.cql2 import geometry_of
from lai_service.catalogue.cql2_sql import (
    INDEXED,
    Sql,
    checked_text,
    filter_to_sql,
    geometry_to_sql,
    joined,
    value_of,
)
from lai_service.catalogue.port import Search, SortKey
from lai_service.errors import BadRequestError

_LATEST_FIRST = (SortKey("datetime", descending=True),)


def conditions_of(search: Search, *, by_index: bool = True) -> Sql:
    """Return the WHERE condition of a search, without its paging.

    Args:
        search: what to look for.
        by_index: find the place by the R*Tree (see `geometry_to_sql`).

    Raises:
        BadRequestError: bbox or geometry are not valid.
        FilterError: the filter is not supported.
    """
    parts = [Sql("1")]
    place = place_of(search)
    # `+` keeps SQLite from an index: of collections where that of the sort order meets the first
    # items soon, of time as well where the R*Tree finds a few.
    plus_time = "+" if place is not None and by_index and search.ids is None else ""
    plus = "+" if plus_time or _walks_along_property(search) else ""
    for column, values in ((f"{plus}i.collection", search.collections), ("i.id", search.ids)):
        if values is not None:
            marks = ", ".join("?" * len(values))
            texts = tuple(checked_text(value) for value in values)
            parts.append(Sql(f"{column} in ({marks})", texts))
    if search.end_us is not None:
        parts.append(Sql(f"{plus_time}i.t0 <= ?", (search.end_us,)))
    if search.start_us is not None:
        parts.append(Sql("i.t1 >= ?", (search.start_us,)))
    if place is not None:
        parts.append(geometry_to_sql(place, by_index=by_index))
    if search.filter is not None:
        parts.append(filter_to_sql(search.filter))
    return joined(" and ", parts)


def _walks_along_property(search: Search) -> bool:
    """Return whether the index of a property gives the items in their order."""
    first = search.sort[0].field.removeprefix("properties.") if search.sort else "datetime"
    return search.ids is None and first in INDEXED


def place_of(search: Search) -> bytes | None:
    """Return the geometry of a search as WKB; None is anywhere.

    Raises:
        BadRequestError: the geometry is not valid.
    """
    if search.intersects is None and search.bbox is None:
        return None
    node = {"bbox": search.bbox} if search.intersects is None else search.intersects
    return shapely.to_wkb(geometry_of(node, "intersects", BadRequestError))


def _keys(search: Search) -> list[tuple[Sql, bool]]:
    """Return the sort expressions with their direction; the last one is the row number."""
    keys = search.sort or _LATEST_FIRST
    for key in keys:
        if key.field.removeprefix("properties.") == "geometry":
            raise BadRequestError("a search cannot be sorted by geometry")
    sorted_by = [(value_of(key.field), key.descending) for key in keys]
    return [*sorted_by, (Sql("i.pk"), keys[-1].descending)]


def order_of(search: Search) -> tuple[Sql, Sql]:
    """Return the sort values to select and the ORDER BY clause."""
    keys = _keys(search)
    order = [Sql(f"{key.text} {'desc' if falls else 'asc'}", key.params) for key, falls in keys]
    return joined(", ", [key for key, _ in keys]), joined(", ", order)


def next_token(search: Search, last: tuple[object, ...]) -> str:
    """Return the token that continues after the item with these sort values."""
    text = json.dumps([_order_name(search), *last], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _order_name(search: Search) -> str:
    keys = search.sort or _LATEST_FIRST
    return ",".join(("-" if key.descending else "+") + key.field for key in keys)


def start_after(search: Search) -> Sql:
    """Return the condition that an item comes after the search's token.

    Raises:
        BadRequestError: the token was not made by this service for this sort order.
    """
    if search.token is None:
        return Sql("1")
    keys = _keys(search)
    last = read_token(search, len(keys))
    alternatives: list[Sql] = []
    equal: list[Sql] = []
    for (key, descending), value in zip(keys, last, strict=True):
        alternatives.append(joined(" and ", [*equal, _after(key, value, descending)]))
        equal.append(Sql(f"{key.text} is ?", (*key.params, value)))
    some = joined(" or ", alternatives)  # `and` binds more tightly
    return Sql(f"({some.text})", some.params)


def _after(key: Sql, value: object, descending: bool) -> Sql:
    """Return the condition that a key comes after a value; in SQLite null is the smallest."""
    if descending:
        if value is None:
            return Sql("0")
        return Sql(f"({key.text} < ? or {key.text} is null)", (*key.params, value, *key.params))
    if value is None:
        return Sql(f"{key.text} is not null", key.params)
    return Sql(f"{key.text} > ?", (*key.params, value))


def read_token(search: Search, count: int) -> list[object]:
    """Return the sort values that the token of a search holds.

    Raises:
        BadRequestError: the token was not made for this sort order.
    """
    token = search.token or ""
    try:
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        values = json.loads(raw)
    except (binascii.Error, ValueError, RecursionError):
        values = None
    if (
        not isinstance(values, list)
        or len(values) != count + 1
        or not all(isinstance(value, str | int | float | None) for value in values)
        or values[0] != _order_name(search)
    ):
        raise BadRequestError("the page token does not belong to this search; start again without")
    return values[1:]
