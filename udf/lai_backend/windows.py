"""Cut a lazy cube into overlapping windows, run a UDF on each, put the cores together again.

A Dask block holds many windows, because one task per window is too fine for a whole tile
(13,225 windows of 96 px in a 10,980 px granule). The UDF sees `core + 2 * overlap` pixels; beyond
the cube it sees NaN. What it returns in the overlap is trimmed off.
"""

from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import xarray as xr
from dask.delayed import delayed

from lai_backend.blocks import AxisBlock, Block, Labels
from lai_backend.georeference import georeference_like
from lai_backend.udf_runner import LocalUdf
from lai_backend.window_sizes import Windows

BLOCK_PX = 480
"""Side of a task, at least one window: small enough to keep all threads busy to the end, and for
the allocator to use the memory of one for the next; large enough for windows of 96 px."""
AXIS_ORDER = ("t", "bands", "y", "x")


def map_windows(
    cube: xr.DataArray, call: LocalUdf, windows: Windows, labels_out: Labels
) -> xr.DataArray:
    """Apply a UDF to every window of a cube, lazily.

    Args:
        cube: dims out of t, bands, y, x; y and x are needed.
        call: the UDF.
        windows: how to cut.
        labels_out: labels of the result's dimensions other than y and x, in order.

    Returns:
        Lazy cube, float32, on the same pixels; the CRS is kept.
    """
    ordered = cube.transpose(*[name for name in AXIS_ORDER if name in cube.dims])
    values = da.asarray(ordered.data).astype(np.float32)
    labels_in = {str(n): ordered[n].values for n in ordered.dims if n not in ("y", "x")}
    if windows.per_date and "t" in labels_in:
        dates = labels_in.pop("t")
        inner = {name: labels for name, labels in labels_out.items() if name != "t"}
        layers = [
            _map_array(values[i], cube, call, windows, (labels_in, inner), date)
            for i, date in enumerate(dates)
        ]
        result = da.stack(layers)
    else:
        result = _map_array(values, cube, call, windows, (labels_in, labels_out), None)
    coords = {**labels_out, "y": cube["y"].values, "x": cube["x"].values}
    named = xr.DataArray(result, dims=(*labels_out, "y", "x"), coords=coords).rename(None)
    return georeference_like(named, cube)


def _map_array(
    values: da.Array,
    cube: xr.DataArray,
    call: LocalUdf,
    windows: Windows,
    labels: tuple[Labels, Labels],
    date: Any,
) -> da.Array:
    """Apply a UDF to the windows of all dates (`date` is None), or of one date."""
    rows, columns = (
        _cut(cube[name].values, core, overlap)
        for name, core, overlap in zip("yx", windows.core, windows.overlap, strict=True)
    )
    run = delayed(call.run_block, pure=False, traverse=False)
    sizes = tuple(len(names) for names in labels[1].values())

    def lazy_block(row: AxisBlock, column: AxisBlock) -> da.Array:
        block = Block(windows, *labels, row, column, date)
        task = run(_as_one_task(values[..., row.read, column.read]), block)
        shape = (*sizes, row.keep, column.keep)
        lazy: da.Array = da.from_delayed(task, shape=shape, dtype=np.float32)
        return lazy

    result: da.Array = da.block([[lazy_block(row, column) for column in columns] for row in rows])
    return result


def _as_one_task(values: da.Array) -> Any:
    """Return an array as one task that shares its chunks with other such tasks.

    Handed to a task as an array it would be optimized by itself: chunks that several windows
    touch would be read anew for each of them.
    """
    return values.rechunk(-1).to_delayed(optimize_graph=False).item()


def _cut(coordinates: npt.NDArray[Any], core: int, overlap: int) -> list[AxisBlock]:
    """Cut one axis of a cube into blocks.

    Args:
        coordinates: centres of the pixels.
        core: pixels that a window contributes.
        overlap: pixels that it sees on either side of them.
    """
    length, per_block = len(coordinates), max(1, BLOCK_PX // core)
    step = float(coordinates[1] - coordinates[0]) if length > 1 else 1.0
    total = -(-length // core)
    spans = []
    for number in range(0, total, per_block):
        count = min(per_block, total - number)
        low, high = number * core - overlap, (number + count) * core + overlap
        read = slice(max(low, 0), min(high, length))
        pad = (read.start - low, high - read.stop)
        keep = min(count * core, length - number * core)
        spans.append(AxisBlock(read, pad, count, keep, float(coordinates[0]) + low * step, step))
    return spans
