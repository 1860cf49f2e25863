"""The SQL functions that SQLite lacks, registered on every connection."""

import json
import re
import sqlite3
from functools import lru_cache

import shapely

from lai_service.catalogue.times import to_microseconds

__all__ = ["register_functions"]


def register_functions(connection: sqlite3.Connection) -> None:
    """Register `geometry_is`, `array_is`, `like_glob`, `fold` and `to_us` on a connection."""
    register = connection.create_function
    register("geometry_is", 3, _geometry_is, deterministic=True)
    register("array_is", 3, _array_is, deterministic=True)
    register("fold", 1, _fold, deterministic=True)
    register("like_glob", 2, _like, deterministic=True)
    register("to_us", 1, _to_us, deterministic=True)


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


def _like(value: object, pattern: str) -> bool | None:
    """Match CQL2 LIKE: case-sensitive, `%` any text, `_` one character, backslash escapes.

    The pieces between the `%` are found from left to right, so that no pattern can make the time
    grow faster than text times pattern.
    """
    if not isinstance(value, str):
        return None
    pieces = _like_pieces(pattern)
    if len(pieces) == 1:
        return pieces[0].fullmatch(value) is not None
    first = pieces[0].match(value)
    if first is None:
        return False
    position = first.end()
    for piece in pieces[1:-1]:
        found = piece.search(value, position)
        if found is None:
            return False
        position = found.end()
    last_start = len(value) - pieces[-1].length
    return last_start >= position and pieces[-1].fullmatch(value, last_start) is not None


class _Piece:
    """A piece of a LIKE pattern that holds no `%`."""

    def __init__(self, tokens: list[str]) -> None:
        self.length = len(tokens)
        regex = "".join("." if token == "_" else re.escape(token[-1]) for token in tokens)
        compiled = re.compile(regex, re.DOTALL)
        self.match, self.search, self.fullmatch = (
            compiled.match,
            compiled.search,
            compiled.fullmatch,
        )


@lru_cache(maxsize=64)
def _like_pieces(pattern: str) -> list[_Piece]:
    pieces: list[list[str]] = [[]]
    for token in re.findall(r"\\.|.", pattern, re.DOTALL):
        if token == "%":
            pieces.append([])
        else:
            pieces[-1].append(token)
    return [_Piece(tokens) for tokens in pieces]


def _to_us(value: object) -> int | None:
    if not isinstance(value, str):
        return None
    try:
        return to_microseconds(value)
    except ValueError:
        return None
