"""Cut a lazy cube into overlapping windows, run a UDF on each, put the cores together again.

A Dask block holds many windows, because one task per window is too fine for a whole tile
(13,225 windows of 96 px in a 10,980 px granule). The UDF sees `core + 2 * overlap` pixels; beyond
the cube it sees NaN. What it returns in the overlap is trimmed off.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import pandas as pd
import rioxarray  # noqa: F401 - registers the `rio` accessor
import xarray as xr
from dask.delayed import delayed

from lai_backend.places import Place, occupy
from lai_backend.udf_runner import UdfCall, as_float32, check_shape, forget_modules
from lai_backend.window_sizes import Windows

BLOCK_PX = 480
"""Side of a task, at least one window: small enough to keep all threads busy to the end, and for
the allocator to use the memory of one for the next; large enough for windows of 96 px."""
AXIS_ORDER = ("t", "bands", "y", "x")
FloatArray = npt.NDArray[np.float32]
Labels = Mapping[str, Sequence[Any] | npt.NDArray[Any]]


@dataclass(frozen=True)
class Quirks:
    """What cloud back-ends do beyond the specification, for tests (strict mode)."""

    seed: int
    """Seed of the random origin of the windows."""

    def origin(self, windows: Windows) -> tuple[int, int]:
        """Return how many pixels before the cube the first window starts, (y, x)."""
        rng = np.random.default_rng(self.seed)
        return int(rng.integers(windows.core[0])), int(rng.integers(windows.core[1]))


@dataclass(frozen=True)
class _Block:
    """Everything a worker needs to know about one block besides its values."""

    call: UdfCall
    windows: Windows
    labels_in: Labels
    labels_out: Labels
    corner: tuple[float, float]
    """y and x of the centre of the first pixel of the first window, overlap included."""
    step: tuple[float, float]
    """Signed pixel size, (y, x)."""
    count: tuple[int, int]
    """Number of windows, (y, x)."""
    pad: tuple[tuple[int, int], tuple[int, int]]
    """NaN pixels to add before and after the values, ((y, y), (x, x))."""
    keep: tuple[slice, slice]
    """Part of the cores that lies in the cube."""
    date: Any = None
    """The date, where windows are cut per date."""
    strict: bool = False


def map_windows(
    cube: xr.DataArray,
    call: UdfCall,
    windows: Windows,
    labels_out: Labels,
    quirks: Quirks | None = None,
) -> xr.DataArray:
    """Apply a UDF to every window of a cube, lazily.

    Args:
        cube: dims out of t, bands, y, x; y and x are needed.
        call: the UDF.
        windows: how to cut.
        labels_out: labels of the result's dimensions other than y and x, in order.
        quirks: reproduce a cloud back-end.

    Returns:
        Lazy cube, float32, on the same pixels; the CRS is kept.
    """
    ordered = cube.transpose(*[name for name in AXIS_ORDER if name in cube.dims])
    values = da.asarray(ordered.data).astype(np.float32)
    labels_in = {str(n): ordered[n].values for n in ordered.dims if n not in ("y", "x")}
    if windows.per_date and "t" in labels_in:
        inner = {name: labels for name, labels in labels_in.items() if name != "t"}
        inner_out = {name: labels for name, labels in labels_out.items() if name != "t"}
        layers = [
            _map_array(values[i], cube, call, windows, (inner, inner_out), quirks, date)
            for i, date in enumerate(labels_in["t"])
        ]
        result = da.stack(layers)
    else:
        result = _map_array(values, cube, call, windows, (labels_in, labels_out), quirks, None)
    coords = {**labels_out, "y": cube["y"].values, "x": cube["x"].values}
    named = xr.DataArray(result, dims=(*labels_out, "y", "x"), coords=coords).rename(None)
    return named if cube.rio.crs is None else named.rio.write_crs(cube.rio.crs)


def _map_array(
    values: da.Array,
    cube: xr.DataArray,
    call: UdfCall,
    windows: Windows,
    labels: tuple[Labels, Labels],
    quirks: Quirks | None,
    date: Any,  # noqa: ANN401 - numpy scalar or None
) -> da.Array:
    shape = (cube.sizes["y"], cube.sizes["x"])
    shift = quirks.origin(windows) if quirks else (0, 0)
    spans = [_spans(shape[i], windows.core[i], shift[i]) for i in (0, 1)]
    first = (float(cube["y"][0]), float(cube["x"][0]))
    step = (_step(cube["y"].values), _step(cube["x"].values))
    sizes_out = tuple(len(names) for names in labels[1].values())
    run, place = delayed(run_block), _travelling(call.place)
    rows = []
    for y_start, y_count in spans[0]:
        row = []
        for x_start, x_count in spans[1]:
            start, count = (y_start, x_start), (y_count, x_count)
            read, pad, keep = zip(
                *(
                    _cut(start[i], count[i] * windows.core[i], windows.overlap[i], shape[i])
                    for i in (0, 1)
                ),
                strict=True,
            )
            block = _Block(
                call=replace(call, place=None),
                windows=windows,
                labels_in=labels[0],
                labels_out=labels[1],
                corner=(
                    first[0] + (start[0] - windows.overlap[0]) * step[0],
                    first[1] + (start[1] - windows.overlap[1]) * step[1],
                ),
                step=step,
                count=count,
                pad=(pad[0], pad[1]),
                keep=(keep[0], keep[1]),
                date=date,
                strict=quirks is not None,
            )
            kept = (keep[0].stop - keep[0].start, keep[1].stop - keep[1].start)
            task = run(_as_one_task(values[(..., *read)]), block, place)
            row.append(da.from_delayed(task, shape=(*sizes_out, *kept), dtype=np.float32))
        rows.append(row)
    result: da.Array = da.block(rows)
    return result


def _as_one_task(values: da.Array) -> Any:  # noqa: ANN401 - a Delayed
    """Return an array as one task that shares its chunks with other such tasks.

    Handed to a task as an array it would be optimized by itself: chunks that several windows
    touch would be read anew for each of them.
    """
    return values.rechunk(-1).to_delayed(optimize_graph=False).item()


def _travelling(place: Place | None) -> Any:  # noqa: ANN401 - a Delayed or None
    """Make a place a task of its own, so that it goes to each worker once."""
    if place is None:
        return None
    return delayed(place, name=f"place-{place.digest}", traverse=False)


def _spans(length: int, core: int, shift: int) -> list[tuple[int, int]]:
    """Return (start, number of windows) of the blocks along an axis."""
    per_block = max(1, BLOCK_PX // core)
    total = -(-(length + shift) // core)
    return [
        (first * core - shift, min(per_block, total - first))
        for first in range(0, total, per_block)
    ]


def _cut(
    start: int, extent: int, overlap: int, length: int
) -> tuple[slice, tuple[int, int], slice]:
    """Return what to read, how to pad it, and which part of the cores to keep, along one axis."""
    low, high = start - overlap, start + extent + overlap
    read = slice(max(low, 0), min(high, length))
    pad = (read.start - low, high - read.stop)
    keep = slice(max(-start, 0), min(extent, length - start))
    return read, pad, keep


def _step(coordinates: npt.NDArray[Any]) -> float:
    return float(coordinates[1] - coordinates[0]) if len(coordinates) > 1 else 1.0


def run_block(values: FloatArray, block: _Block, place: Place | None = None) -> FloatArray:
    """Run the UDF on all windows of one block.

    Args:
        values: shape (leading dimensions..., y, x): the block and its overlap, as far as the cube
            goes.
        block: labels and geometry.
        place: folder of the UDF, on the workers of a cluster.

    Returns:
        The cores inside the cube, shape (leading dimensions of the result..., y, x).

    Raises:
        UdfError: the UDF raised or returned the wrong shape.
    """
    lead = [(0, 0)] * (values.ndim - 2)
    if np.any(block.pad):
        values = np.pad(values, [*lead, *block.pad], constant_values=np.nan)
    core, overlap = block.windows.core, block.windows.overlap
    sizes_out = tuple(len(labels) for labels in block.labels_out.values())
    result = np.empty((*sizes_out, block.count[0] * core[0], block.count[1] * core[1]), np.float32)
    for row in range(block.count[0]):
        for column in range(block.count[1]):
            y, x = row * core[0], column * core[1]
            part = values[..., y : y + core[0] + 2 * overlap[0], x : x + core[1] + 2 * overlap[1]]
            with occupy(place, on_move=forget_modules):
                output = _run_window(part, (y, x), block)
            result[..., y : y + core[0], x : x + core[1]] = output[
                ...,
                overlap[0] : overlap[0] + core[0],
                overlap[1] : overlap[1] + core[1],
            ]
    return result[(..., *block.keep)]


def _run_window(values: FloatArray, offset: tuple[int, int], block: _Block) -> FloatArray:
    axes = {}
    for i, name in enumerate(("y", "x")):
        pixels = np.arange(values.shape[i - 2]) + offset[i]
        axes[name] = block.corner[i] + pixels * block.step[i]
    if block.strict:
        axes = {name: labels.astype(np.float32) for name, labels in axes.items()}
    window = xr.DataArray(
        values, dims=(*block.labels_in, "y", "x"), coords={**block.labels_in, **axes}
    )
    if block.date is not None:
        window.attrs["t"] = _as_datetime(block.date)
    present = _dates_present(window) if block.strict and "t" in block.labels_out else None
    expected = {name: len(labels) for name, labels in block.labels_out.items()}
    if present is not None:
        window = window.isel(t=present)
        expected["t"] = len(present)
        if not len(present):
            sizes = [len(labels) for labels in block.labels_out.values()]
            return np.full((*sizes, *values.shape[-2:]), np.nan, np.float32)
    result = block.call.run(window)
    extra = [name for name in result.dims if name not in (*expected, "y", "x")]
    result = result.squeeze([name for name in extra if result.sizes[name] == 1])
    size_text = f"a window of {values.shape[-2]}x{values.shape[-1]} px"
    check_shape(result, {**expected, "y": values.shape[-2], "x": values.shape[-1]}, size_text)
    output = as_float32(result)
    if present is None:
        return output
    sizes = [len(labels) for labels in block.labels_out.values()]
    complete = np.full((*sizes, *values.shape[-2:]), np.nan, np.float32)
    complete[present] = output  # t is the first dimension (AXIS_ORDER)
    return complete


def _dates_present(window: xr.DataArray) -> npt.NDArray[np.intp]:
    others = [name for name in window.dims if name != "t"]
    return np.flatnonzero(window.notnull().any(others).values)


def _as_datetime(date: Any) -> datetime:  # noqa: ANN401 - numpy scalar
    moment = pd.Timestamp(date).to_pydatetime()
    assert isinstance(moment, datetime)
    return moment
