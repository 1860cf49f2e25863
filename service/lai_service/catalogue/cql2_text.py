"""CQL2 text and the Query extension, both turned into CQL2 JSON.

The parser of the `cql2` package is recursive and native: about three thousand nested brackets
overflow its stack and kill the process (measured with cql2 0.6.0). A request must not be able to
do that, so length, nesting and the number of terms are limited before the text is handed over.
"""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

import cql2

from lai_service.errors import FilterError

__all__ = ["filter_from_query", "filter_from_text"]

MAX_TEXT = 16_384
"""Longest CQL2 text, characters; longer ones go by POST as CQL2 JSON."""
MAX_NESTING = 60
"""Deepest bracket."""
MAX_TERMS = 500
"""Most operators and connectives of one text."""

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
