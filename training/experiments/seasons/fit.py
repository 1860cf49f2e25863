"""A conformal interval of parcel means, fitted on parcels whose LAI is known.

Its shape over LAI and its sides are the data's, which takes hundreds of parcels; the dates of a
parcel share a part of their error and weigh as the square root of their number.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lai_training.calibration.width import group_weights, weighted_quantile
from lai_training.errors import LaiTrainingError

Floats = NDArray[np.float64]

KNOTS = np.array([0.0, 1.0, 2.0, 3.5, 5.0, 8.0])
"""LAI at which the scale is fitted."""
SCALE_PRIOR = 12.0
"""Rows' worth of trust in the overall error where a stretch of LAI holds few pairs."""


@dataclass(frozen=True)
class ParcelCalibration:
    """Offsets of the 95 % interval of a parcel mean, tabulated over LAI."""

    level: float
    """Nominal coverage."""
    lai: list[float]
    """Knots, m2 m-2."""
    lower: list[float]
    """Offset of the lower end at each knot, not above 0, m2 m-2."""
    upper: list[float]
    """Offset of the upper end at each knot, not below 0, m2 m-2."""
    parcels: int
    """Parcels it was fitted on."""
    data: str
    """Where their LAI is known from."""

    def interval(self, lai: Floats) -> tuple[Floats, Floats]:
        """Return (lower, upper) for parcel means (n,), m2 m-2; NaN where LAI is NaN."""
        lower, upper = (np.interp(lai, self.lai, offsets) for offsets in (self.lower, self.upper))
        return np.maximum(lai + lower, 0.0), lai + upper


def fit_calibration(
    observations: pd.DataFrame, data: str, *, level: float = 0.95
) -> ParcelCalibration:
    """Fit the interval of the parcel mean on parcels whose LAI is known.

    Args:
        observations: columns `parcel`, `lai`, `truth`; rows without either are left out. The dates
            of a parcel share their errors and weigh as the square root of their number.
        data: where the truth is from.
        level: nominal coverage.
    """
    known = observations.dropna(subset=["lai", "truth"])
    if known["parcel"].nunique() < 40:
        raise LaiTrainingError(
            f"{known['parcel'].nunique()} parcels with known LAI are too few: 40 are needed"
        )
    group = pd.factorize(known["parcel"])[0]
    table = fit_interval(known["lai"].to_numpy(), known["truth"].to_numpy(), group, level)
    return ParcelCalibration(level, **table, parcels=int(known["parcel"].nunique()), data=data)


def fit_scale(estimated: Floats, error: Floats, weights: Floats) -> Floats:
    """Return the mean absolute error at `KNOTS`, drawn towards the overall one.

    A kernel mean over LAI (triangles between the knots), with `SCALE_PRIOR` rows of the overall
    error added, so that thin stretches borrow instead of guess.
    """
    overall = np.average(np.abs(error), weights=weights)
    hats = np.stack(
        [np.interp(estimated, KNOTS, np.eye(len(KNOTS))[knot]) for knot in range(len(KNOTS))]
    )
    share = hats * weights
    return np.asarray(
        (share @ np.abs(error) + SCALE_PRIOR * overall) / (share.sum(axis=1) + SCALE_PRIOR)
    )


def fit_interval(
    estimated: Floats, measured: Floats, group: NDArray[np.int64], level: float = 0.95
) -> dict[str, list[float]]:
    """Fit an interval whose shape over LAI and whose sides the data decide.

    It takes hundreds of clusters; where there are few, a shape is better assumed.

    Args:
        estimated: (n,) LAI, m2 m-2.
        measured: (n,) what it should be.
        group: (n,) number of the cluster of each row.
        level: nominal coverage.

    Returns:
        Offsets of the interval from LAI at `KNOTS`.
    """
    weights = group_weights(group)
    error = measured - estimated
    scale = fit_scale(estimated, error, weights)
    ratio = error / np.interp(estimated, KNOTS, scale)
    tail, rows = (1 - level) / 2, float(measured.size)
    upper = weighted_quantile(ratio, weights, 1 - tail, rows)
    lower = -weighted_quantile(-ratio, weights, 1 - tail, rows)
    return {
        "lai": KNOTS.tolist(),
        "lower": [round(float(value), 4) for value in scale * min(lower, 0.0)],
        "upper": [round(float(value), 4) for value in scale * max(upper, 0.0)],
    }
