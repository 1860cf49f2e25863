"""CQL2: operators, the same for both databases; CQL2 text and the Query extension as CQL2 JSON.

Sources: OGC 21-065r2, sections 7.6 (spatial), 7.7 (temporal, after Allen) and 7.8 (array).

The parser of the `cql2` package is recursive and native: about three thousand nested brackets
overflow its stack and kill the process (measured with cql2 0.6.0). A request must not be able to
do that, so length, nesting and the number of terms are limited before the text is handed over.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import cql2
import shapely
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from lai_service.catalogue.items import DAY_US, to_microseconds
from lai_service.errors import BadRequestError, FilterError
from lai_udf.longitudes import flat_box, split_box

SPATIAL = {
    "s_intersects": "intersects",
    "s_disjoint": "disjoint",
    "s_equals": "equals",
    "s_touches": "touches",
    "s_crosses": "crosses",
    "s_overlaps": "overlaps",
    "s_within": "within",
    "s_contains": "contains",
}
"""Operator to predicate, of the footprint with a literal, as shapely and PostGIS name it."""
CONVERSE = {"within": "contains", "contains": "within"}  # of predicates that differ from theirs

ARRAY = ("a_contains", "a_containedby", "a_equals", "a_overlaps")
"""Operators between two arrays, which are taken as sets."""

TEMPORAL = {
    "t_after": "{a0} > {b1}",
    "t_before": "{a1} < {b0}",
    "t_contains": "{a0} < {b0} and {a1} > {b1}",
    "t_disjoint": "({a1} < {b0} or {a0} > {b1})",
    "t_during": "{a0} > {b0} and {a1} < {b1}",
    "t_equals": "{a0} = {b0} and {a1} = {b1}",
    "t_finishedby": "{a0} < {b0} and {a1} = {b1}",
    "t_finishes": "{a0} > {b0} and {a1} = {b1}",
    "t_intersects": "{a0} <= {b1} and {a1} >= {b0}",
    "t_meets": "{a1} = {b0}",
    "t_metby": "{a0} = {b1}",
    "t_overlappedby": "{a0} > {b0} and {a0} < {b1} and {a1} > {b1}",
    "t_overlaps": "{a0} < {b0} and {a1} > {b0} and {a1} < {b1}",
    "t_startedby": "{a0} = {b0} and {a1} > {b1}",
    "t_starts": "{a0} = {b0} and {a1} < {b1}",
}
"""Operator to condition; `a0` and `a1` are start and end of its first argument."""

EVER_US = 4_000 * 366 * DAY_US  # so far from 1970 lies an open end of an interval, microseconds


def sides_of(predicate: str, args: Sequence[Any], operator: str) -> tuple[str, Mapping[str, Any]]:
    """Sort the arguments of a spatial operator.

    Returns:
        The predicate of the footprint with the literal, and the literal.

    Raises:
        FilterError: they are not the property `geometry` and one geometry.
    """
    footprints = [number for number, arg in enumerate(args) if _is_footprint(arg)]
    if len(args) != 2 or len(footprints) != 1 or not isinstance(args[1 - footprints[0]], Mapping):
        raise FilterError(f"{operator} compares the property 'geometry' with one geometry")
    literal = args[1 - footprints[0]]
    return (CONVERSE.get(predicate, predicate) if footprints[0] else predicate), literal


def _is_footprint(node: object) -> bool:
    if not isinstance(node, Mapping):
        return False
    return str(node.get("property")).removeprefix("properties.") == "geometry"


def geometry_of(
    node: Mapping[str, Any], what: str = "the filter", error: type[BadRequestError] = FilterError
) -> BaseGeometry:
    """Read GeoJSON, or a box under `bbox`; one with west > east crosses the antimeridian.

    Args:
        node: a literal of CQL2 JSON, or a parameter of a search.
        what: holds it.
        error: raised where it is not valid.
    """
    try:
        if "bbox" in node and "type" not in node:
            box = flat_box([float(number) for number in node["bbox"]])
            if box[1] > box[3]:
                raise ValueError("its south lies above its north")
            parts = split_box(box)
            geometry: BaseGeometry = shapely.union_all([shapely.box(*part) for part in parts])
        elif not isinstance(node.get("type"), str):
            raise ValueError("it has no type, such as Polygon")
        else:
            geometry = shape(dict(node))
        if geometry.is_empty or not geometry.is_valid:
            raise ValueError("empty" if geometry.is_empty else shapely.is_valid_reason(geometry))
    except Exception as fault:  # shapely raises many kinds for malformed GeoJSON
        raise error(f"{what} holds a geometry that is not valid: {fault}") from fault
    return geometry


def instant_of(node: object, *, last: bool) -> int:
    """Read an end of time: a timestamp, a day (its first or last microsecond), or `..`.

    Args:
        node: text, `{"timestamp": ...}` or `{"date": ...}`.
        last: read a day as its end, and `..` as never ending.

    Returns:
        Microseconds since 1970 UTC.

    Raises:
        FilterError: it is no time.
    """
    text = node
    if isinstance(node, Mapping):
        text = node.get("timestamp", node.get("date"))
    if text in ("..", ""):
        return EVER_US if last else -EVER_US
    if not isinstance(text, str):
        raise FilterError(f"expected a time in RFC 3339, found {str(node)[:80]}")
    try:
        moment = to_microseconds(text)
    except ValueError as error:
        raise FilterError(str(error)) from error
    is_day = "T" not in text.upper() and " " not in text.strip()
    return moment + DAY_US - 1 if is_day and last else moment


MAX_TEXT = 16_384  # longest CQL2 text, characters; longer ones go by POST as CQL2 JSON
MAX_NESTING = 60  # deepest bracket
MAX_TERMS = 500  # most operators and connectives of one text

_TERM = re.compile(
    r"'(?:[^']|'')*'|\"[^\"]*\"|[-+*/%^=<>]|\b(?:and|or|not|div|in|like|between|is)\b",
    re.IGNORECASE,
)
_QUERY_OPERATORS = {"eq": "=", "neq": "<>", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
_QUERY_PATTERNS = {"startsWith": "{}%", "endsWith": "%{}", "contains": "%{}%"}


def filter_from_text(text: str) -> dict[str, Any] | bool:
    """Parse CQL2 text.

    Args:
        text: such as `laiq:lai_mean > 2 AND datetime >= TIMESTAMP('2024-06-01T00:00:00Z')`.

    Returns:
        The same expression as CQL2 JSON.

    Raises:
        FilterError: the text does not parse, or exceeds a limit.
    """
    _check_size(text)
    try:
        parsed: dict[str, Any] | bool = cql2.parse_text(text).to_json()
    except cql2.ParseError as error:
        first = " ".join(str(error).split())[:300]
        raise FilterError(f"the filter is not CQL2 text: {first}") from error
    return parsed


def _check_size(text: str) -> None:
    if len(text) > MAX_TEXT:
        raise FilterError(
            f"the filter has {len(text)} characters, more than {MAX_TEXT}; POST it as CQL2 JSON"
        )
    terms = [term for term in _TERM.findall(text) if term[0] not in "'\""]
    if len(terms) > MAX_TERMS:
        raise FilterError(f"the filter has {len(terms)} operators, more than {MAX_TERMS}")
    depth = deepest = 0
    for character in text:
        depth += (character == "(") - (character == ")")
        deepest = max(deepest, depth)
    if deepest > MAX_NESTING:
        raise FilterError(f"the filter nests {deepest} brackets, more than {MAX_NESTING}")


def filter_from_query(query: Mapping[str, Any]) -> dict[str, Any]:
    """Translate the Query extension, `{"laiq:lai_mean": {"gte": 2}}`.

    Args:
        query: property to operator to value; operators eq, neq, lt, lte, gt, gte, in,
            startsWith, endsWith, contains.

    Returns:
        CQL2 JSON that demands all of it.

    Raises:
        FilterError: an unknown operator, or a value that is no object.
    """
    terms: list[dict[str, Any]] = []
    for name, conditions in query.items():
        if not isinstance(conditions, Mapping):
            raise FilterError(f"query of {name!r} must be an object such as {{'gte': 2}}")
        terms += [_term(name, operator, value) for operator, value in conditions.items()]
    return {"op": "and", "args": terms}


def _number_in(value: object) -> float | None:
    """Return the number that a text spells; None for anything else."""
    if not isinstance(value, str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _term(name: str, operator: str, value: object) -> dict[str, Any]:
    reference = {"property": name}
    if operator in _QUERY_OPERATORS:
        # pystac-client and addresses give numbers as text: compared as both, whichever it is
        number = _number_in(value)
        sides = [value] if number is None else [number, value]
        terms = [{"op": _QUERY_OPERATORS[operator], "args": [reference, side]} for side in sides]
        return terms[0] if len(terms) == 1 else {"op": "or", "args": terms}
    if operator == "in":
        return {"op": "in", "args": [reference, value]}
    if operator in _QUERY_PATTERNS:
        escaped = re.sub(r"([%_\\])", r"\\\1", str(value))
        pattern = _QUERY_PATTERNS[operator].format(escaped)
        return {"op": "like", "args": [reference, pattern]}
    known = ", ".join([*_QUERY_OPERATORS, "in", *_QUERY_PATTERNS])
    raise FilterError(f"query operator {json.dumps(operator)} is unknown; use one of {known}")
