"""Constants that bring reflectance near one (eq. 1 of the paper), frozen into the bundle.

Comes in: a pool of patches, (n, 10, y, x), or limits that a manifest tells. Goes out: a
`Normalisation`; `lai_udf.predict.build_features` applies it, in training as in use.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float32]
NORMALISATION_LIMIT = 8.0
"""Normalised values are cut here: what lies beyond is no land."""


@dataclass(frozen=True, eq=False)
class Normalisation:
    """Constants of eq. 1 (section 4.2), frozen in reflectance units for all images."""

    mean: Floats
    """(10,), reflectance."""
    std: Floats
    """(10,), reflectance."""

    def contract(self) -> dict[str, Any]:
        """Return what `model.json` says of it."""
        return {
            "mean": [round(float(value), 6) for value in self.mean],
            "std": [round(float(value), 6) for value in self.std],
            "limit": NORMALISATION_LIMIT,
        }


def measure_normalisation(pool: Floats) -> Normalisation:
    """Return mean and standard deviation per band over every tenth patch of the pool."""
    some = np.asarray(pool[::10], dtype="float64")
    return Normalisation(
        mean=np.nanmean(some, axis=(0, 2, 3)).astype("float32"),
        std=np.nanstd(some, axis=(0, 2, 3)).astype("float32"),
    )


def normalise_by_range(lowest: ArrayLike, highest: ArrayLike) -> Normalisation:
    """Return eq. 1 as the paper has it: `lowest` becomes 0, `highest` 1.

    Args:
        lowest: (10,) reflectance, the smallest 2nd percentile of any image.
        highest: (10,) reflectance, the largest 98th percentile of any image.
    """
    low, high = (np.asarray(limits, dtype="float32") for limits in (lowest, highest))
    return Normalisation(mean=low, std=high - low)


def measure_range(pool: Floats) -> Normalisation:
    """Return eq. 1 with every tenth patch of the pool taken for an image."""
    some = np.asarray(pool[::10], dtype="float32")
    low, high = np.nanpercentile(some, (2, 98), axis=(2, 3))
    return normalise_by_range(np.nanmin(low, axis=0), np.nanmax(high, axis=0))
