"""From a strip of a scene to patches: mask, histogram, cut, label. Arrays in, arrays out.

Input: reflectance (10, y, x) with NaN for no data, scene classes (y, x), cosines of the angles.
Output: patches in half precision and SL2P's label of exactly those.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.windows import Window
from scipy.ndimage import distance_transform_edt

from lai_training import sl2p
from lai_training.datasets.config import PrepareConfig
from lai_training.errors import PrepareError
from lai_udf.grid import Grid
from lai_udf.predict import BANDS, PredictOptions, read_values
from lai_udf.scenes.source import SceneSource

Floats = NDArray[np.float32]
Halves = NDArray[np.float16]
Bools = NDArray[np.bool_]

LOWEST, HIGHEST, STEP = -0.2, 2.0, 1e-4
"""Range and step of the histograms, reflectance; a step is one digital number of L2A."""


def add_buffer(masked: Bools, buffer_px: int) -> Bools:
    """Return (y, x) bool: masked pixels, and all within a radius, pixels, of them."""
    if buffer_px == 0 or not masked.any():
        return masked
    return np.asarray(distance_transform_edt(~masked) <= buffer_px)


@dataclass(eq=False)
class Histograms:
    """Histograms of the ten bands of one image, filled strip by strip."""

    counts: NDArray[np.int64] = field(
        default_factory=lambda: np.zeros(
            (len(BANDS), round((HIGHEST - LOWEST) / STEP) + 1), np.int64
        )
    )
    """(10, steps)."""

    def add(self, reflectance: Floats) -> None:
        """Count reflectance (10, …); NaN is left out, what is beyond the range goes to its end."""
        for band, values in enumerate(reflectance):
            finite = values[np.isfinite(values)]
            place = np.rint((np.clip(finite, LOWEST, HIGHEST) - LOWEST) / STEP).astype(np.int64)
            self.counts[band] += np.bincount(place, minlength=self.counts.shape[1])

    def percentile(self, percent: float) -> Floats:
        """Return the percentile of each band, (10,) reflectance, to 0.0001; NaN without data."""
        total = self.counts.sum(axis=1)
        wanted = np.ceil(total * percent / 100).clip(1)
        place = (self.counts.cumsum(axis=1) >= wanted[:, None]).argmax(axis=1)
        return np.where(total > 0, LOWEST + STEP * place, np.nan).astype(np.float32)


def list_corners(height: int, width: int, patch_px: int) -> Iterator[tuple[int, int]]:
    """Return upper left corners (row, column) of the patches that lie side by side in an image."""
    for row in range(0, height - patch_px + 1, patch_px):
        for column in range(0, width - patch_px + 1, patch_px):
            yield row, column


@dataclass(frozen=True, eq=False)
class Patches:
    """Patches of one product, or of a strip of it."""

    reflectance: Halves
    """(n, 10, y, x) boa reflectance, NaN where masked or without data."""
    lai: Halves
    """(n, y, x) label, unclipped, NaN where the reflectance is."""
    flags: NDArray[np.uint8]
    """(n, y, x) SNAP's bits of the label (`sl2p.Flag`)."""
    cosines: Floats
    """(n, 3) mean over the patch: cosine of view zenith, sun zenith, relative azimuth."""
    corners: NDArray[np.int32]
    """(n, 2) row and column of the upper left pixel in the product's 20 m grid."""


