"""Calibrate a network against field measurements: prediction interval and field correction.

Comes in: pairs of measured LAI and the network's LAI for the measured spectrum. Goes out: the
`calibration` block of `model.json`, which the UDF interpolates:

* ``intervals``: for either target, offsets below and above the estimate, tabulated over LAI, so
  that 95 % of field measurements fall between them (the user's prediction interval);
* ``field_correction``: a bounded linear correction from SL2P's LAI towards field LAI.

The interval is split-conformal with a scale that depends on LAI: errors are divided by a
piecewise-linear scale, the quantiles of the ratios are taken per side with the finite-sample
correction, and the site-dates (clusters of rows that share their errors) weigh the same. What it
is worth is measured by leaving out one site-date at a time.

Source: Romano, Patterson, Candès 2019, Conformalized Quantile Regression; Barber et al. 2023,
Conformal Prediction Beyond Exchangeability (weights).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

KNOTS = np.array([0.0, 1.0, 2.0, 3.5, 5.0, 8.0])
"""LAI at which the interval is tabulated."""
SCALE_PRIOR = 12.0
"""Rows' worth of trust in the overall error where a stretch of LAI holds few pairs."""
RIDGE = 4.0
"""Ridge penalty per standardised feature of the field correction, in effective rows."""
CORRECTION_LIMIT = 1.5
"""The corrected LAI never strays farther than this from SL2P."""
CORRECTION_BANDS: tuple[str, ...] = ()
"""Bands beside LAI in the field correction. None: on left-out site-dates of 173 field pairs, LAI
alone gives RMSE 1.03 (SL2P 1.09), with B05, B07 and B11 1.08; 21 site-dates carry no more."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Field measurements and what the network says at the same place and date."""

    measured_lai: Floats
    """(n,), m2 m-2."""
    estimated_lai: Floats
    """(n,), m2 m-2, of a uniform patch of the measured spectrum."""
    bands: Floats
    """(n, len(CORRECTION_BANDS)) reflectance."""
    group: NDArray[np.int64]
    """(n,) number of the site-date."""
    outside: NDArray[np.bool_]
    """(n,), the spectrum lies outside SL2P's definition domain: there it is not corrected."""

    def take(self, rows: NDArray[np.bool_]) -> "Pairs":
        """Return the pairs of some rows."""
        return Pairs(**{name: values[rows] for name, values in vars(self).items()})


def group_weights(group: NDArray[np.int64]) -> Floats:
    """Weigh rows so that a site-date counts as the square root of its rows; mean 1."""
    _, place, count = np.unique(group, return_inverse=True, return_counts=True)
    weights = 1.0 / np.sqrt(count[place])
    return np.asarray(weights / weights.mean())


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


def weighted_quantile(values: Floats, weights: Floats, level: float) -> float:
    """Return the conformal quantile: the least value with weight share >= level (n + 1) / n."""
    order = np.argsort(values)
    share = np.cumsum(weights[order]) / (weights.sum() + weights.mean())
    place = int(np.searchsorted(share, level))
    return float(values[order][min(place, len(values) - 1)])


def fit_interval(
    estimated: Floats, measured: Floats, group: NDArray[np.int64], level: float = 0.95
) -> dict[str, list[float]]:
    """Return offsets of the interval at `KNOTS`: {"lai", "lower", "upper"}."""
    weights = group_weights(group)
    error = measured - estimated
    scale = fit_scale(estimated, error, weights)
    ratio = error / np.interp(estimated, KNOTS, scale)
    tail = (1 - level) / 2
    upper = weighted_quantile(ratio, weights, 1 - tail)
    lower = -weighted_quantile(-ratio, weights, 1 - tail)
    return {
        "lai": KNOTS.tolist(),
        "lower": [round(float(value), 4) for value in scale * min(lower, 0.0)],
        "upper": [round(float(value), 4) for value in scale * max(upper, 0.0)],
    }


