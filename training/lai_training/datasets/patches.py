"""From a strip of a scene to patches: mask, histogram, cut, label. Arrays in, arrays out.

Input: reflectance (10, y, x) with NaN for no data, scene classes (y, x), cosines of the angles.
Output: patches in half precision and SL2P's label of exactly those.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from lai_training import sl2p
from lai_training.sl2p.tables import load_network
from lai_udf.predict import BANDS

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

    Args:
        reflectance: (10, y, x), NaN in all bands where masked.
        cosines: (3, y, x).
        first_row: row of the strip in the product.
        patch_px: side of a patch.
        least_valid_share: least share of pixels with data in all bands.
        lai: (y, x) label to use; None = SL2P with the mean angles of each patch.
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
    label, flags = label_with_flags(patches, angles)
    if lai is not None:
        label = np.where(np.isnan(label), np.float16(np.nan), cut(lai).astype(np.float16))
    corners = np.array([(first_row + row, column) for row, column in kept], np.int32)
    return Patches(patches, label, flags, angles, corners.reshape(-1, 2))


def label_with_flags(patches: Halves, cosines: Floats) -> tuple[Halves, NDArray[np.uint8]]:
    """Return SL2P's LAI (set 2_1, unclipped) and flags of patches (n, 10, y, x), each (n, y, x).

    Where a patch has no data, LAI is NaN and the flag is 1 (input out of range).
    """
    count, _, height, width = patches.shape
    inputs = load_network("LAI", "2_1", "S2A").inputs
    bands = [BANDS.index(name) for name in inputs if name in BANDS]
    lai = np.empty((count, height, width), np.float16)
    flags = np.empty((count, height, width), np.uint8)
    for index in range(count):
        rows = np.empty((height * width, 11), np.float32)
        rows[:, :8] = patches[index, bands].reshape(8, -1).T
        rows[:, 8:] = cosines[index]
        value, bits = sl2p.predict(rows, variable="LAI", network="2_1", clip=False)
        lai[index] = value.reshape(height, width)
        flags[index] = bits.reshape(height, width)
    return lai, flags
