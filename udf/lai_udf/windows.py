"""Cut a scene into strips and windows, and hand each window over with its halo.

A scene is read once, from north to south, in strips of full width; the rows that two strips share
are kept, not read again. Each strip is cut into windows of a core and a halo on every side. Where
the scene ends the halo is no data, as a back-end delivers it. Memory depends on the strip, not on
the scene.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import xarray as xr
from rasterio.windows import Window

from lai_udf.predict import HALO_PX
from lai_udf.products_source import SceneSource
from lai_udf.rasters_grid import Grid

CORE_PX = 960
"""Side of the core of a window: two blocks of the UDF (`lai_udf.predict.BLOCK_PX`)."""

STRIP_PX = 4_000_000
"""Pixels of a strip: 16 MB a band in float32."""


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


def cut(length_px: int, step_px: int) -> list[tuple[int, int]]:
    """Return (start, stop) of consecutive parts of `step_px`; the last may be shorter."""
    return list(pairwise([*range(0, length_px, step_px), length_px]))


def strip_rows(grid: Grid, strip_px: int = STRIP_PX, step_px: int = 64) -> int:
    """Return the rows of a strip: about `strip_px` pixels, a multiple of `step_px`."""
    return max(strip_px // grid.width // step_px, 1) * step_px


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
        rows: rows of a strip; by default what `STRIP_PX` allows.

    Yields:
        Windows from north to south and west to east, that cover each pixel of the scene once.

    Raises:
        ProductError: a file is truncated or gone.
    """
    strips = cut(source.grid.height, rows or strip_rows(source.grid))
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


def count_pieces(grid: Grid, *, core_px: int = CORE_PX, rows: int | None = None) -> int:
    """Return how many windows `iterate_pieces` will yield."""
    strips = cut(grid.height, rows or strip_rows(grid))
    across = len(cut(grid.width, core_px))
    return across * sum(len(cut(bottom - top, core_px)) for top, bottom in strips)


def _read_strips(
    source: SceneSource, strips: list[tuple[int, int]], halo_px: int
) -> Iterator[tuple[tuple[int, int], xr.DataArray]]:
    """Yield each strip with a halo all round, one read ahead."""
    height, width = source.grid.shape

    def read(first: int, last: int) -> xr.DataArray:
        return source.read(Window(0, first, width, last - first))

    def ask(number: int, seen: int) -> tuple[int, Future[xr.DataArray] | None]:
        """Start to read what strip `number` needs below row `seen`."""
        last = min(strips[number][1] + halo_px, height)
        return last, pool.submit(read, seen, last) if last > seen else None

    with ThreadPoolExecutor(1) as pool:
        kept: xr.DataArray | None = None
        seen, coming = ask(0, 0)
        for number, (top, bottom) in enumerate(strips):
            came = None if coming is None else coming.result()
            parts = [part for part in (kept, came) if part is not None]
            strip = xr.concat(parts, "y", coords="minimal", compat="override", join="override")
            last = seen
            if number + 1 < len(strips):
                seen, coming = ask(number + 1, seen)
                kept = strip.isel(y=slice(bottom - halo_px - last, None)).copy()
            # rows of the halo that lie outside the scene
            north = max(halo_px - top, 0) if top < halo_px else 0
            south = bottom + halo_px - last
            yield (top, bottom), pad(strip, north, south, halo_px)


def pad(strip: xr.DataArray, north: int, south: int, sides: int) -> xr.DataArray:
    """Surround a strip (bands, y, x) with NaN; the coordinates go on evenly."""
    sizes = {"bands": (0, 0), "y": (north, south), "x": (sides, sides)}
    values = np.pad(strip.values, list(sizes.values()), constant_values=np.nan)
    grid = Grid.of_data_array(strip, "the strip")
    moved = grid.transform @ grid.transform.translation(-sides, -north)
    wider = Grid(grid.crs, moved, *values.shape[1:])
    return wider.to_data_array(values, list(strip["bands"].values), strip.attrs)
