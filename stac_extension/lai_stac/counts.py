"""How often each stored number occurs: statistics of a raster that is read block by block.

LAI and its bounds are stored as integers, so mean, spread and quantiles of a tile follow from some
60,000 counts, exactly, whatever its size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_LOWEST, _SIZE = -(2**15), 2**17  # differences of two int16 too


class ValueCounts:
    """Counts of values that are whole multiples of a step.

    Args:
        step: distance of neighbouring values, in their unit.
    """

    def __init__(self, step: float) -> None:
        self._step = step
        self._counts = np.zeros(_SIZE, np.int64)

    def add(self, values: Array) -> None:
        """Count finite values, any shape; others are rounded to the nearest multiple."""
        place = np.rint(values.ravel() / self._step).astype(np.int64) - _LOWEST
        self._counts += np.bincount(np.clip(place, 0, _SIZE - 1), minlength=_SIZE)

    @property
    def total(self) -> int:
        """Number of values."""
        return int(self._counts.sum())

    @property
    def mean(self) -> float:
        """Mean; NaN where there is no value."""
        values, counts = self._occurring()
        return float(np.average(values, weights=counts)) if values.size else float("nan")

    @property
    def spread(self) -> float:
        """Standard deviation; NaN where there is no value."""
        values, counts = self._occurring()
        if not values.size:
            return float("nan")
        return float(np.sqrt(np.average((values - self.mean) ** 2, weights=counts)))

    @property
    def ends(self) -> tuple[float, float]:
        """Least and greatest value; at least one is there."""
        values, _ = self._occurring()
        return float(values[0]), float(values[-1])

    def quantile(self, share: float) -> float:
        """Return a quantile, between two values by a line, as `numpy.quantile`; NaN of nothing."""
        values, counts = self._occurring()
        if not values.size:
            return float("nan")
        last = np.cumsum(counts)
        place = share * (last[-1] - 1)
        low, high = (values[np.searchsorted(last, at, side="right")] for at in _around(place))
        return float(low + (high - low) * (place - np.floor(place)))

    def histogram(self, limits: tuple[float, float], buckets: int) -> list[int]:
        """Count values in equal buckets; those beyond the limits fall into the outer ones."""
        values, counts = self._occurring()
        found, _ = np.histogram(np.clip(values, *limits), buckets, limits, weights=counts)
        return [int(count) for count in found]

    def _occurring(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        place = np.flatnonzero(self._counts)
        values = (place + _LOWEST).astype(np.float64) * self._step
        return values, self._counts[place].astype(np.int64)


def _around(place: float) -> tuple[int, int]:
    return int(np.floor(place)), int(np.ceil(place))
