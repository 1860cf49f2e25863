"""Cut a scene into strips and windows, and hand each window over with its halo.

A scene is read once, from north to south, in strips of full width; the rows that two strips share
are kept, not read again. Each strip is cut into windows of a core and a halo on every side. Where
the scene ends the halo is no data, as a back-end delivers it. Memory depends on the strip, not on
the scene.
"""

import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import xarray as xr
from affine import Affine
from rasterio.windows import Window

from lai_udf.predict import BLOCK_PX, HALO_PX
from lai_udf.products_source import SceneSource, open_raster
from lai_udf.rasters_grid import Grid

CORE_PX = BLOCK_PX - 2 * HALO_PX
"""Largest side of a core: with its halo a window is one block of the UDF, that is not cut again."""

ALIGN_PX = 8
"""Cores start at multiples of this, so that the poolings of all windows are in phase."""

STRIP_ROWS = 512
"""Rows of a strip, or one row of blocks of a file that has higher ones (JPEG 2000: 1024)."""

MOST_STRIP_PX = 6_000_000
"""Wider scenes get lower strips: 240 MB for ten bands, one strip in work and one being read."""


@dataclass(frozen=True)
class Piece:
    """One window of a scene, ready for the UDF."""

    core: Window
    """Where the result belongs in the scene."""
    cube: xr.DataArray
    """Dims (bands, y, x): the core and `halo_px` more on every side, NaN beyond the scene."""
    halo_px: int
    """Border to trim from the result."""

    def trim(self, result: xr.DataArray) -> xr.DataArray:
        """Return the core of a result with the y and x of `cube`."""
        inside = slice(self.halo_px, -self.halo_px or None)
        return result.isel(y=inside, x=inside)


def cut(length_px: int, most_px: int) -> list[tuple[int, int]]:
    """Return (start, stop) of consecutive parts of at most `most_px`, about equally long.

    All but the last start and stop at multiples of `ALIGN_PX`, of which `most_px` must be one.
    """
    parts = -(-length_px // most_px)
    step = -(-length_px // (parts * ALIGN_PX)) * ALIGN_PX
    return list(pairwise([*range(0, length_px, step), length_px]))


def strip_rows(grid: Grid, block_rows: int = 1) -> int:
    """Return the rows of a strip of a scene whose file has blocks of `block_rows` rows."""
    rows = max(STRIP_ROWS, block_rows // ALIGN_PX * ALIGN_PX)
    while rows * grid.width > MOST_STRIP_PX and rows > ALIGN_PX:
        rows = rows // (2 * ALIGN_PX) * ALIGN_PX
    return rows


def plan_strips(source: SceneSource, rows: int | None = None) -> list[tuple[int, int]]:
    """Return (first row, row after the last) of each strip of a scene."""
    if rows is None:
        with open_raster(source.bands[0].path, source.bands[0].label) as dataset:
            block_rows = dataset.block_shapes[0][0] // source.bands[0].decimation
        rows = strip_rows(source.grid, max(block_rows, 1))
    height = source.grid.height
    return list(pairwise([*range(0, height, rows), height]))


def iterate_pieces(
    source: SceneSource,
    *,
    core_px: int = CORE_PX,
    halo_px: int = HALO_PX,
    rows: int | None = None,
) -> Iterator[Piece]:
    """Read a scene strip by strip and yield its windows.

    The next strip is read while the caller works on this one.

    Args:
        source: scene to read.
        core_px: largest side of a core.
        halo_px: border around the core; at least the reach of the network for seamless results.
        rows: rows of a strip, a multiple of `ALIGN_PX`; by default what suits the file.

    Yields:
        Windows from north to south and west to east, that cover each pixel of the scene once.

    Raises:
        ProductError: a file is truncated or gone.
    """
    strips = plan_strips(source, rows)
    for (top, bottom), strip in _read_strips(source, strips, halo_px):
        for row, row_end in cut(bottom - top, core_px):
            for column, column_end in cut(source.grid.width, core_px):
                yield Piece(
                    core=Window(column, top + row, column_end - column, row_end - row),
                    cube=strip.isel(
                        y=slice(row, row_end + 2 * halo_px),
                        x=slice(column, column_end + 2 * halo_px),
                    ),
                    halo_px=halo_px,
                )


def count_pieces(source: SceneSource, *, core_px: int = CORE_PX, rows: int | None = None) -> int:
    """Return how many windows `iterate_pieces` will yield."""
    strips = plan_strips(source, rows)
    across = len(cut(source.grid.width, core_px))
    return across * sum(len(cut(bottom - top, core_px)) for top, bottom in strips)


def _read_strips(
    source: SceneSource, strips: list[tuple[int, int]], halo_px: int
) -> Iterator[tuple[tuple[int, int], xr.DataArray]]:
    """Yield each strip with a halo all round, NaN beyond the scene; the next one is read ahead."""
    height, width = source.grid.shape
    rows_read = [min(bottom + halo_px, height) for _, bottom in strips]

    def read(number: int) -> xr.DataArray | None:
        """Read the rows that strip `number` needs and those before it did not."""
        first = rows_read[number - 1] if number else 0
        last = rows_read[number]
        return source.read(Window(0, first, width, last - first)) if last > first else None

    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(read, 0)
        kept = np.empty((len(source.labels), 0, width), dtype="float32")
        for number, (top, bottom) in enumerate(strips):
            values = np.full(
                (len(source.labels), bottom - top + 2 * halo_px, width + 2 * halo_px),
                np.nan,
                dtype="float32",
            )
            inside = values[:, :, halo_px : halo_px + width]
            start = max(halo_px - top, 0)  # rows of the halo north of the scene
            inside[:, start : start + kept.shape[1]] = kept
            arrived = coming.result()
            if arrived is not None:
                start += kept.shape[1]
                inside[:, start : start + arrived.sizes["y"]] = arrived.values
            attributes = {} if arrived is None else arrived.attrs
            del arrived
            gc.collect()  # labelled arrays refer to themselves (rio): strips would pile up
            if number + 1 < len(strips):
                coming = pool.submit(read, number + 1)
            grid = surround(source.grid, top, values.shape[1], halo_px)
            yield (top, bottom), grid.to_data_array(values, source.labels, attributes)
            following = max(bottom - halo_px, 0)  # first row that the next strip needs
            begin = following - (top - halo_px)
            kept = inside[:, begin : begin + rows_read[number] - following].copy()
            del values, inside


def surround(grid: Grid, top: int, rows: int, halo_px: int) -> Grid:
    """Return the grid of a strip that begins `halo_px` above row `top` and left of the scene."""
    t = grid.transform
    corner = (t.c - halo_px * t.a, t.f + (top - halo_px) * t.e)
    moved = Affine(t.a, t.b, corner[0], t.d, t.e, corner[1])
    return Grid(grid.crs, moved, rows, grid.width + 2 * halo_px)
