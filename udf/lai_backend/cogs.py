"""A cube as Cloud Optimized GeoTIFFs: one file per date, all bands in it, float32, NaN = no data.

Blocks stream into plain files, all dates at once, because one call of a UDF may make all of them;
GDAL then turns each plain file into a COG.
"""

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import rasterio
import rasterio.shutil
import xarray as xr
from rasterio.enums import Resampling
from rasterio.windows import Window

from lai_backend.errors import ResultError
from lai_backend.files import replacing
from lai_backend.georeference import transform_of

TILE_PX = 512
StoreBlocks = Callable[[da.Array, Any], None]
"""Computes an array and hands its blocks to a target; see `engine.Engine.store`."""


def write_cogs(cube: xr.DataArray, paths: Sequence[Path], store: StoreBlocks) -> None:
    """Write a cube (t, bands, y, x), float32, with a CRS, as one COG per date, in one folder."""
    plain = [path.with_name(f".{path.stem}.blocks.tif") for path in paths]
    try:
        with ExitStack() as opened:
            profile = _profile(cube)
            files = [opened.enter_context(rasterio.open(path, "w", **profile)) for path in plain]
            for file in files:
                file.descriptions = tuple(cube["bands"].values)
            store(da.asarray(cube.data), _Files(files))
        for source, path in zip(plain, paths, strict=True):
            _check_complete(source, cube)
            _make_cog(source, path)
            source.unlink()
    finally:
        for path in plain:
            path.unlink(missing_ok=True)


def _profile(cube: xr.DataArray) -> dict[str, Any]:
    return {
        "driver": "GTiff",
        "dtype": "float32",
        "count": cube.sizes["bands"],
        "height": cube.sizes["y"],
        "width": cube.sizes["x"],
        "crs": cube.rio.crs,
        "transform": transform_of(cube),
        "nodata": np.nan,
        "tiled": True,
        "blockxsize": TILE_PX,
        "blockysize": TILE_PX,
        "BIGTIFF": "IF_SAFER",
    }


class _Files:
    """One open raster file per date, as a target of blocks (t, bands, y, x)."""

    def __init__(self, files: Sequence[Any]) -> None:
        self._files = files

    def __setitem__(self, key: tuple[slice, ...], block: npt.NDArray[np.float32]) -> None:
        dates, bands, rows, columns = key
        window = Window(columns.start, rows.start, block.shape[-1], block.shape[-2])
        numbers = [number + 1 for number in range(bands.start, bands.stop)]
        for file, layers in zip(self._files[dates], block, strict=True):
            file.write(layers, indexes=numbers, window=window)


def _check_complete(path: Path, cube: xr.DataArray) -> None:
    """Refuse an uncompressed file that is shorter than its pixels: GDAL flushes without a word."""
    needed = 4 * cube.sizes["bands"] * cube.sizes["y"] * cube.sizes["x"]
    if path.stat().st_size < needed:
        raise ResultError(f"Cannot write the result to {path.parent}: the disk is full.")


def _make_cog(source: Path, path: Path) -> None:
    """Compress a plain file on all cores, and read the outcome back."""
    with rasterio.open(source, "r+") as plain:
        # The COG driver would make them by way of a compressed file, in one thread.
        levels = max(0, math.ceil(math.log2(max(plain.shape) / TILE_PX)))
        plain.build_overviews([2**level for level in range(1, levels + 1)], Resampling.nearest)
    with replacing(path) as cog:
        rasterio.shutil.copy(
            source,
            cog,
            driver="COG",
            compress="deflate",
            level=1,  # as small as 6 on LAI, in three quarters of the time
            predictor="floating_point",
            num_threads="all_cpus",
            blocksize=TILE_PX,
            bigtiff="if_safer",
        )
        if not _hold_the_same(source, cog):
            raise ResultError(f"Cannot write {path}: it was cut off; is the disk full?")


def _hold_the_same(one: Path, other: Path) -> bool:
    """Compare two files of one layout, bit for bit, on all cores."""
    usable = getattr(os, "sched_getaffinity", None)  # linux alone knows
    threads = len(usable(0)) if usable else os.cpu_count() or 1
    with rasterio.open(one) as dataset:
        tiles = [tile for _, tile in dataset.block_windows(1)]

    def compare(some: Sequence[Window]) -> bool:
        with rasterio.open(one) as first, rasterio.open(other) as second:
            return all(
                np.array_equal(*(file.read(window=tile).view("u4") for file in (first, second)))
                for tile in some
            )

    with ThreadPoolExecutor(threads) as pool:
        return all(pool.map(compare, (tiles[thread::threads] for thread in range(threads))))
