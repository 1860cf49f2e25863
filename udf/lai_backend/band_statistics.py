"""Statistics of the bands of a result, taken from its blocks as they are written."""

from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt

from lai_backend.cogs import StoreBlocks


class BandStatistics:
    """Counts, sums and extremes by date and band."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        """Begin with nothing; `shape` is that of the cube (t, bands, y, x)."""
        self._pixels = shape[2] * shape[3]
        self._sums = np.zeros((3, *shape[:2]))  # of ones, of values, of their squares
        self._extremes = np.full((2, *shape[:2]), [[[np.inf]], [[-np.inf]]])

    def watch(self, store: StoreBlocks) -> StoreBlocks:
        """Return a `store` that lets blocks be looked at on their way."""

        def watching(array: da.Array, target: Any) -> None:  # noqa: ANN401 - any target
            store(array, _Watched(target, self))

        return watching

    def add(self, key: tuple[slice, ...], block: npt.NDArray[np.float32]) -> None:
        """Take note of one block."""
        dates, bands = key[:2]
        known = np.isfinite(block)
        values = np.where(known, block, 0).astype(float)
        for number, part in enumerate((known, values, values**2)):
            self._sums[number, dates, bands] += part.sum(axis=(2, 3))
        lowest = np.where(known, block, np.inf).min(axis=(2, 3))
        highest = np.where(known, block, -np.inf).max(axis=(2, 3))
        low, high = self._extremes
        low[dates, bands] = np.minimum(low[dates, bands], lowest)
        high[dates, bands] = np.maximum(high[dates, bands], highest)

    def describe(self, names: list[str], dates: slice) -> list[dict[str, Any]]:
        """Return the bands of some dates as `raster:bands` of STAC.

        Args:
            names: of the bands.
            dates: which dates lie in the file.
        """
        counts, sums, squares = self._sums[:, dates].sum(axis=1)
        low, high = self._extremes[0, dates].min(axis=0), self._extremes[1, dates].max(axis=0)
        pixels = self._pixels * len(self._sums[0, dates])
        described = []
        for band, name in enumerate(names):
            statistics = {"valid_percent": 100 * float(counts[band]) / pixels}
            if counts[band]:
                mean = sums[band] / counts[band]
                spread = np.sqrt(max(squares[band] / counts[band] - mean**2, 0))
                statistics |= {
                    "minimum": float(low[band]),
                    "maximum": float(high[band]),
                    "mean": float(mean),
                    "stddev": float(spread),
                }
            described.append({"name": name, "statistics": statistics})
        return described


class _Watched:
    def __init__(self, target: Any, statistics: BandStatistics) -> None:  # noqa: ANN401
        self._target, self._statistics = target, statistics

    def __setitem__(self, key: tuple[slice, ...], block: npt.NDArray[np.float32]) -> None:
        self._target[key] = block
        self._statistics.add(key, block)
