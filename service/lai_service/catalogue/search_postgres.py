"""A `Search` as SQL over `pgstac.items`: conditions, order, and the key of the following page.

Paging is by key, as in the SQLite catalogue: the token holds the sort values of the last item
shown. pgstac's own token names that item, and fails once the item is gone.

PostgreSQL puts nulls last when ascending, and so do the indexes of pgstac; a STAC search of ours
puts them first. A search is therefore made in stages: the items that have the first sort value,
which come out of the index in order, and those that lack it.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from lai_service.catalogue.cql2_postgres import (
    NUMBERS,
    condition_of,
    intersects,
    property_value,
    time_of,
)
from lai_service.catalogue.cql2_sql import Sql, value_of
from lai_service.catalogue.port import Search, SortKey
from lai_service.catalogue.search_sql import places_of, read_token
from lai_service.catalogue.times import from_microseconds, to_microseconds
from lai_service.errors import BadRequestError

__all__ = ["Key", "Stage", "conditions_of", "keys_of", "stages_of", "token_values"]

_LATEST_FIRST = (SortKey("datetime", descending=True),)


@dataclass(frozen=True)
class Key:
    """One sort expression."""

    sql: Sql
    """Its value."""
    kind: str
    """`time`, `text`, `number` or `json`."""
    descending: bool
    """Largest first."""

    @property
    def nullable(self) -> bool:
        """Return whether items may lack the value."""
        return self.kind in ("number", "json")

    def bound(self, value: Any) -> Sql:  # noqa: ANN401 (a value of a token)
        """Return a value of a token as a parameter of this key's type.

        Raises:
            ValueError: the value is of another type.
        """
        if self.kind == "time" and isinstance(value, str):
            return time_of(to_microseconds(value))
        if self.kind == "text" and isinstance(value, str):
            return Sql('%s::text collate "C"', (value,))
        if self.kind == "number" and isinstance(value, int | float):
            return Sql("%s::float8", (float(value),))
        if self.kind == "json" and isinstance(value, str):
            return Sql("%s::jsonb", (json.dumps(json.loads(value)),))
        raise ValueError(f"{value!r} is no {self.kind}")


@dataclass(frozen=True)
class Stage:
    """A part of a search whose items come before those of the next."""

    where: Sql
    """Condition beside that of the search."""
    order: Sql
    """ORDER BY clause."""


def conditions_of(search: Search) -> Sql:
    """Return the WHERE condition of a search, without its paging.

    Raises:
        BadRequestError: bbox or geometry are not valid.
        FilterError: the filter is not supported.
    """
    parts = [Sql("true")]
    for column, values in (("collection", search.collections), ("id", search.ids)):
        if values is not None:
            parts.append(Sql(f"i.{column} = any(%s::text[])", (list(values),)))
    if search.end_us is not None:
        end = time_of(search.end_us)
        parts.append(Sql(f"i.datetime <= {end.text}", end.params))
    if search.start_us is not None:
        start = time_of(search.start_us)
        parts.append(Sql(f"i.end_datetime >= {start.text}", start.params))
    places = places_of(search)
    if places:
        parts.append(_join(" or ", [intersects(place) for place in places]))
    if search.filter is not None:
        parts.append(condition_of(search.filter))
    return _join(" and ", parts)


def _join(word: str, parts: Iterable[Sql]) -> Sql:
    parts = list(parts)
    text = word.join(part.text for part in parts)
    return Sql(f"({text})", tuple(param for part in parts for param in part.params))


def keys_of(search: Search) -> list[Key]:
    """Return the sort expressions of a search; collection and id make the order total.

    Raises:
        BadRequestError: a field cannot be sorted by.
    """
    keys = [_key(key) for key in search.sort or _LATEST_FIRST]
    last = keys[-1].descending
    ties = (Key(Sql(f'i.{name} collate "C"'), "text", last) for name in ("collection", "id"))
    return [*keys, *ties]


def _key(key: SortKey) -> Key:
    value_of(key.field)  # refuses what cannot be a name
    name = key.field.removeprefix("properties.")
    if name == "geometry":
        raise BadRequestError("a search cannot be sorted by geometry")
    if name in ("id", "collection"):
        return Key(Sql(f'i.{name} collate "C"'), "text", key.descending)
    if name == "datetime":
        return Key(Sql("i.datetime"), "time", key.descending)
    kind = "number" if name in NUMBERS else "json"
    return Key(property_value(name), kind, key.descending)


def stages_of(search: Search, keys: list[Key]) -> list[Stage]:
    """Return the stages that are left after the search's token, in order.

    Raises:
        BadRequestError: the token was not made by this service for this sort order.
    """
    last = None if search.token is None else read_token(search, len(keys))
    first, others = keys[0], keys[1:]
    stages: list[tuple[bool, Stage]] = []
    for empty in _emptiness(first):
        if last is None or (last[0] is None) == empty:
            after = Sql("true") if last is None else _after(keys, last)
        elif not _comes_later(first, empty):
            continue
        else:
            after = Sql("true")
        known = Sql("true")
        if first.nullable:
            known = Sql(f"{first.sql.text} is {'' if empty else 'not '}null", first.sql.params)
        order = [] if empty else [_ordered(first, plain=True)]
        order += [_ordered(key, plain=not key.nullable) for key in others]
        stages.append((empty, Stage(_join(" and ", [known, after]), _listed(order))))
    return [stage for _, stage in stages]


def _emptiness(first: Key) -> tuple[bool, ...]:
    """Return which stages there are, in order: True is the items without the first value."""
    if not first.nullable:
        return (False,)
    return (False, True) if first.descending else (True, False)


def _comes_later(first: Key, empty: bool) -> bool:
    return empty == first.descending


def _ordered(key: Key, *, plain: bool) -> Sql:
    direction = "desc" if key.descending else "asc"
    nulls = "" if plain else (" nulls last" if key.descending else " nulls first")
    return Sql(f"{key.sql.text} {direction}{nulls}", key.sql.params)


def _listed(parts: list[Sql]) -> Sql:
    text = ", ".join(part.text for part in parts)
    return Sql(text, tuple(param for part in parts for param in part.params))


def _after(keys: list[Key], last: list[Any]) -> Sql:
    """Return the condition that an item comes after these sort values."""
    alternatives: list[Sql] = []
    equal: list[Sql] = []
    try:
        for key, value in zip(keys, last, strict=True):
            alternatives.append(_join(" and ", [*equal, _beyond(key, value)]))
            equal.append(_same(key, value))
        start = Sql("true") if last[0] is None else _compared(keys[0], "=", keys[0].bound(last[0]))
    except (ValueError, OverflowError, RecursionError) as error:
        raise BadRequestError("the page token holds values of another kind; start again") from error
    return _join(" and ", [start, _join(" or ", alternatives)])


def _compared(key: Key, more: str, value: Sql) -> Sql:
    sign = "<" if key.descending else ">"
    return Sql(f"{key.sql.text} {sign}{more} {value.text}", key.sql.params + value.params)


def _beyond(key: Key, value: Any) -> Sql:  # noqa: ANN401
    if value is None:  # nulls are the smallest
        sql = Sql("false") if key.descending else Sql(f"{key.sql.text} is not null", key.sql.params)
        return sql
    beyond = _compared(key, "", key.bound(value))
    if key.descending and key.nullable:
        return _join(" or ", [beyond, Sql(f"{key.sql.text} is null", key.sql.params)])
    return beyond


def _same(key: Key, value: Any) -> Sql:  # noqa: ANN401
    if value is None:
        return Sql(f"{key.sql.text} is null", key.sql.params)
    bound = key.bound(value)
    return Sql(f"{key.sql.text} = {bound.text}", key.sql.params + bound.params)


def token_values(keys: list[Key], row: tuple[Any, ...]) -> tuple[str | float | None, ...]:
    """Return the sort values of an item as a token holds them."""
    return tuple(_portable(key, value) for key, value in zip(keys, row, strict=True))


def _portable(key: Key, value: Any) -> str | float | None:  # noqa: ANN401
    if value is not None and key.kind == "time":
        return from_microseconds(to_microseconds(value.isoformat()))
    if value is not None and key.kind == "json":
        return json.dumps(value)
    portable: str | float | None = value
    return portable
