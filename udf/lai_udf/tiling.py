"""Cut a scene into blocks and windows, and hand each window over with its halo.

A read block is made of whole blocks of the scene's files. Each is read once: columns of read blocks
from west to east, in them from north to south. Its last rows and columns are kept, for they are the
halo of the read blocks below and beside it; what is predicted lags behind what is read by that
halo. The windows of a read block have a core and a halo on every side. Where the scene ends the
halo is no data, as a back-end delivers it. Memory depends on the read block, not on the scene.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise, product
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import xarray as xr
from rasterio.windows import Window

from lai_udf.predict import BLOCK_PX, HALO_PX
from lai_udf.scenes.source import SceneSource

Floats = npt.NDArray[np.float32]
Item = TypeVar("Item")
Result = TypeVar("Result")
CORE_PX = BLOCK_PX - 2 * HALO_PX
"""Largest side of a core: with its halo a window is one block of the UDF, that is not cut again."""
ALIGN_PX = 16  # cores start at multiples of this, so that the poolings of all windows are in phase
MIN_BLOCK_PX = (512, 512)
"""Rows and columns of a read block, at least. With ten bands that is 23 MB; one is in work, one is
being read, and one may wait for its last windows."""
MAX_BLOCK_PX = 1024 * 1024
"""Pixels of a read block, at most: lower than blocks of files that hold whole rows."""


@dataclass(frozen=True)
class ReadBlock:
    """A part of a scene: what is read for it, and what can be predicted from then on."""

    read: Window  # pixels that no other block reads
    core: Window  # pixels whose halo is known now, and was not before
    windows: tuple[Window, ...]  # cores of the windows that it is cut into


@dataclass(frozen=True)
class Chunk:
    """One window of a scene, ready for the UDF."""

    core: Window  # where the result belongs in the scene
    cube: xr.DataArray
    """Dims (bands, y, x): the core and `halo_px` more on every side, NaN beyond the scene."""
    halo_px: int  # border to trim from the result

    def trim(self, result: xr.DataArray) -> xr.DataArray:
        """Return the core of a result with the y and x of `cube`."""
        inside = slice(self.halo_px, -self.halo_px or None)
        return result.isel(y=inside, x=inside)


def plan_blocks(
    source: SceneSource,
    *,
    core_px: int = CORE_PX,
    halo_px: int = HALO_PX,
    block_px: tuple[int, int] | None = None,
) -> list[ReadBlock]:
    """Return the read blocks of a scene in the order in which they are read.

    Args:
        source: the scene.
        core_px: largest side of the core of a window, a multiple of `ALIGN_PX`.
        halo_px: border around the cores; at least the reach of the network for seamless results.
        block_px: rows and columns of a read block, multiples of `ALIGN_PX` and above `halo_px`; by
            default what suits the files.
    """
    sides = zip(source.grid.shape, block_px or choose_block_size(source.block_px), strict=True)
    rows, columns = (split_axis_with_halo(length, side, halo_px) for length, side in sides)
    return [
        ReadBlock(
            read=Window.from_slices(row_read, column_read),
            core=Window.from_slices(row_core, column_core),
            windows=tuple(
                Window.from_slices(*spans)
                for spans in product(cut(*row_core, core_px), cut(*column_core, core_px))
            ),
        )
        for (column_read, column_core), (row_read, row_core) in product(columns, rows)
    ]


def choose_block_size(block_px: tuple[int, int]) -> tuple[int, int]:
    """Return rows and columns of a read block: whole blocks of the files."""
    blocks = [-(-side // ALIGN_PX) * ALIGN_PX for side in block_px]
    rows, columns = (
        -(-least // side) * side for least, side in zip(MIN_BLOCK_PX, blocks, strict=True)
    )
    if rows * columns > MAX_BLOCK_PX:
        rows = max(MAX_BLOCK_PX // columns // ALIGN_PX, 4) * ALIGN_PX
    return rows, columns


def split_axis_with_halo(
    length_px: int, side_px: int, halo_px: int
) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Return (start, stop) of what each block along an axis reads, and of its core."""
    ends = [*range(side_px, length_px, side_px), length_px]
    cores = [*(end - halo_px for end in ends[:-1]), length_px]
    return list(zip(pairwise([0, *ends]), pairwise([0, *cores]), strict=True))


def cut(start: int, stop: int, most_px: int) -> list[tuple[int, int]]:
    """Return (start, stop) of consecutive parts of at most `most_px`, about equally long.

    All but the last have a multiple of `ALIGN_PX` pixels; so must `most_px`.
    """
    parts = -(-(stop - start) // most_px)
    step = -(-(stop - start) // (parts * ALIGN_PX)) * ALIGN_PX
    return list(pairwise([*range(start, stop, step), stop]))


def iterate_chunks(
    source: SceneSource, blocks: list[ReadBlock], *, halo_px: int = HALO_PX
) -> Iterator[Chunk]:
    """Read a scene block by block and yield its windows, which cover each of its pixels once.

    The next block is read while the caller works on this one.

    Raises:
        ProductError: a file is truncated or gone.
    """
    for block, values in one_ahead(read_blocks(source, blocks, halo_px)):
        row, column = block.core.row_off - halo_px, block.core.col_off - halo_px
        grid = source.grid.moved(row, column, *values.shape[1:])
        cube = grid.to_data_array(values, source.labels)
        for core in block.windows:
            row, column = core.row_off - block.core.row_off, core.col_off - block.core.col_off
            inside = {
                "y": slice(row, row + core.height + 2 * halo_px),
                "x": slice(column, column + core.width + 2 * halo_px),
            }
            yield Chunk(core, cube.isel(inside), halo_px)


def read_blocks(
    source: SceneSource, blocks: list[ReadBlock], halo_px: int
) -> Iterator[tuple[ReadBlock, Floats]]:
    """Yield each block with its core and the halo all round, (labels, y, x), NaN beyond the scene.

    Of the block above the last rows are kept, and of all blocks to the west the last columns.
    """
    shared = 2 * halo_px  # rows or columns that neighbours have in common
    west = np.empty((len(source.labels), source.grid.height, shared), dtype="float32")
    values = west[:, :0]
    for block in blocks:
        read, core, above = block.read, block.core, values
        size = (core.height + shared, core.width + shared)
        values = np.full((len(source.labels), *size), np.nan, dtype="float32")
        top, left = read.row_off - core.row_off + halo_px, read.col_off - core.col_off + halo_px
        right = left + read.width
        rows = values[:, top : top + read.height]
        kept = west[:, read.row_off : read.row_off + read.height]
        source.read_into(read, rows[..., left:right])
        if read.col_off:
            rows[..., :shared] = kept
        if read.row_off:
            values[:, :shared] = above[:, -shared:]
        if read.col_off + read.width < source.grid.width:
            kept[:] = rows[..., right - shared : right]
        yield block, values


def one_ahead(items: Iterator[Item]) -> Iterator[Item]:
    """Yield the items of an iterator; a thread makes the next one meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int
) -> Iterator[Result]:
    """Yield the results of `function` in order, `threads` items and their successors ahead."""
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
