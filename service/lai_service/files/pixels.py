"""Pixels of a published raster: its grid, and the values of a window.

A file in the layout of our COGs is read by `tiff_window`, any other by GDAL, to the same values.
"""

import math
from pathlib import Path
from threading import Lock

import cachetools
import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window

from lai_service.files.rasters import GDAL_ENVIRONMENT
from lai_service.files.tiff_window import (
    Stored,
    UnsupportedTiffLayout,
    read_tiff_window,
    tiff_grid,
)
from lai_udf.grid import Grid

__all__ = ["grid_of", "physical", "stored"]


def grid_of(path: Path) -> Grid:
    """Return the grid of a raster; GDAL reads that of a tile once, not for every date.

    Raises:
        RasterioError: the file is gone or damaged.
    """
    try:
        return _known_grid(path, tiff_grid(path))
    except UnsupportedTiffLayout:
        return _open_grid(path)


@cachetools.cached(cachetools.LRUCache(maxsize=256), key=lambda path, tags: tags, lock=Lock())
def _known_grid(path: Path, tags: bytes) -> Grid:
    return _open_grid(path)


def _open_grid(path: Path) -> Grid:
    with rasterio.Env(**GDAL_ENVIRONMENT), rasterio.open(path, driver="GTiff") as raster:
        return Grid.of_dataset(raster)


def stored(path: Path, window: Window) -> Stored:
    """Return the stored numbers of a window that lies in the raster, and what they mean.

    Raises:
        RasterioError: the file is gone or damaged.
    """
    try:
        return read_tiff_window(path, window)
    except UnsupportedTiffLayout:
        with rasterio.Env(**GDAL_ENVIRONMENT), rasterio.open(path, driver="GTiff") as raster:
            values = raster.read(1, window=window)
            return Stored(values, raster.scales[0], raster.offsets[0], raster.nodata)


def physical(path: Path, window: Window) -> NDArray[np.float64]:
    """Return the values of a window in physical units, NaN where there is no data.

    Raises:
        RasterioError: the file is gone or damaged.
    """
    found = stored(path, window)
    values = found.values.astype(np.float64) * found.scale + found.offset
    if found.nodata is not None and not math.isnan(found.nodata):
        values[found.values == found.nodata] = np.nan
    return values