def fit_correction(pairs: Pairs) -> dict[str, Any]:
    """Fit the ridge correction of SL2P's LAI towards field LAI, as `model.json` holds it.

    Only pairs inside the definition domain teach it, as only they are corrected.
    """
    pairs = pairs.take(~pairs.outside)
    features = np.column_stack([pairs.estimated_lai, pairs.bands])
    centre, spread = features.mean(axis=0), features.std(axis=0)
    standard = (features - centre) / spread
    weights = group_weights(pairs.group)
    error = pairs.measured_lai - pairs.estimated_lai
    mean = np.average(error, weights=weights)
    normal = (standard.T * weights) @ standard + RIDGE * np.eye(standard.shape[1])
    slope = np.linalg.solve(normal, (standard.T * weights) @ (error - mean)) / spread
    return {
        "intercept": round(float(mean - slope @ centre), 5),
        "lai": round(float(slope[0]), 5),
        "bands": {
            band: round(float(value), 5)
            for band, value in zip(CORRECTION_BANDS, slope[1:], strict=True)
        },
        "limit": CORRECTION_LIMIT,
    }


def correct(pairs: Pairs, correction: dict[str, Any]) -> Floats:
    """Return the corrected LAI, (n,); the same arithmetic as in the UDF."""
    weights = np.array([correction["bands"][band] for band in CORRECTION_BANDS])
    change = correction["intercept"] + correction["lai"] * pairs.estimated_lai
    change = change + pairs.bands @ weights
    change = np.clip(change, -correction["limit"], correction["limit"])
    corrected: Floats = pairs.estimated_lai + np.where(pairs.outside, 0.0, change)
    return corrected


def bounds(estimated: Floats, interval: dict[str, list[float]]) -> tuple[Floats, Floats]:
    """Return (lower, upper) of the interval, (n,) each; LAI is never negative."""
    lower = estimated + np.interp(estimated, interval["lai"], interval["lower"])
    upper = estimated + np.interp(estimated, interval["lai"], interval["upper"])
    return np.maximum(lower, 0.0), upper


def calibrate(pairs: Pairs) -> dict[str, Any]:
    """Fit interval and correction on all pairs; score both with site-dates left out.

    Returns:
        `intervals`, `field_correction` and `scores`, ready for `model.json`.
    """
    left_out = cross_validate(pairs)
    correction = fit_correction(pairs)
    corrected = correct(pairs, correction)
    return {
        "level": 0.95,
        "method": "split-conformal, scale by LAI, site-dates weighted; see lai_training.calibrate",
        "n_pairs": int(pairs.measured_lai.size),
        "n_site_dates": int(np.unique(pairs.group).size),
        "intervals": {
            "sl2p": fit_interval(pairs.estimated_lai, pairs.measured_lai, pairs.group),
            "field": fit_interval(corrected, pairs.measured_lai, pairs.group),
        },
        "field_correction": correction,
        "scores_left_out_site_dates": left_out,
    }


def cross_validate(pairs: Pairs) -> dict[str, dict[str, float]]:
    """Score interval and correction on site-dates that took no part in fitting them."""
    n = pairs.measured_lai.size
    corrected, lower, upper = np.empty(n), np.empty((2, n)), np.empty((2, n))
    for group in np.unique(pairs.group):
        out = pairs.group == group
        rest = pairs.take(~out)
        correction = fit_correction(rest)
        corrected[out] = correct(pairs.take(out), correction)
        for row, (fitted, held) in enumerate(
            (
                (rest.estimated_lai, pairs.estimated_lai[out]),
                (correct(rest, correction), corrected[out]),
            )
        ):
            interval = fit_interval(fitted, rest.measured_lai, rest.group)
            lower[row, out], upper[row, out] = bounds(held, interval)
    return {
        target: _score(pairs.measured_lai, estimate, lower[row], upper[row])
        for row, (target, estimate) in enumerate(
            (("sl2p", pairs.estimated_lai), ("field", corrected))
        )
    }


def _score(measured: Floats, estimated: Floats, lower: Floats, upper: Floats) -> dict[str, float]:
    error = estimated - measured
    inside = (measured >= lower) & (measured <= upper)
    return {
        "rmse": round(float(np.sqrt(np.mean(error**2))), 4),
        "bias": round(float(error.mean()), 4),
        "coverage": round(float(inside.mean()), 4),
        "mean_width": round(float((upper - lower).mean()), 4),
    }