def cut_strip(
    reflectance: Floats,
    cosines: Floats,
    *,
    first_row: int,
    patch_px: int,
    least_valid_share: float,
    lai: Floats | None = None,
) -> Patches:
    """Cut a strip into patches, keep those with enough data, label them.

    Reflectance is (10, y, x), NaN in all bands where masked, cosines (3, y, x), `first_row` the row
    of the strip in the product. Kept are patches of which `least_valid_share` has data in all
    bands. The label is `lai`, (y, x), or SL2P with the mean angles of each patch.
    """
    valid: Bools = np.asarray(np.isfinite(reflectance).all(axis=0))
    kept = [
        (row, column)
        for row, column in list_corners(valid.shape[0], valid.shape[1], patch_px)
        if valid[row : row + patch_px, column : column + patch_px].mean() >= least_valid_share
    ]

    def cut(planes: NDArray[Any]) -> NDArray[Any]:
        shape = (0, *planes.shape[:-2], patch_px, patch_px)
        parts = [planes[..., r : r + patch_px, c : c + patch_px] for r, c in kept]
        return np.stack(parts) if parts else np.empty(shape, planes.dtype)

    patches = cut(np.where(valid, reflectance, np.float32(np.nan))).astype(np.float16)
    angles = cut(cosines).mean(axis=(2, 3), dtype=np.float64).astype(np.float32)
    lai_of_sl2p, flags = sl2p.predict_patches(patches.astype(np.float32), angles)
    label = lai_of_sl2p.astype(np.float16)
    if lai is not None:
        label = np.where(np.isnan(label), np.float16(np.nan), cut(lai).astype(np.float16))
    corners = np.array([(first_row + row, column) for row, column in kept], np.int32)
    return Patches(patches, label, flags, angles, corners.reshape(-1, 2))


STRIP_ROWS = 1024
"""Rows of 20 m in memory at a time, at most; a whole number of patches."""


@dataclass(frozen=True, eq=False)
class Strip:
    """Some rows of a scene."""

    reflectance: Floats
    """(10, y, x), NaN where missing or masked."""
    masked: Bools
    """(y, x) cloud, shadow, snow and their buffer, where there are data."""
    missing: Bools
    """(y, x) no data."""
    patches: Patches
    """Those with enough data."""


def read_label(path: Path, grid: Grid, window: Window) -> Floats:
    """Return LAI from elsewhere, such as SNAP's, (y, x), NaN for no data: band `LAI` or the first.

    Raises:
        PrepareError: the file is missing or cannot be read.
        GridError: its grid is not that of the product.
    """
    try:
        with rasterio.open(path) as dataset:
            grid.require_same(Grid.of_dataset(dataset), f"label raster {path.name}")
            names = [(text or "").upper() for text in dataset.descriptions]
            index = names.index("LAI") + 1 if "LAI" in names else 1
            lai = dataset.read(index, window=window, masked=True)
    except RasterioError as error:
        raise PrepareError(f"label raster {path} cannot be read ({error})") from error
    return np.asarray(lai.astype(np.float32).filled(np.nan))


def read_strips(source: SceneSource, config: PrepareConfig) -> Iterator[Strip]:
    """Read, mask and cut a scene strip by strip; strips begin at whole patches.

    Raises:
        ProductError: a file is truncated or gone, or the label raster lies on another grid.
        LaiInputError: the values are no surface reflectance.
    """
    labels = config.labels and Path(config.labels) / f"{source.metadata.product_id}.tif"
    height, width = source.grid.shape
    step = max(STRIP_ROWS // config.patch_px, 1) * config.patch_px
    for first in range(0, height, step):
        last = min(first + step, height)
        above = min(config.mask_buffer_px, first)  # clouds beyond the strip reach into it
        below = min(config.mask_buffer_px, height - last)
        core = Window(0, first, width, last - first)
        lai = read_label(labels, source.grid, core) if labels else None
        scene = source.read(Window(0, first - above, width, last - first + above + below))
        inputs = read_values(
            scene.values, [str(n) for n in scene["bands"].values], PredictOptions()
        )
        masked = add_buffer(inputs.masked, config.mask_buffer_px) & ~inputs.missing
        inputs.reflectance[:, masked] = np.nan
        rows = slice(above, above + last - first)
        reflectance = inputs.reflectance[:, rows]
        patches = cut_strip(
            reflectance,
            np.broadcast_to(inputs.cosines, (3, *masked.shape))[:, rows],
            first_row=first,
            patch_px=config.patch_px,
            least_valid_share=config.least_valid_share,
            lai=lai,
        )
        yield Strip(reflectance, masked[rows], inputs.missing[rows], patches)
