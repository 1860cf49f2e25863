"""Run a UDF on all windows of one block.

In: the values of the block and what surrounds them, as far as the cube goes. Every window is cut
out, labelled, and completed with NaN beyond the cube; out come the cores.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from lai_backend.udf_runner import LocalUdf, as_float32, check_shape
from lai_backend.window_sizes import Windows

FloatArray = npt.NDArray[np.float32]
Labels = Mapping[str, Sequence[Any] | npt.NDArray[Any]]


@dataclass(frozen=True)
class AxisBlock:
    """Rows or columns of a block."""

    read: slice  # pixels of the cube that its windows see
    pad: tuple[int, int]  # pixels of NaN before and after them
    count: int  # number of windows
    keep: int  # how many of the pixels of its cores lie in the cube
    first: float  # coordinate of the first pixel that the first window sees, its centre
    step: float  # signed size of a pixel


@dataclass(frozen=True)
class Block:
    """Everything a worker needs to know about a block besides its values."""

    windows: Windows
    labels_in: Labels  # of the dimensions before y and x, by name, in order
    labels_out: Labels  # the same for the result
    rows: AxisBlock
    columns: AxisBlock
    date: Any = None  # the date, where windows are cut per date


def run_block(values: FloatArray, block: Block, call: LocalUdf) -> FloatArray:
    """Run the UDF on all windows of one block.

    Args:
        values: shape (leading dimensions..., y, x): what the windows see, as far as the cube goes.
        block: labels and geometry.
        call: the UDF.

    Returns:
        The cores inside the cube, shape (leading dimensions of the result..., y, x).
    """
    rows, columns = block.rows, block.columns
    (height, width), (above, left) = block.windows.core, block.windows.overlap
    if any((*rows.pad, *columns.pad)):
        lead = [(0, 0)] * (values.ndim - 2)
        values = np.pad(values, [*lead, rows.pad, columns.pad], constant_values=np.nan)
    sizes = [len(labels) for labels in block.labels_out.values()]
    result = np.empty((*sizes, rows.count * height, columns.count * width), np.float32)
    for y in range(0, rows.count * height, height):
        for x in range(0, columns.count * width, width):
            seen = values[..., y : y + height + 2 * above, x : x + width + 2 * left]
            output = _run_window(_label(seen, (y, x), block), block, call)
            core = output[..., above : above + height, left : left + width]
            result[..., y : y + height, x : x + width] = core
    return result[..., : rows.keep, : columns.keep]


def _label(values: FloatArray, offset: tuple[int, int], block: Block) -> xr.DataArray:
    """Return a window as the UDF sees it, `offset` pixels (y, x) into the block."""
    axes = {
        name: span.first + (np.arange(size) + start) * span.step
        for name, span, start, size in zip(
            "yx", (block.rows, block.columns), offset, values.shape[-2:], strict=True
        )
    }
    coords = {**block.labels_in, **axes}
    window = xr.DataArray(values, dims=(*block.labels_in, "y", "x"), coords=coords)
    if block.date is not None:
        window.attrs["t"] = pd.Timestamp(block.date).to_pydatetime()
    return window


def _run_window(window: xr.DataArray, block: Block, call: LocalUdf) -> FloatArray:
    result = call.run(window)
    expected = {name: len(labels) for name, labels in block.labels_out.items()}
    expected |= {"y": window.sizes["y"], "x": window.sizes["x"]}
    extra = [name for name in result.dims if name not in expected]
    result = result.squeeze([name for name in extra if result.sizes[name] == 1])
    check_shape(result, expected, f"a window of {expected['y']}x{expected['x']} px")
    return as_float32(result)
