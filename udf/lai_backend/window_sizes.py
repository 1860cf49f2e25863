"""`size` and `overlap` of `apply_neighborhood`, read and checked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lai_backend.errors import ParameterError
from lai_backend.files import Json

MIN_CORE_PX = 4  # smaller windows are refused, as cloud back-ends do


@dataclass(frozen=True)
class Windows:
    """How a cube is cut; all sizes in pixels, (y, x)."""

    core: tuple[int, int]  # pixels a window contributes to the result
    overlap: tuple[int, int] = (0, 0)  # pixels of context on every side
    per_date: bool = False  # one date per call, without a t dimension; False: all dates at once


def parse_windows(size: Json, overlap: Json) -> Windows:
    """Read `size` and `overlap`: lists of `{"dimension", "value", "unit"}`.

    x and y are in px; `t` may be "P1D" in `size`.
    """
    sizes, overlaps = _by_dimension(size, "size"), _by_dimension(overlap or [], "overlap")
    core, around = _pixels(sizes, "size", None), _pixels(overlaps, "overlap", 0)
    if min(core) < MIN_CORE_PX:
        raise ParameterError(
            f"size of apply_neighborhood must be {MIN_CORE_PX} px or more: {core}."
        )
    if around[0] > core[0] or around[1] > core[1]:
        raise ParameterError(
            f"overlap {around} is larger than size {core} (y, x). size is the core: the UDF sees "
            "size + 2 * overlap."
        )
    if (around[0] > 0) != (around[1] > 0):
        raise ParameterError(
            "An overlap on one axis only is trimmed wrongly by cloud back-ends; give both x and y."
        )
    if overlaps.get("t", {}).get("value") not in (None, 0):
        raise ParameterError("An overlap in t is not possible; leave t out of overlap.")
    period = sizes.get("t", {}).get("value")
    if period not in (None, "P1D"):
        raise ParameterError(f"size in t must be P1D, or t left out for all dates; not {period!r}.")
    return Windows(core=core, overlap=around, per_date=period == "P1D")


def _by_dimension(entries: Json, what: str) -> dict[str, Mapping[str, Any]]:
    is_list = isinstance(entries, Sequence)
    if not is_list or not all(isinstance(entry, Mapping) for entry in entries):
        raise ParameterError(f"{what} of apply_neighborhood must be a list of objects.")
    named = {str(entry.get("dimension")): entry for entry in entries}
    if unknown := set(named) - {"x", "y", "t"}:
        raise ParameterError(f"{what} names {sorted(unknown)}; only x, y and t can be given.")
    return named


def _pixels(
    entries: Mapping[str, Mapping[str, Any]], what: str, default: int | None
) -> tuple[int, int]:
    values = []
    for axis in ("y", "x"):
        entry = entries.get(axis, {"value": default, "unit": "px"})
        value, unit = entry.get("value"), entry.get("unit")
        if value is None:
            raise ParameterError(f"{what} of apply_neighborhood lacks {axis}.")
        if unit != "px":
            raise ParameterError(f"{what} in {axis} has unit {unit!r}; only 'px' is supported.")
        if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
            raise ParameterError(f"{what} in {axis} must be a whole number of px, not {value!r}.")
        if value < 0:
            raise ParameterError(f"{what} in {axis} must not be negative: {value}.")
        values.append(int(value))
    return values[0], values[1]
