"""Windows of `apply_neighborhood`: their sizes, and a UDF on all windows of one block of a cube.

`size` is the core of a window. The UDF gets `size + 2 * overlap` pixels, NaN beyond the cube; what
it returns in the overlap is trimmed off.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from lai_backend.errors import ParameterError
from lai_backend.files import Json
from lai_backend.udf_runner import LocalUdf, as_float32, check_shape

FloatArray = npt.NDArray[np.float32]
Labels = Mapping[str, Sequence[Any] | npt.NDArray[Any]]
MIN_CORE_PX = 4  # smaller windows are refused, as cloud back-ends do


@dataclass(frozen=True)
class Windows:
    """How a cube is cut; all sizes in pixels, (y, x)."""

    core: tuple[int, int]  # pixels a window contributes to the result
    overlap: tuple[int, int] = (0, 0)  # pixels of context on every side
    per_date: bool = False  # one date per call, without a t dimension; False: all dates at once


@dataclass(frozen=True)
class Block:
    """Everything a worker needs to know about a block of windows besides its values."""

    windows: Windows
    labels_in: Labels  # of the dimensions before y and x, by name, in order
    labels_out: Labels  # the same for the result
    first: tuple[float, float]  # centre of the first pixel of the first window, (y, x)
    step: tuple[float, float]  # signed size of a pixel, (y, x)
    date: Any = None  # the date, where windows are cut per date


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
        if type(value) not in (int, float) or value < 0 or value != int(value):
            raise ParameterError(
                f"{what} in {axis} must be a whole number of px, not negative; not {value!r}."
            )
        values.append(int(value))
    return values[0], values[1]


def run_block(values: FloatArray, block: Block, call: LocalUdf) -> FloatArray:
    """Run the UDF on all windows of one block.

    Args:
        values: shape (leading dimensions..., y, x): what the windows see.
        block: labels and geometry.
        call: the UDF.

    Returns:
        The cores, shape (leading dimensions of the result..., y, x).
    """
    (height, width), (above, left) = block.windows.core, block.windows.overlap
    sizes = {name: len(labels) for name, labels in block.labels_out.items()}
    seen = {"y": height + 2 * above, "x": width + 2 * left}
    rows, columns = values.shape[-2] - 2 * above, values.shape[-1] - 2 * left
    result = np.empty((*sizes.values(), rows, columns), np.float32)
    for y in range(0, rows, height):
        for x in range(0, columns, width):
            part = values[..., y : y + seen["y"], x : x + seen["x"]]
            output = call.run(_label(part, (y, x), block))
            extra = [name for name in output.dims if name not in sizes and name not in seen]
            output = output.squeeze([name for name in extra if output.sizes[name] == 1])
            check_shape(output, sizes | seen, f"a window of {seen['y']}x{seen['x']} px")
            core = as_float32(output)[..., above : above + height, left : left + width]
            result[..., y : y + height, x : x + width] = core
    return result


def _label(values: FloatArray, offset: tuple[int, int], block: Block) -> xr.DataArray:
    """Return a window as passed to the UDF, `offset` pixels (y, x) into the block."""
    axes = {
        name: first + (np.arange(size) + start) * step
        for name, first, step, start, size in zip(
            "yx", block.first, block.step, offset, values.shape[-2:], strict=True
        )
    }
    coords = {**block.labels_in, **axes}
    window = xr.DataArray(values, dims=tuple(coords), coords=coords)
    if block.date is not None:
        window.attrs["t"] = pd.Timestamp(block.date).to_pydatetime()
    return window
