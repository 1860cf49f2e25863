"""A scene strip by strip, masked, with its angles and, where one is given, its label.

Strips are some rows of the scene, so memory does not grow with it; clouds beyond a strip reach
into it by the buffer.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import xarray as xr
from rasterio.errors import RasterioError
from rasterio.windows import Window

from lai_training.datasets.config import PrepareConfig
from lai_training.datasets.patches import Bools, Floats, add_buffer
from lai_training.errors import PrepareError
from lai_udf.grid import Grid
from lai_udf.predict import PredictOptions, read_values
from lai_udf.scenes.source import SceneSource

STRIP_ROWS = 1024
"""Rows of 20 m in memory at a time, at most; a whole number of patches."""


@dataclass(frozen=True, eq=False)
class Strip:
    """Some rows of a scene."""

    first_row: int
    reflectance: Floats
    """(10, y, x), NaN where missing or masked."""
    cosines: Floats
    """(3, y, x)."""
    lai: Floats | None
    """(y, x) label that was given; None = SL2P."""
    masked: Bools
    """(y, x) cloud, shadow, snow and their buffer, where there are data."""
    missing: Bools
    """(y, x) no data."""


@dataclass(frozen=True)
class LabelRaster:
    """LAI of a product from elsewhere, such as SNAP."""

    path: Path
    index: int
    """Band of the file, from 1."""

    def read(self, window: Window) -> Floats:
        """Return (y, x) LAI, NaN for no data; raise `PrepareError` where it cannot be read."""
        try:
            with rasterio.open(self.path) as dataset:
                lai = dataset.read(self.index, window=window, masked=True)
        except RasterioError as error:
            raise PrepareError(f"label raster {self.path} cannot be read ({error})") from error
        return np.asarray(lai.astype(np.float32).filled(np.nan))


def open_label(folder: Path, product_id: str, grid: Grid) -> LabelRaster:
    """Open the label raster of a product: `<product id>.tif`, band `LAI` or the first.

    Raises:
        PrepareError: it is missing or cannot be read.
        GridError: its grid is not that of the product.
    """
    path = folder / f"{product_id}.tif"
    try:
        with rasterio.open(path) as dataset:
            grid.require_same(Grid.of_dataset(dataset), f"label raster {path.name}")
            names = [(text or "").upper() for text in dataset.descriptions]
    except RasterioError as error:
        raise PrepareError(f"label raster {path} cannot be read ({error})") from error
    return LabelRaster(path, names.index("LAI") + 1 if "LAI" in names else 1)


def read_strips(source: SceneSource, config: PrepareConfig) -> Iterator[Strip]:
    """Read a scene strip by strip, masked; strips begin at whole patches.

    Raises:
        ProductError: a file is truncated or gone, or the label raster lies on another grid.
        LaiInputError: the values are no surface reflectance.
    """
    label = None
    if config.labels is not None:
        label = open_label(Path(config.labels), source.metadata.product_id, source.grid)
    height, width = source.grid.shape
    step = max(STRIP_ROWS // config.patch_px, 1) * config.patch_px
    for first in range(0, height, step):
        last = min(first + step, height)
        above = min(config.mask_buffer_px, first)  # clouds beyond the strip reach into it
        below = min(config.mask_buffer_px, height - last)
        window = Window(0, first - above, width, last - first + above + below)
        scene = source.read(window)
        rows = slice(above, above + last - first)
        lai = label.read(Window(0, first, width, last - first)) if label else None
        yield mask_strip(scene, rows, first, lai, config.mask_buffer_px)


def mask_strip(
    scene: xr.DataArray, rows: slice, first_row: int, lai: Floats | None, buffer_px: int
) -> Strip:
    """Mask a piece of a scene, then keep `rows` of it.

    Args:
        scene: (bands, y, x) with the rows around that the buffer needs.
        rows: those that belong to the strip.
        first_row: of the strip, in the scene.
        lai: label of the strip, (y, x), where one is given.
        buffer_px: pixels around clouds, shadows and snow that are masked with them.
    """
    labels = [str(label) for label in scene["bands"].values]
    values = scene.values
    inputs = read_values(values, labels, PredictOptions())
    masked = add_buffer(inputs.masked, buffer_px) & ~inputs.missing
    inputs.reflectance[:, masked] = np.nan
    cosines = np.broadcast_to(inputs.cosines, (3, *masked.shape))
    return Strip(
        first_row,
        inputs.reflectance[:, rows],
        cosines[:, rows],
        lai,
        masked[rows],
        inputs.missing[rows],
    )
