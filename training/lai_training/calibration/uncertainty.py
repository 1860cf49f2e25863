"""What stated uncertainties are worth: coverage, width, CRPS, and whether they rank errors.

Input: measured LAI and predictions with quantiles. Output: scores by name.

Nothing is scored that a prediction does not state: a level of which the quantiles are not there, or
CRPS from a handful of quantiles (two of them give a number that looks like CRPS and is none).
"""

import math

import numpy as np
from numpy.typing import NDArray

from lai_training.calibration.pairs import Prediction
from lai_training.scores import metrics

Doubles = NDArray[np.float64]

LEVELS = (0.50, 0.68, 0.90, 0.95)
"""Nominal levels of the central intervals that are scored."""

WIDEST_GAP = 0.06
"""Quantiles farther apart in probability are neither interpolated nor integrated over."""


def score_uncertainty(truth: Doubles, prediction: Prediction) -> dict[str, float]:
    """Score a prediction's central intervals and its distribution.

    Returns:
        Per level of `LEVELS` that the quantiles give: coverage and mean width; Spearman's rank
        correlation of the width of the widest of them with the absolute error; CRPS, NaN where
        the quantiles are too far apart.
    """
    scores: dict[str, float] = {}
    error = np.abs(prediction.lai - truth)
    ranks = math.nan
    for level in LEVELS:
        interval = central_interval(prediction, level)
        if interval is None:
            continue
        lower, upper = interval
        scores[f"coverage_{level:.0%}"] = metrics.coverage(truth, lower, upper)
        scores[f"width_{level:.0%}"] = metrics.mean_width(lower, upper)
        ranks = metrics.rank_correlation(upper - lower, error)
    return scores | {"crps": score_distribution(truth, prediction), "rank_correlation": ranks}


def score_distribution(truth: Doubles, prediction: Prediction) -> float:
    """Return the mean CRPS; NaN where the quantiles are too few for a distribution."""
    if not prediction.quantiles or max(_gaps(prediction)) > WIDEST_GAP:
        return math.nan
    return metrics.crps_quantiles(truth, prediction.quantiles)


def central_interval(prediction: Prediction, level: float) -> tuple[Doubles, Doubles] | None:
    """Return the bounds of a central interval, interpolated between near neighbours.

    None where the quantiles do not reach as far out as the level, or are too far apart there.
    """
    known = np.array(sorted(prediction.quantiles))
    bounds = [_interpolate(prediction, known, p) for p in ((1 - level) / 2, (1 + level) / 2)]
    if bounds[0] is None or bounds[1] is None:
        return None
    return bounds[0], bounds[1]


def _interpolate(prediction: Prediction, known: Doubles, p: float) -> Doubles | None:
    """Return the quantile of probability p, shape (n,), where its neighbours are near."""
    if known.size == 0:
        return None
    nearest = known[np.argmin(np.abs(known - p))]
    if abs(nearest - p) < 1e-9:
        return prediction.quantiles[nearest]
    above = int(np.searchsorted(known, p))
    if above in (0, known.size) or known[above] - known[above - 1] > WIDEST_GAP:
        return None
    low, high = known[above - 1], known[above]
    weight = (p - low) / (high - low)
    return np.asarray(
        prediction.quantiles[low] * (1 - weight) + prediction.quantiles[high] * weight
    )


def _gaps(prediction: Prediction) -> Doubles:
    """Return the distances between neighbouring probabilities, from 0 to 1."""
    return np.diff([0.0, *sorted(prediction.quantiles), 1.0])
