"""CQL2 JSON to SQL over the table `pgstac.items`, with bound parameters only.

In: an expression that `cql2_sql.filter_to_sql` accepted. That translator is the one white list of
the service; here every operator, argument and literal is known to be well formed. Out: the same
meaning in PostgreSQL, over the alias `i`.

pgstac has a translator of its own. It is not used: it compares a property with a number by a cast,
so that one item with a text in that place fails the whole search, and it knows no unknown. Here
a value of another kind is unknown (NULL), as in the SQLite catalogue and in `cql2` itself.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import shapely
from psycopg.types.json import Jsonb

from lai_service.catalogue.cql2_operators import (
    ARRAY,
    EVER_US,
    SPATIAL,
    TEMPORAL,
    geometry_of,
    instant_of,
    sides_of,
)
from lai_service.catalogue.cql2_sql import INDEXED, Sql, filter_to_sql
from lai_service.catalogue.times import to_microseconds
from lai_service.errors import FilterError

__all__ = ["NUMBERS", "condition_of", "intersects", "number_of", "property_value", "time_of"]

NUMBERS = frozenset(INDEXED)
"""Properties that pgstac is told are numbers and indexes as `to_float(...)`; never text there."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_COLUMNS = ("id", "collection")
_ORDERS = {"<>": "<>", "!=": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_DAY = (  # a date that exists, so that no cast can fail
    "("
    r"\d{4}-((0[13578]|1[02])-(0[1-9]|[12]\d|3[01])|(0[469]|11)-(0[1-9]|[12]\d|30)"
    r"|02-(0[1-9]|1\d|2[0-8]))"
    r"|(\d\d(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)-02-29"
    ")"
)
_CLOCK = r"([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d+)?)?([Zz]|[+-](0\d|1[0-4]):[0-5]\d)?"
_TIME = f"^{_DAY}([Tt ]{_CLOCK})?$"


@dataclass(frozen=True)
class _Value:
    """One side of a comparison, seen as each of the kinds it can be; None where it never is."""

    json: Sql | None = None
    number: Sql | None = None
    text: Sql | None = None
    time: Sql | None = None
    day: Sql | None = None


def condition_of(expression: Any) -> Sql:  # noqa: ANN401 (CQL2 JSON)
    """Translate a CQL2 JSON expression into a condition.

    Args:
        expression: CQL2 JSON, an object or a boolean.

    Returns:
        A condition for a WHERE clause over `pgstac.items i`, with `%s` for its parameters.

    Raises:
        FilterError: the expression is malformed, uses what is not supported, or has a number that
            no float can hold.
    """
    filter_to_sql(expression)
    try:
        return _truth(expression)
    except OverflowError as error:
        raise FilterError(f"the filter holds a number that is too large: {error}") from error


def _truth(node: Any) -> Sql:  # noqa: ANN401
    if isinstance(node, bool):
        return Sql("true" if node else "false")
    operator, args = node["op"].lower(), node["args"]
    return _TRUTHS.get(operator, _compare)(operator, args)


def _join(word: str, parts: list[Sql], empty: str) -> Sql:
    if not parts:
        return Sql(empty)
    text = f" {word} ".join(part.text for part in parts)
    return Sql(f"({text})", tuple(param for part in parts for param in part.params))


def _format(template: str, *parts: Sql) -> Sql:
    """Put pieces of SQL into the `{}` of a template, their parameters in the same order."""
    text = template.format(*(part.text for part in parts))
    return Sql(text, tuple(param for part in parts for param in part.params))


def _connect(operator: str, args: list[Any]) -> Sql:
    return _join(operator, [_truth(arg) for arg in args], str(operator == "and").lower())


def _negate(operator: str, args: list[Any]) -> Sql:
    return _format("(not {})", _truth(args[0]))


def _between(operator: str, args: list[Any]) -> Sql:
    value, low, high = [args[0], *args[1]] if len(args) == 2 else args
    return _join("and", [_compare(">=", [value, low]), _compare("<=", [value, high])], "true")


def _in(operator: str, args: list[Any]) -> Sql:
    if not args[1]:
        return Sql("false")
    value = args[0]
    return _join("or", [_compare("=", [value, choice]) for choice in args[1]], "false")


def _is_null(operator: str, args: list[Any]) -> Sql:
    value = _value(args[0])
    known = next(v for v in (value.json, value.number, value.text, value.time, value.day) if v)
    return _format("({} is null)", known)


def _like(operator: str, args: list[Any]) -> Sql:
    pattern = args[1] if isinstance(args[1], str) else args[1]["args"][0].lower()
    backslashes = len(pattern) - len(pattern.rstrip("\\"))
    pattern += "\\" * (backslashes % 2)  # a last lone one stands for itself
    text = _value(args[0]).text
    return _format("({} like {})", text, Sql("%s::text", (pattern,))) if text else Sql("null")


def _spatial(operator: str, args: list[Any]) -> Sql:
    predicate, literal = sides_of(SPATIAL[operator], args, operator)
    other = Sql("%s::bytea", (shapely.to_wkb(geometry_of(literal)),))
    return _format(f"ST_{predicate}(i.geometry, ST_GeomFromWKB({{}}, 4326))", other)


def _temporal(operator: str, args: list[Any]) -> Sql:
    first, second = _interval(args[0]), _interval(args[1])
    ends = dict(zip(("a0", "a1", "b0", "b1"), (*first, *second), strict=True))
    text = TEMPORAL[operator]
    params = [p for name in re.findall(r"{(\w+)}", text) for p in ends[name].params]
    joined = text.format(**{name: end.text for name, end in ends.items()})
    return Sql(f"({joined})", tuple(params))


def _interval(node: Any) -> tuple[Sql, Sql]:  # noqa: ANN401
    if isinstance(node, Mapping) and "property" in node:
        if node["property"].removeprefix("properties.") == "datetime":
            return Sql("i.datetime"), Sql("i.end_datetime")
        return (_property(node["property"]).time or Sql("null::timestamptz"),) * 2
    if isinstance(node, Mapping) and "interval" in node:
        return _end(node["interval"][0], last=False), _end(node["interval"][1], last=True)
    return _end(node, last=False), _end(node, last=True)


def _end(node: Any, *, last: bool) -> Sql:  # noqa: ANN401
    if isinstance(node, Mapping) and "property" in node:
        return _interval(node)[1 if last else 0]
    moment = instant_of(node, last=last)
    if abs(moment) >= EVER_US:
        return Sql("'infinity'::timestamptz" if last else "'-infinity'::timestamptz")
    return time_of(moment)


def _array(operator: str, args: list[Any]) -> Sql:
    a, b = (_elements(arg) for arg in args)
    inside = _format("({} @> {})", a, b)
    around = _format("({} <@ {})", a, b)
    if operator == "a_contains":
        return inside
    if operator == "a_containedby":
        return around
    if operator == "a_equals":
        return _join("and", [inside, around], "true")
    shared = "exists (select 1 from jsonb_array_elements({}) x where {} @> jsonb_build_array(x))"
    return _format(f"case when {{}} is not null then {shared} end", a, a, b)


def _elements(node: Any) -> Sql:  # noqa: ANN401
    if isinstance(node, list):
        return Sql("%s::jsonb", (Jsonb(node),))
    value = _json_of(node["property"].removeprefix("properties."))
    return _format("case when jsonb_typeof({}) = 'array' then {} end", value, value)


def intersects(wkb: bytes) -> Sql:
    """Return the condition that an item's footprint meets a geometry (WKB, degrees)."""
    return Sql("ST_Intersects(i.geometry, ST_GeomFromWKB(%s::bytea, 4326))", (wkb,))


_TRUTHS: dict[str, Callable[[str, list[Any]], Sql]] = {
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
}


def _compare(operator: str, args: list[Any]) -> Sql:
    """Compare as the one kind that both sides can be; unknown where there is none."""
    left, right = _value(args[0]), _value(args[1])
    sign = _ORDERS.get(operator, "=")
    if left.day or right.day:
        return _signed(sign, left.day or _day_of(left), right.day or _day_of(right))
    if _is_time(left) or _is_time(right):
        return _signed(sign, left.time, right.time)
    numbers_only = left.number and right.number and not (left.text or right.text)
    if sign == "=" and left.json and right.json and not numbers_only:
        return _signed("=", left.json, right.json)
    if left.number and right.number and left.text and right.text:  # two properties
        numbers, texts = (
            _signed(sign, a, b) for a, b in ((left.number, right.number), (left.text, right.text))
        )
        return _format("coalesce({}, {})", numbers, texts)
    if left.number and right.number:
        return _signed(sign, left.number, right.number)
    if left.text and right.text:
        return _signed(sign, left.text, right.text)
    return Sql("false" if sign == "=" else "null::boolean")


def _signed(sign: str, left: Sql | None, right: Sql | None) -> Sql:
    if left is None or right is None:
        return Sql("null::boolean")
    return _format("({} " + sign + " {})", left, right)


def _is_time(value: _Value) -> bool:
    return value.time is not None and value.text is None


def _day_of(value: _Value) -> Sql | None:
    return _format("({} at time zone 'UTC')::date", value.time) if value.time else None


def _value(node: Any) -> _Value:  # noqa: ANN401
    if isinstance(node, bool | int | float):
        return _Value(json=Sql("%s", (Jsonb(node),)), number=Sql("%s::float8", (float(node),)))
    if isinstance(node, str):
        return _Value(
            json=Sql("%s", (Jsonb(node),)),
            text=Sql('%s::text collate "C"', (node,)),
            time=_time_from(node),
        )
    if str(node.get("op")).lower() == "casei":
        return _case_insensitive(node["args"][0])
    if "op" in node:
        return _Value(number=_arithmetic(node))
    if "property" in node:
        return _property(node["property"])
    moment = _EPOCH + timedelta(microseconds=to_microseconds(node.get("date") or node["timestamp"]))
    if "date" in node:
        return _Value(day=Sql("%s::date", (moment.date(),)))
    return _Value(time=Sql("%s::timestamptz", (moment,)))


def _case_insensitive(node: Any) -> _Value:  # noqa: ANN401
    if isinstance(node, str):
        return _value(node.lower())
    text = _value(node).text or Sql("null::text")
    return _Value(text=_format('lower({} collate "default") collate "C"', text))


def _time_from(text: str) -> Sql | None:
    try:
        return time_of(to_microseconds(text))
    except ValueError:
        return None  # the white list refused it where a time is needed


def time_of(microseconds: int) -> Sql:
    """Return a moment, given as microseconds since 1970 UTC, as a parameter."""
    return Sql("%s::timestamptz", (_EPOCH + timedelta(microseconds=microseconds),))


def _arithmetic(node: Mapping[str, Any]) -> Sql:
    left, right = (_value(arg).number or Sql("null::float8") for arg in node["args"])
    if node["op"] == "/":
        return _format("({} / nullif({}, 0))", left, right)  # as in SQLite, no error
    return _format("({} " + node["op"] + " {})", left, right)


def _property(name: str) -> _Value:
    name = name.removeprefix("properties.")
    if name in _COLUMNS:
        return _Value(text=Sql(f'i.{name} collate "C"'))
    if name == "geometry":
        return _Value(json=Sql("i.geometry"))  # only ever asked whether it is null
    if name == "datetime":
        return _Value(time=Sql("i.datetime"))
    value = _json_of(name)
    if name in NUMBERS:
        return _Value(json=value, number=property_value(name))
    plain = _format("({} #>> '{{}}')", value)
    return _Value(
        json=value,
        number=_format("case when jsonb_typeof({}) = 'number' then ({})::float8 end", value, value),
        text=_format(
            "case when jsonb_typeof({}) = 'string' then {} end collate \"C\"", value, plain
        ),
        time=_format(
            "case when jsonb_typeof({}) = 'string' and {} ~ {} then ({})::timestamptz end",
            value,
            plain,
            Sql("%s", (_TIME,)),
            plain,
        ),
    )


def number_of(name: str) -> Sql:
    """Return the SQL of a property as a number; NULL where it is none."""
    return _property(name).number or Sql("null::float8")


def property_value(name: str) -> Sql:
    """Return the SQL of a property: a float where pgstac knows it as a number, else JSON.

    Args:
        name: name without the prefix `properties.`; that of a number is one of our constants and
            stands in the SQL, so that PostgreSQL finds its index; any other is a parameter.
    """
    if name in NUMBERS:
        return Sql(f"pgstac.to_float(i.content->'properties'->'{name}')")
    return _json_of(name)


def _json_of(name: str) -> Sql:
    return Sql("nullif(i.content->'properties'->%s::text, 'null'::jsonb)", (name,))
