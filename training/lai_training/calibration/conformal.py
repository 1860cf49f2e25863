"""Conformal intervals of LAI from rows that come in clusters.

Errors are divided by a scale, and quantiles of the ratios, with a correction for their number, are
the interval. Rows of one cluster (a site and date, a parcel) share a part of their error: they
weigh less, and count as fewer.

Source: Romano, Patterson, Candès 2019, Conformalized Quantile Regression; Barber et al. 2023,
Conformal Prediction Beyond Exchangeability (weights).
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Interval = dict[str, list[float]]
"""Offsets from LAI (`lower`, `upper`) at the LAI of `lai`."""

KNOTS = np.array([0.0, 1.0, 2.0, 3.5, 5.0, 8.0])
"""LAI at which the scale is fitted."""
SCALE_PRIOR = 12.0
"""Rows' worth of trust in the overall error where a stretch of LAI holds few pairs."""


def group_weights(group: NDArray[np.int64]) -> Floats:
    """Weigh rows so that a site-date counts as the square root of its rows; mean 1."""
    _, place, count = np.unique(group, return_inverse=True, return_counts=True)
    weights = 1.0 / np.sqrt(count[place])
    return np.asarray(weights / weights.mean())


def effective_rows(group: NDArray[np.int64], shared_variance: float) -> float:
    """Return how many independent errors the rows hold.

    Args:
        group: (n,) number of the cluster whose rows share a part of their error.
        shared_variance: variance of that part over the variance of the rest.
    """
    rows = np.unique(group, return_counts=True)[1]
    correlation = shared_variance / (1 + shared_variance)
    return float((rows / (1 + (rows - 1) * correlation)).sum())


def weighted_quantile(values: Floats, weights: Floats, level: float, rows: float) -> float:
    """Return the conformal quantile: the least value with weight share >= level (n + 1) / n.

    Args:
        values: (n,).
        weights: (n,), any scale.
        level: of the quantile.
        rows: effective n of the finite-sample correction.
    """
    order = np.argsort(values)
    share = np.cumsum(weights[order]) / weights.sum() / (1 + 1 / rows)
    place = int(np.searchsorted(share, level))
    return float(values[order][min(place, len(values) - 1)])


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
) -> Interval:
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


def bounds(estimated: Floats, interval: Interval) -> tuple[Floats, Floats]:
    """Return (lower, upper) of the interval, (n,) each; LAI is never negative."""
    lower = estimated + np.interp(estimated, interval["lai"], interval["lower"])
    upper = estimated + np.interp(estimated, interval["lai"], interval["upper"])
    return np.maximum(lower, 0.0), upper
