"""CQL2 JSON to SQLite SQL, by a white list and with bound parameters only.

In: an expression as CQL2 JSON (OGC 21-065r2). Out: one SQL condition over the table `items`
(alias `i`) and its parameters. No text of the caller enters the SQL: names of properties travel as
bound JSON paths, except those of `INDEXED`, which are our own constants, so that SQLite can use
their indexes. What is not on the list is a FilterError.

Supported: and, or, not, = <> < <= > >=, isNull, between, in, like, casei, + - * /, the spatial,
temporal and array operators of `cql2_operators`, and the literals string, number, boolean,
timestamp, date, interval, bbox and GeoJSON geometry. Unknown stays unknown
(SQL's NULL), as in CQL2: an item without the property matches neither `x > 2` nor `NOT x > 2`.
An item whose `datetime` is null is compared by its start.

The functions `to_us`, `geometry_is`, `array_is` and `fold` are those of
`sqlite_connections`.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import shapely

from lai_service.catalogue.cql2 import ARRAY, SPATIAL, TEMPORAL, geometry_of, instant_of, sides_of
from lai_service.catalogue.items import DAY_US, to_microseconds
from lai_service.errors import FilterError

INDEXED = ("laiq:lai_mean", "laiq:valid_fraction", "laiq:uncertainty_mean")
"""Properties with an index of their own; part of the database's schema."""
MAX_DEPTH = 200
MAX_LIST = 1000
MAX_PARTS = 8

