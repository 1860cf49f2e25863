"""Cut a scene into panels, strips and windows, and hand each window over with its halo.

A panel is some columns of the scene, all of them where it is not wide. It is read strip by strip,
from north to south; the rows that two strips share are kept, not read again. Each strip is cut
into windows of a core and a halo on every side. Where the scene ends the halo is no data, as a
back-end delivers it. Memory depends on the strip, not on the scene.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import xarray as xr
from affine import Affine
from rasterio.windows import Window

from lai_udf.predict import BLOCK_PX, HALO_PX
from lai_udf.products_source import SceneSource, open_raster
from lai_udf.rasters_grid import Grid

Floats = npt.NDArray[np.float32]

CORE_PX = BLOCK_PX - 2 * HALO_PX
"""Largest side of a core: with its halo a window is one block of the UDF, that is not cut again."""

ALIGN_PX = 8
"""Cores start at multiples of this, so that the poolings of all windows are in phase."""

STRIP_ROWS = 512
"""Rows of a strip, or one row of blocks of a file that has higher ones (JPEG 2000: 1024)."""

PANEL_PX = 2048
"""Columns of a panel, at most, or four blocks of a file that has wider ones: a strip with ten
bands takes 45 MB, one is in work and one being read."""

MOST_STRIP_PX = 6_000_000
"""Strips of files with huge blocks are lower than their blocks."""


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


def strip_rows(columns: int, block_rows: int = 1) -> int:
    """Return the rows of a strip of a file with blocks of `block_rows` rows."""
    rows = max(STRIP_ROWS, block_rows // ALIGN_PX * ALIGN_PX)
    while rows * columns > MOST_STRIP_PX and rows > ALIGN_PX:
        rows = rows // (2 * ALIGN_PX) * ALIGN_PX
    return rows


@dataclass(frozen=True)
class Strip:
    """Some rows of a panel: what they are, and what has to be read for them."""

    top: int
    """First row."""
    bottom: int
    """Row after the last."""
    left: int
    """First column."""
    right: int
    """Column after the last."""
    first_read: int
    """First row that no strip before it in the panel has read."""
    last_read: int
    """Row after the last that it needs, its halo included."""


def plan_strips(
    source: SceneSource, *, halo_px: int = HALO_PX, rows: int | None = None
) -> list[Strip]:
    """Return the strips of a scene, panel by panel."""
    height, width = source.grid.shape
    with open_raster(source.bands[0].path, source.bands[0].label) as dataset:
        block = [side // source.bands[0].decimation for side in dataset.block_shapes[0]]
    blocks_px = 4 * block[1] if block[1] < width else 0  # a file may have blocks of whole rows
    panels = cut(width, max(PANEL_PX, blocks_px // ALIGN_PX * ALIGN_PX))
    strips = []
    for left, right in panels:
        step, read = rows or strip_rows(panels[0][1], max(block[0], 1)), 0
        for top, bottom in pairwise([*range(0, height, step), height]):
            last = min(bottom + halo_px, height)
            strips.append(Strip(top, bottom, left, right, read, last))
            read = last
    return strips


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
        Windows that cover each pixel of the scene once: panels from west to east, in them rows
        from north to south.

    Raises:
        ProductError: a file is truncated or gone.
    """
    strips = plan_strips(source, halo_px=halo_px, rows=rows)
    for strip, values in _read_strips(source, strips, halo_px):
        grid = surround(source.grid, strip, halo_px)
        cube = grid.to_data_array(values, source.labels)
        for row, row_end in cut(strip.bottom - strip.top, core_px):
            for column, column_end in cut(strip.right - strip.left, core_px):
                place = (strip.left + column, strip.top + row)
                yield Piece(
                    core=Window(*place, column_end - column, row_end - row),
                    cube=cube.isel(
                        y=slice(row, row_end + 2 * halo_px),
                        x=slice(column, column_end + 2 * halo_px),
                    ),
                    halo_px=halo_px,
                )


def count_pieces(source: SceneSource, *, core_px: int = CORE_PX, rows: int | None = None) -> int:
    """Return how many windows `iterate_pieces` will yield."""
    return sum(
        len(cut(strip.bottom - strip.top, core_px)) * len(cut(strip.right - strip.left, core_px))
        for strip in plan_strips(source, rows=rows)
    )


def _read_strips(
    source: SceneSource, strips: list[Strip], halo_px: int
) -> Iterator[tuple[Strip, Floats]]:
    """Yield each strip with a halo all round, NaN beyond the scene; the next one is read ahead."""

    def read(strip: Strip, before: Strip | None, known: Floats | None) -> Floats:
        """Copy the rows that the strip before has, and read those that it has not."""
        size = (strip.bottom - strip.top + 2 * halo_px, strip.right - strip.left + 2 * halo_px)
        values = np.full((len(source.labels), *size), np.nan, dtype="float32")
        row, column = strip.top - halo_px, strip.left - halo_px  # where values[:, 0, 0] lies
        if before is not None and known is not None and strip.first_read:
            first, stop = max(row, 0), strip.first_read
            shift = before.top - halo_px
            values[:, first - row : stop - row] = known[:, first - shift : stop - shift]
        start, stop = strip.first_read, strip.last_read
        left, right = max(column, 0), min(strip.right + halo_px, source.grid.width)
        if stop > start:
            window = Window(left, start, right - left, stop - start)
            place = slice(start - row, stop - row), slice(left - column, right - column)
            source.read_into(window, values[:, *place])
        return values

    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(read, strips[0], None, None)
        for strip, following in zip(strips, [*strips[1:], None], strict=True):
            values = coming.result()
            if following is not None:
                coming = pool.submit(read, following, strip, values)
            yield strip, values


def surround(grid: Grid, strip: Strip, halo_px: int) -> Grid:
    """Return the grid of a strip and its halo."""
    t = grid.transform
    rows, columns = strip.top - halo_px, strip.left - halo_px
    moved = Affine(t.a, t.b, t.c + columns * t.a, t.d, t.e, t.f + rows * t.e)
    height, width = strip.bottom - strip.top, strip.right - strip.left
    return Grid(grid.crs, moved, height + 2 * halo_px, width + 2 * halo_px)
