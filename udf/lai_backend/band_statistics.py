"""Statistics of the bands of a result, taken from its blocks as they are written."""

from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt

from lai_backend.cogs import StoreBlocks


class BandStatistics:
    """Counts, sums and extremes by date and band; a target that passes blocks on."""

    def __init__(self, shape: tuple[int, ...], store: StoreBlocks) -> None:
        """Begin with nothing.

        Args:
            shape: of the cube (t, bands, y, x).
            store: computes the cube.
        """
        self._pixels = shape[2] * shape[3]
        self._sums = np.zeros((3, *shape[:2]))  # of ones, of values, of their squares
        self._low, self._high = np.full(shape[:2], np.inf), np.full(shape[:2], -np.inf)
        self._store = store
        self._target: Any = None

    def store(self, array: da.Array, target: Any) -> None:
        """Compute an array into a target, and look at its blocks on their way."""
        self._target = target
        self._store(array, self)

    def __setitem__(self, key: tuple[slice, ...], block: npt.NDArray[np.float32]) -> None:
        self._target[key] = block
        known, part = np.isfinite(block), key[:2]
        values = np.where(known, block, 0).astype(float)
        for number, summed in enumerate((known, values, values**2)):
            self._sums[number][part] += summed.sum(axis=(2, 3))
        lowest = np.where(known, block, np.inf).min(axis=(2, 3))
        highest = np.where(known, block, -np.inf).max(axis=(2, 3))
        self._low[part] = np.minimum(self._low[part], lowest)
        self._high[part] = np.maximum(self._high[part], highest)

    def describe(self, names: list[str], dates: slice) -> list[dict[str, Any]]:
        """Return the bands of the dates in a file as `raster:bands` of STAC."""
        counts, sums, squares = self._sums[:, dates].sum(axis=1)
        low, high = self._low[dates].min(axis=0), self._high[dates].max(axis=0)
        pixels = self._pixels * len(self._low[dates])
        described = []
        for band, name in enumerate(names):
            statistics = {"valid_percent": 100 * float(counts[band]) / pixels}
            if counts[band]:
                mean = float(sums[band] / counts[band])
                spread = float(np.sqrt(max(squares[band] / counts[band] - mean**2, 0)))
                lowest, highest = float(low[band]), float(high[band])
                statistics |= {"minimum": lowest, "maximum": highest}
                statistics |= {"mean": mean, "stddev": spread}
            described.append({"name": name, "statistics": statistics})
        return described
