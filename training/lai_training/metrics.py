"""Scores: how far predictions lie from a reference, and how well stated intervals hold.

Arrays in, numbers out. The first group are the paper's scores (Albughdadi et al. 2020, eq. 3-9; its
eq. 6, the mean squared error, is printed without the square and used with it). Pairs in which
either side is NaN are left out; scores of no pairs are NaN. Sums are made in float64.

The reference is SL2P when emulation is scored and the field when accuracy is: callers pass it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Doubles = NDArray[np.float64]

T_TWO_SIDED_95_DF29 = 2.045
"""Student's t of the two-sided 95 % interval from 30 samples; the paper prints 1.699, one-sided."""


@dataclass(frozen=True)
class Scores:
    """Agreement of predictions with a reference, in the unit of the variable where there is one."""

    n: int
    """Pairs scored."""
    bias: float
    """Mean of prediction - reference."""
    rmse: float
    """Root of the mean squared difference."""
    mse: float
    """Mean squared difference."""
    distance: float
    """Average Euclidean distance, for one variable the mean absolute difference."""
    correlation: float
    """Pearson's r."""
    r_squared: float
    """1 - SSE / SST, the paper's R2: negative where the mean of the reference does better."""
    correlation_squared: float
    """r2, blind to bias and slope."""


def score(reference: ArrayLike, predicted: ArrayLike) -> Scores:
    """Score predictions against a reference of the same shape."""
    truth, guess = _finite(reference, predicted)
    n = truth.size
    if n == 0:
        return Scores(0, *(math.nan,) * 7)
    difference = guess - truth
    mse = float(np.mean(difference**2))
    spread_truth, spread_guess = truth - truth.mean(), guess - guess.mean()
    total = float(np.sum(spread_truth**2))
    product = math.sqrt(total * float(np.sum(spread_guess**2)))
    correlation = float(np.sum(spread_truth * spread_guess)) / product if product > 0 else math.nan
    return Scores(
        n=n,
        bias=float(np.mean(difference)),
        rmse=math.sqrt(mse),
        mse=mse,
        distance=float(np.mean(np.abs(difference))),
        correlation=correlation,
        r_squared=1 - n * mse / total if total > 0 else math.nan,
        correlation_squared=correlation**2,
    )


AGREEMENT = {
    "within_0.5_or_20%": (0.5, 0.2),
    "within_gcos_threshold": (0.1, 0.2),
    "within_gcos_goal": (0.05, 0.1),
}
"""Differences of LAI that are allowed, m2 m-2 and relative to the reference, the larger of both: as
the Copernicus Global Land Service asks, and the 2-sigma requirement of GCOS-244 (2022)."""


def agreement_ratios(reference: ArrayLike, predicted: ArrayLike) -> dict[str, float]:
    """Return the share of pairs that agree, by the names of `AGREEMENT`."""
    truth, guess = _finite(reference, predicted)
    return {
        name: _mean(np.abs(guess - truth) <= np.maximum(absolute, relative * np.abs(truth)))
        for name, (absolute, relative) in AGREEMENT.items()
    }


def coverage(reference: ArrayLike, lower: ArrayLike, upper: ArrayLike) -> float:
    """Return the share of references within [lower, upper]."""
    truth, low, high = _finite(reference, lower, upper)
    return _mean((low <= truth) & (truth <= high))


def mean_width(lower: ArrayLike, upper: ArrayLike) -> float:
    """Return the mean width of intervals."""
    low, high = _finite(lower, upper)
    return _mean(high - low)


def rank_correlation(first: ArrayLike, second: ArrayLike) -> float:
    """Return Spearman's rank correlation, such as of interval width with absolute error."""
    a, b = _finite(first, second)
    if a.size < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    from scipy.stats import rankdata  # a second to import, which scores of agreement do without

    return score(rankdata(a), rankdata(b)).correlation


def crps_quantiles(reference: ArrayLike, quantiles: Mapping[float, ArrayLike]) -> float:
    """Return the mean CRPS of predictions that are known by their quantiles.

    CRPS is twice the integral over p in (0, 1) of the pinball loss of quantile p (Laio and Tamea
    2007); the integral is a trapezoid over the given probabilities, the outer ones held to 0 and
    1. With 39 even probabilities a normal prediction is scored within 1 % of its exact CRPS.

    Args:
        reference: shape (n,).
        quantiles: probability in (0, 1) -> predicted quantile, shape (n,).
    """
    probabilities = sorted(quantiles)
    truth, *rest = _finite(reference, *(quantiles[p] for p in probabilities))
    losses = [pinball_loss(truth, q, p) for p, q in zip(probabilities, rest, strict=True)]
    edges = [0.0, *probabilities, 1.0]
    return 2 * float(np.trapezoid([losses[0], *losses, losses[-1]], edges))


def pinball_loss(reference: ArrayLike, quantile: ArrayLike, probability: float) -> float:
    """Return the mean pinball loss of one predicted quantile."""
    truth, guess = _finite(reference, quantile)
    excess = truth - guess
    return _mean(np.maximum(probability * excess, (probability - 1) * excess))


def half_width_of_mean(
    sd: ArrayLike, samples: int, t: float = T_TWO_SIDED_95_DF29
) -> NDArray[np.floating[Any]]:
    """Return t sd / sqrt(samples), the paper's interval of the Monte-Carlo mean.

    It bounds the mean of `samples` draws, not the distance to the truth; the
    default `t` belongs to 30 samples.
    """
    return np.asarray(sd) * (t / math.sqrt(samples))


def _mean(values: NDArray[Any]) -> float:
    return float(np.mean(values)) if values.size else math.nan


def _finite(*arrays: ArrayLike) -> list[Doubles]:
    """Return the arrays flat, in float64, without the places where one of them is NaN."""
    flat = [np.asarray(array, dtype=np.float64).ravel() for array in arrays]
    if len({array.size for array in flat}) > 1:
        raise ValueError(f"arrays of one size are needed; got {[array.size for array in flat]}")
    keep = ~np.any([np.isnan(array) for array in flat], axis=0)
    return [array[keep] for array in flat]
