"""Pixels of a published raster: its grid, and the values of a window.

A file in the layout of our COGs is read by `plain_tiff`, any other by GDAL, to the same values.
"""

import math
from collections.abc import Hashable
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window

from lai_service.files.plain_tiff import NotPlainError, Stored, plain_grid, plain_window
from lai_service.files.rasters import GDAL_ENVIRONMENT

__all__ = ["grid_of", "physical", "stored"]


def grid_of(path: Path) -> Hashable:
    """Return what fixes size, place and CRS of a raster; equal for rasters on one grid.

    Raises:
        RasterioError: the file is gone or damaged.
    """
    try:
        return plain_grid(path)
    except NotPlainError:
        with rasterio.Env(**GDAL_ENVIRONMENT), rasterio.open(path, driver="GTiff") as raster:
            return raster.crs.to_wkt(), raster.transform, raster.height, raster.width


def stored(path: Path, window: Window) -> Stored:
    """Return the stored numbers of a window that lies in the raster, and what they mean.

    Raises:
        RasterioError: the file is gone or damaged.
    """
    try:
        return plain_window(path, window)
    except NotPlainError:
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
