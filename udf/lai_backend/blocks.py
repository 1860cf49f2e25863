"""Run a UDF on all windows of one block.

In: the values of the block and what surrounds them, as far as the cube goes. Every window is cut
out, labelled, and completed with NaN beyond the cube; out come the cores.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from lai_backend.udf_runner import UdfCall, as_float32, check_shape
from lai_backend.window_sizes import Windows

FloatArray = npt.NDArray[np.float32]
Labels = Mapping[str, Sequence[Any] | npt.NDArray[Any]]


@dataclass(frozen=True)
class AxisBlock:
    """Rows or columns of a block."""

    read: slice
    """Pixels of the cube that its windows see."""
    pad: tuple[int, int]
    """Pixels of NaN before and after them."""
    count: int
    """Number of windows."""
    keep: slice
    """Part of the cores that lies in the cube."""
    first: float
    """Coordinate of the first pixel that the first window sees, its centre."""
    step: float
    """Signed size of a pixel."""


@dataclass(frozen=True)
class Block:
    """Everything a worker needs to know about a block besides its values."""

    windows: Windows
    """Size and overlap."""
    labels_in: Labels
    """Labels of the dimensions before y and x, by name, in order."""
    labels_out: Labels
    """The same for the result."""
    rows: AxisBlock
    """Along y."""
    columns: AxisBlock
    """Along x."""
    date: Any = None
    """The date, where windows are cut per date."""
    strict: bool = False
    """Behave like the cloud back-ends."""


def run_block(values: FloatArray, block: Block, call: UdfCall) -> FloatArray:
    """Run the UDF on all windows of one block.

    Args:
        values: shape (leading dimensions..., y, x): what the windows see, as far as the cube goes.
        block: labels and geometry.
        call: the UDF.

    Returns:
        The cores inside the cube, shape (leading dimensions of the result..., y, x).

    Raises:
        UdfError: the UDF raised or returned the wrong shape.
    """
    rows, columns, core, overlap = (
        block.rows,
        block.columns,
        block.windows.core,
        block.windows.overlap,
    )
    if any((*rows.pad, *columns.pad)):
        lead = [(0, 0)] * (values.ndim - 2)
        values = np.pad(values, [*lead, rows.pad, columns.pad], constant_values=np.nan)
    sizes = [len(labels) for labels in block.labels_out.values()]
    result = np.empty((*sizes, rows.count * core[0], columns.count * core[1]), np.float32)
    for y in range(0, rows.count * core[0], core[0]):
        for x in range(0, columns.count * core[1], core[1]):
            seen = values[..., y : y + core[0] + 2 * overlap[0], x : x + core[1] + 2 * overlap[1]]
            output = _run_window(_label(seen, (y, x), block), block, call)
            result[..., y : y + core[0], x : x + core[1]] = output[
                ...,
                overlap[0] : overlap[0] + core[0],
                overlap[1] : overlap[1] + core[1],
            ]
    return result[..., rows.keep, columns.keep]


def _label(values: FloatArray, offset: tuple[int, int], block: Block) -> xr.DataArray:
    """Return a window as the UDF sees it, `offset` pixels (y, x) into the block."""
    axes = {}
    spans = (block.rows, block.columns)
    for name, span, start, size in zip("yx", spans, offset, values.shape[-2:], strict=True):
        axes[name] = span.first + (np.arange(size) + start) * span.step
    if block.strict:
        axes = {name: labels.astype(np.float32) for name, labels in axes.items()}
    dims = (*block.labels_in, "y", "x")
    window = xr.DataArray(values, dims=dims, coords={**block.labels_in, **axes})
    if block.date is not None:
        window.attrs["t"] = _as_datetime(block.date)
    return window


def _run_window(window: xr.DataArray, block: Block, call: UdfCall) -> FloatArray:
    """Run the UDF on one window; in strict mode without the dates that hold no data in it."""
    expected = {name: len(labels) for name, labels in block.labels_out.items()}
    expected |= {"y": window.sizes["y"], "x": window.sizes["x"]}
    if not (block.strict and "t" in block.labels_out):
        return _run_checked(window, expected, call)
    complete = np.full(tuple(expected.values()), np.nan, np.float32)
    others = [name for name in window.dims if name != "t"]
    present = np.flatnonzero(window.notnull().any(others).values)
    if not np.array_equal(block.labels_out["t"], block.labels_in["t"]):  # a new grid of dates
        if present.size:
            complete = _run_checked(window.isel(t=present), expected, call)
    elif present.size:  # t is the first dimension
        dated = {**expected, "t": present.size}
        complete[present] = _run_checked(window.isel(t=present), dated, call)
    return complete


def _run_checked(window: xr.DataArray, expected: dict[str, int], call: UdfCall) -> FloatArray:
    result = call.run(window)
    extra = [name for name in result.dims if name not in expected]
    result = result.squeeze([name for name in extra if result.sizes[name] == 1])
    check_shape(result, expected, f"a window of {expected['y']}x{expected['x']} px")
    return as_float32(result)


def _as_datetime(date: Any) -> datetime:  # noqa: ANN401 - numpy scalar
    moment = pd.Timestamp(date).to_pydatetime()
    assert isinstance(moment, datetime)
    return moment
