"""The series of `lai_udf.series` and its peers, as functions of one shape.

A method takes days (t,), bands (t, n) and target days (u,), and returns `LAI` (u, n) and, where it
has them, `LAI_SD` (u, n), `REJECTED` and `FALL` (t, n).
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solveh_banded
from scipy.signal import savgol_filter

from lai_udf.series import smooth_pixels

Floats = NDArray[np.float64]
Result = Mapping[str, NDArray[Any]]
Method = Callable[[Floats, Mapping[str, Floats], Floats], Result]

WHITTAKER_LAMBDA = 10_000.0  # FuseTS's default, daily grid, weights 0 or 1
SAVITZKY_GOLAY_DAYS, SAVITZKY_GOLAY_ORDER = 31, 2


def ours(days: Floats, bands: Mapping[str, Floats], targets: Floats) -> Result:
    """Smooth with `lai_udf.series`."""
    return smooth_pixels(days, bands, targets)


def without_spectra(days: Floats, bands: Mapping[str, Floats], targets: Floats) -> Result:
    """Smooth with `lai_udf.series`, of LAI and flags alone."""
    kept = {name: bands[name] for name in ("LAI", "LAI_FLAGS", "SCL") if name in bands}
    return smooth_pixels(days, kept, targets)


def _daily(days: Floats, lai: Floats, targets: Floats) -> tuple[Floats, Floats]:
    """Return the days from the first to the last, and LAI interpolated to them."""
    first = min(days.min(), targets.min())
    grid = np.arange(first, max(days.max(), targets.max()) + 1)
    known = np.isfinite(lai)
    return grid, np.interp(grid, days[known], lai[known])


def _each(single: Callable[[Floats, Floats, Floats], Floats]) -> Method:
    def method(days: Floats, bands: Mapping[str, Floats], targets: Floats) -> Result:
        lai = bands["LAI"]
        result = np.full((len(targets), lai.shape[1]), np.nan)
        for pixel in range(lai.shape[1]):
            if np.isfinite(lai[:, pixel]).sum() > 3:
                result[:, pixel] = single(days, lai[:, pixel], targets)
        return {"LAI": result}

    return method


def _linear(days: Floats, lai: Floats, targets: Floats) -> Floats:
    grid, daily = _daily(days, lai, targets)
    return np.interp(targets, grid, daily)


def _savitzky_golay(days: Floats, lai: Floats, targets: Floats) -> Floats:
    grid, daily = _daily(days, lai, targets)
    smooth = savgol_filter(daily, SAVITZKY_GOLAY_DAYS, SAVITZKY_GOLAY_ORDER)
    result: Floats = np.interp(targets, grid, smooth)
    return result


def _whittaker(days: Floats, lai: Floats, targets: Floats) -> Floats:
    grid, _ = _daily(days, lai, targets)
    weight, value = np.zeros(len(grid)), np.zeros(len(grid))
    known = np.isfinite(lai)
    place = (days[known] - grid[0]).astype(int)
    weight[place], value[place] = 1.0, lai[known]
    difference = np.diff(np.eye(3), 2, axis=0)[0]  # 1, -2, 1
    banded = np.zeros((3, len(grid)))
    for i in range(3):
        for j in range(i, 3):
            stop = len(grid) - 2
            banded[j - i, i : i + stop] += WHITTAKER_LAMBDA * difference[i] * difference[j]
    banded[0] += weight
    result: Floats = np.interp(targets, grid, solveh_banded(banded, weight * value, lower=True))
    return result


METHODS: dict[str, Method] = {
    "lai_udf.series": ours,
    "the same without spectra": without_spectra,
    "linear": _each(_linear),
    "Savitzky-Golay": _each(_savitzky_golay),
    "Whittaker": _each(_whittaker),
}
