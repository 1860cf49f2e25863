"""A `Search` as the request that pgstac's functions take: JSON in, no SQL of ours.

pgstac translates filter, sort order and page token itself. What it reads otherwise than CQL2, or
not at all, is said here in operators that it knows: boxes (across ±180° too), a literal before the
footprint, days, empty lists, arithmetic, `a_containedBy` and `a_equals`. What is left different is
listed in `service/README.md`.
"""

from collections.abc import Mapping
from typing import Any

import shapely
from shapely.geometry import mapping

from lai_service.catalogue.cql2_operators import SPATIAL, geometry_of, sides_of
from lai_service.catalogue.cql2_sql import ARITHMETIC, checked_text, filter_to_sql
from lai_service.catalogue.pgstac_schema import NUMBER
from lai_service.catalogue.port import Document, Search
from lai_service.catalogue.search_sql import order_of, place_of, read_token
from lai_service.catalogue.times import from_microseconds

__all__ = ["request_of"]

_TRUE: Document = {"op": "=", "args": [1, 1]}
_FALSE: Document = {"op": "=", "args": [1, 0]}
_AS_SETS = {"a_containedby": ("a_contained_by",), "a_equals": ("a_contains", "a_contained_by")}
_DAYS = {
    "=": ("t_intersects", False),
    "<>": ("t_intersects", True),
    "!=": ("t_intersects", True),
    "<": ("t_before", False),
    ">=": ("t_before", True),
    ">": ("t_after", False),
    "<=": ("t_after", True),
}
"""Comparison with a day, as an operator on times and whether it is negated."""


def request_of(search: Search) -> Document:
    """Return a search as pgstac takes it.

    Raises:
        BadRequestError: place, order or token make no sense.
        FilterError: the filter is outside the white list (`cql2_sql`), or pgstac cannot compute it.
    """
    order_of(search)  # says what cannot be sorted by
    request: Document = {
        "limit": search.limit,
        "filter-lang": "cql2-json",
        "conf": {"context": "off", "nohydrate": True},
    }
    for name, values in (("collections", search.collections), ("ids", search.ids)):
        if values is not None:
            request[name] = [checked_text(value) for value in values]
    if search.start_us is not None or search.end_us is not None:
        ends = (search.start_us, search.end_us)
        request["datetime"] = "/".join(".." if t is None else from_microseconds(t) for t in ends)
    place = place_of(search)
    if place is not None:
        request["intersects"] = mapping(shapely.from_wkb(place))
    if search.filter is not None:
        filter_to_sql(search.filter)
        request["filter"] = _said(search.filter)
    if search.sort:
        request["sortby"] = [
            {"field": key.field, "direction": "desc" if key.descending else "asc"}
            for key in search.sort
        ]
    if search.token is not None:
        (request["token"],) = read_token(search, 1)
    return request


def _said(node: Any) -> Any:  # noqa: ANN401 (CQL2 JSON that passed the white list)
    """Write a filter in operators that pgstac knows."""
    if isinstance(node, bool):
        return _TRUE if node else _FALSE
    if not isinstance(node, Mapping) or "op" not in node:
        return node
    operator, args = node["op"].lower(), list(node["args"])
    if operator in SPATIAL:
        predicate, literal = sides_of(SPATIAL[operator], args, operator)
        return {
            "op": f"s_{predicate}",
            "args": [{"property": "geometry"}, mapping(geometry_of(literal))],
        }
    if operator in ("and", "or"):
        parts = [_said(arg) for arg in args]
        return {"op": operator, "args": parts} if parts else _said(operator == "and")
    if operator == "not":
        return {"op": "not", "args": [_said(args[0])]}
    if operator == "between":
        value, low, high = [args[0], *args[1]] if len(args) == 2 else args
        bounds = [{"op": ">=", "args": [value, low]}, {"op": "<=", "args": [value, high]}]
        return _said({"op": "and", "args": bounds})
    if operator == "in" and (not args[1] or any(map(_is_day, args[1]))):
        return _said({"op": "or", "args": [{"op": "=", "args": [args[0], one]} for one in args[1]]})
    if operator in _DAYS and any(map(_is_day, args)):
        temporal, negated = _DAYS[operator]
        said = {"op": temporal, "args": args}
        return {"op": "not", "args": [said]} if negated else said
    if operator in _AS_SETS:
        both = [{"op": name, "args": args} for name in _AS_SETS[operator]]
        return {"op": "and", "args": both}
    if any(isinstance(arg, Mapping) and arg.get("op") in ARITHMETIC for arg in args):
        args = [_computed(arg) for arg in args]
    return {"op": operator, "args": args}


def _computed(node: Any) -> Document:  # noqa: ANN401
    """Write a side of a calculation, in brackets and as a number, which pgstac 0.10 leaves out."""
    if isinstance(node, Mapping) and node.get("op") in ARITHMETIC:
        node = {"op": node["op"], "args": [_computed(arg) for arg in node["args"]]}
    return {"op": NUMBER, "args": [node]}


def _is_day(node: object) -> bool:
    return isinstance(node, Mapping) and "date" in node