_COMPARISONS = {"=": "=", "<>": "<>", "!=": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
ARITHMETIC = frozenset("+-*/")


@dataclass(frozen=True)
class Sql:
    """A piece of SQL."""

    text: str  # SQL with `?` where a parameter goes
    params: tuple[object, ...] = ()  # one value for each `?`, in order
    kind: str = "value"
    """`value` (number, text or null), `number`, `computed` (number or null), `text`, `time`, `day`,
    `geometry` or `truth`."""


def joined(separator: str, parts: Sequence[Sql]) -> Sql:
    """Return pieces of SQL as one, with a separator between them."""
    params = tuple(param for part in parts for param in part.params)
    return Sql(separator.join(part.text for part in parts), params, "truth")


def filter_to_sql(node: object, depth: int = 0) -> Sql:
    """Translate a CQL2 JSON expression into a condition for a WHERE clause.

    Args:
        node: an object or a boolean.
        depth: how deep it is nested.

    Raises:
        FilterError: the expression is malformed or uses what is not supported.
    """
    if depth > MAX_DEPTH:
        raise FilterError(f"the filter is nested more than {MAX_DEPTH} deep")
    if isinstance(node, bool):
        return Sql(str(int(node)), kind="truth")
    operator, args = _operator(node)
    build = _TRUTHS.get(operator)
    if build is None:
        known = " ".join(sorted(_TRUTHS))
        raise FilterError(f"filter operator {operator!r} is not supported here; use one of {known}")
    return build(operator, args, depth + 1)


def _operator(node: object) -> tuple[str, list[Any]]:
    if not isinstance(node, Mapping) or not isinstance(node.get("op"), str):
        raise FilterError(f"expected an operator of CQL2 JSON, found {_short(node)}")
    args = node.get("args")
    if not isinstance(args, list):
        raise FilterError(f"filter operator {node['op']!r} needs a list of args")
    return node["op"].lower(), args


def _connect(operator: str, args: list[Any], depth: int) -> Sql:
    if not args:
        return Sql("1" if operator == "and" else "0", kind="truth")
    whole = joined(f" {operator} ", [filter_to_sql(arg, depth) for arg in args])
    return Sql(f"({whole.text})", whole.params, "truth")


def _negate(operator: str, args: list[Any], depth: int) -> Sql:
    (arg,) = _exactly(1, operator, args)
    part = filter_to_sql(arg, depth)
    return Sql(f"(not {part.text})", part.params, "truth")


def _compare(operator: str, args: list[Any], depth: int) -> Sql:
    left, right = _comparable([_value(arg, depth) for arg in _exactly(2, operator, args)], operator)
    text = f"{left.text} {_COMPARISONS[operator]} {right.text}"
    params = left.params + right.params
    # SQLite sorts every text after every number, so `'abc' > 3` would be true: unknown instead.
    for side, other in ((left, right), (right, left)):
        types = {"number": "('integer', 'real')", "text": "('text')"}.get(other.kind)
        if side.kind in ("value", "computed") and types and operator != "=":
            text = f"case when typeof({side.text}) in {types} then {text} end"
            params = side.params + params
    return Sql(f"({text})", params, "truth")


def _is_null(operator: str, args: list[Any], depth: int) -> Sql:
    (arg,) = _exactly(1, operator, args)
    part = _value(arg, depth)
    return Sql(f"({part.text} is null)", part.params, "truth")


def _between(operator: str, args: list[Any], depth: int) -> Sql:
    if len(args) == 2 and isinstance(args[1], list):  # the form of the drafts of CQL2
        args = [args[0], *args[1]]
    value, low, high = _exactly(3, operator, args)
    return _connect(
        "and", [{"op": ">=", "args": [value, low]}, {"op": "<=", "args": [value, high]}], depth
    )


def _in(operator: str, args: list[Any], depth: int) -> Sql:
    value, choices = _exactly(2, operator, args)
    if not isinstance(choices, list) or len(choices) > MAX_LIST:
        raise FilterError(f"the second argument of 'in' must be a list of at most {MAX_LIST}")
    wanted, *parts = _comparable([_value(one, depth) for one in (value, *choices)], operator)
    found = joined(", ", parts)
    return Sql(f"({wanted.text} in ({found.text}))", wanted.params + found.params, "truth")


def _like(operator: str, args: list[Any], depth: int) -> Sql:
    value, pattern = _exactly(2, operator, args)
    part = _value(value, depth)
    wanted = _value(pattern, depth)
    if wanted.kind != "text":
        raise FilterError(f"the pattern of 'like' must be a string, found {_short(pattern)}")
    glob = glob_of(str(wanted.params[0]))
    text = f"(case when typeof({part.text}) = 'text' then {part.text} glob ? end)"
    return Sql(text, (*part.params, *part.params, glob), "truth")


def glob_of(pattern: str) -> str:
    """Return what SQLite's GLOB, which heeds case, takes for a pattern of LIKE."""
    tokens = re.findall(r"\\.|.", pattern, re.DOTALL)
    return "".join(_GLOBS.get(token, _GLOBS_ESCAPED.get(token[-1], token[-1])) for token in tokens)


_GLOBS = {"%": "*", "_": "?"}
_GLOBS_ESCAPED = {"*": "[*]", "?": "[?]", "[": "[[]"}


def _spatial(operator: str, args: list[Any], depth: int) -> Sql:
    predicate, literal = sides_of(SPATIAL[operator], args, operator)
    wkb = shapely.to_wkb(geometry_of(literal))
    return geometry_to_sql(wkb, predicate=predicate, by_index=predicate != "disjoint")


def _temporal(operator: str, args: list[Any], depth: int) -> Sql:
    first, second = (_interval(arg) for arg in _exactly(2, operator, args))
    ends = dict(zip(("a0", "a1", "b0", "b1"), (*first, *second), strict=True))
    used = joined("", [ends[name] for name in re.findall(r"{(\w+)}", TEMPORAL[operator])])
    text = TEMPORAL[operator].format(**{name: end.text for name, end in ends.items()})
    return Sql(f"({text})", used.params, "truth")


def _interval(node: object) -> tuple[Sql, Sql]:
    """Return start and end of a moment, a day, an interval, or the time of an item."""
    if isinstance(node, Mapping) and "property" in node:
        part = value_of(node["property"])
        return (part, Sql("i.t1", kind="time")) if part.text == "i.t0" else (_as_time(part),) * 2
    if isinstance(node, Mapping) and "interval" in node:
        ends = node["interval"]
        if not isinstance(ends, list) or len(ends) != 2:
            raise FilterError(f"an interval has two ends, found {_short(ends)}")
        return _end(ends[0], last=False), _end(ends[1], last=True)
    return _end(node, last=False), _end(node, last=True)


def _end(node: object, *, last: bool) -> Sql:
    if isinstance(node, Mapping) and "property" in node:
        return _as_time(value_of(node["property"]))
    return Sql("?", (instant_of(node, last=last),), "time")


def _array(operator: str, args: list[Any], depth: int) -> Sql:
    both = joined(", ", [_elements(arg) for arg in _exactly(2, operator, args)])
    return Sql(f"array_is({both.text}, ?)", (*both.params, operator), "truth")


def _elements(node: object) -> Sql:
    if isinstance(node, Mapping) and "property" in node:
        return value_of(node["property"])
    if not isinstance(node, list) or len(node) > MAX_LIST:
        raise FilterError(f"expected a list of at most {MAX_LIST}, found {_short(node)}")
    return Sql("?", (checked_text(json.dumps(node)),), "text")


def geometry_to_sql(wkb: bytes, *, by_index: bool = True, predicate: str = "intersects") -> Sql:
    """Return the condition that an item's footprint meets a geometry.

    Args:
        wkb: the geometry as WKB bytes, degrees.
        predicate: another relation of the footprint to it (`SPATIAL`).
        by_index: look the candidates up in the R*Tree first; right unless they are so many that
            walking along the sort order meets enough of them soon.
    """
    exact = Sql("geometry_is(i.geometry, ?, ?)", (wkb, predicate), "truth")
    if not by_index:
        return exact
    box = box_to_sql(wkb)
    return Sql(f"(i.pk in ({box.text}) and {exact.text})", box.params + exact.params, "truth")


def box_to_sql(wkb: bytes) -> Sql:
    """Return the query for the row numbers of items whose box meets that of a geometry."""
    geometry = shapely.from_wkb(wkb)
    parts = list(shapely.get_parts(geometry))  # two, as a rule, across the antimeridian
    boxes = [part.bounds for part in parts] if len(parts) <= MAX_PARTS else [geometry.bounds]
    one = "select pk from items_rtree where minx <= ? and maxx >= ? and miny <= ? and maxy >= ?"
    edges = [(east, west, north, south) for west, south, east, north in boxes]
    return Sql(" union ".join([one] * len(boxes)), tuple(edge for box in edges for edge in box))


_TRUTHS: dict[str, Callable[[str, list[Any], int], Sql]] = {
    "and": _connect,
    "or": _connect,
    "not": _negate,
    "isnull": _is_null,
    "between": _between,
    "in": _in,
    "like": _like,
    **dict.fromkeys(SPATIAL, _spatial),
    **dict.fromkeys(TEMPORAL, _temporal),
    **dict.fromkeys(ARRAY, _array),
    **dict.fromkeys(_COMPARISONS, _compare),
}


def _value(node: object, depth: int) -> Sql:
    if depth > MAX_DEPTH:
        raise FilterError(f"the filter is nested more than {MAX_DEPTH} deep")
    if isinstance(node, bool | int | float):
        return Sql("?", (_number(node),), "number")
    if isinstance(node, str):
        return Sql("?", (checked_text(node),), "text")
    if isinstance(node, Mapping):
        if str(node.get("op")).lower() == "casei":
            return _case_insensitive(node, depth + 1)
        if "op" in node:
            return _arithmetic(node, depth + 1)
        if "property" in node:
            return value_of(node["property"])
        if "timestamp" in node or "date" in node:
            return _time_literal(node)
    raise FilterError(f"expected a value of CQL2 JSON, found {_short(node)}")


def _case_insensitive(node: Mapping[str, Any], depth: int) -> Sql:
    _, args = _operator(node)
    (arg,) = _exactly(1, "casei", args)
    part = _value(arg, depth)
    if part.kind == "text":
        return Sql("?", (str(part.params[0]).lower(),), "text")
    if part.kind != "value":
        raise FilterError(f"casei takes a text, found {_short(arg)}")
    return Sql(f"fold({part.text})", part.params)


def _number(node: float) -> float:
    """Return a number that SQLite can hold: an integer of 64 bits, or a float."""
    if isinstance(node, int) and not -(2**63) <= node < 2**63:
        try:
            return float(node)
        except OverflowError as error:
            raise FilterError("the filter holds a number that is too large") from error
    return node


def checked_text(text: str) -> str:
    """Return a text that can be stored and compared.

    Raises:
        FilterError: it holds half of a surrogate pair, as JSON can write it.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise FilterError(
            f"{_short(text)} holds half a surrogate pair, which is no text"
        ) from error
    return text


def _arithmetic(node: Mapping[str, Any], depth: int) -> Sql:
    operator, args = _operator(node)
    if operator not in ARITHMETIC:
        raise FilterError(f"{operator!r} is not supported as a value; use + - * / casei")
    left, right = (_operand(_value(arg, depth)) for arg in _exactly(2, operator, args))
    left_text = f"1.0 * {left.text}" if operator == "/" else left.text  # 1 / 2 is 0 in SQLite
    text = f"({left_text} {operator} {right.text})"
    return Sql(text, left.params + right.params, "computed")


def _operand(part: Sql) -> Sql:
    """Return a side of a calculation; unknown where it is no number (SQLite takes text as 0)."""
    if part.kind in ("number", "computed"):
        return part
    text = f"case when typeof({part.text}) in ('integer', 'real') then {part.text} end"
    return Sql(f"({text})", part.params + part.params)


def value_of(name: object) -> Sql:
    """Return the SQL of a property by its name in CQL2, Query and Sort.

    Raises:
        FilterError: the name is no string, is empty, or holds a quote.
    """
    if not isinstance(name, str) or not name or '"' in name or "\x00" in name:
        raise FilterError(f"{_short(name)} cannot be the name of a property")
    name = checked_text(name).removeprefix("properties.")
    if name in ("id", "collection"):
        return Sql(f"i.{name}")
    if name == "geometry":
        return Sql("i.geometry", kind="geometry")
    if name == "datetime":
        return Sql("i.t0", kind="time")
    if name in INDEXED:
        return Sql(f"json_extract(i.props, '$.\"{name}\"')")
    return Sql("json_extract(i.props, ?)", (f'$."{name}"',))


def _time_literal(node: Mapping[str, Any]) -> Sql:
    kind = "date" if "date" in node else "timestamp"
    try:
        value = to_microseconds(node[kind])
    except (ValueError, AttributeError, TypeError) as error:
        raise FilterError(f"the filter holds a {kind} that is not RFC 3339: {error}") from error
    return Sql("?", (value // DAY_US,), "day") if kind == "date" else Sql("?", (value,), "time")


def _comparable(parts: Sequence[Sql], operator: str) -> list[Sql]:
    """Bring all sides to times or days where one of them is; geometries cannot be compared."""
    kinds = {part.kind for part in parts}
    if "geometry" in kinds:
        raise FilterError(f"{operator!r} does not compare geometries; use s_intersects")
    if not kinds & {"time", "day"}:
        return list(parts)
    times = [_as_time(part) for part in parts]
    if "day" not in kinds:
        return times
    return [p if p.kind == "day" else Sql(f"({p.text} / {DAY_US})", p.params, "day") for p in times]


def _as_time(part: Sql) -> Sql:
    if part.kind in ("time", "day"):
        return part
    if part.kind == "text":
        try:
            return Sql("?", (to_microseconds(str(part.params[0])),), "time")
        except ValueError as error:
            raise FilterError(f"a time is compared with text: {error}") from error
    if part.kind == "number":
        raise FilterError(f"a time is compared with the number {part.params[0]!r}")
    return Sql(f"to_us({part.text})", part.params, "time")


def _exactly(count: int, operator: str, args: list[Any]) -> list[Any]:
    if len(args) != count:
        raise FilterError(f"filter operator {operator!r} needs {count} args, found {len(args)}")
    return args


def _short(node: object) -> str:
    text = repr(node)
    return text if len(text) <= 80 else text[:77] + "..."
