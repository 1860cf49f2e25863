"""How far a field measurement lies from the corrected value: a scale, and quantiles in units of it.

Input: corrected values whose site-date (or region) took no part in fitting them, and what was
measured. Output: the `scale` and `half_widths` blocks of `model.json`.

The logarithm of the scale is linear in a few features that the UDF has, fitted by maximum
likelihood with a ridge; sources may differ in level, not in shape. The half-widths are conformal:
weighted quantiles of |error| / scale. The rows of a site-date share a part of their error, so a
site-date weighs as the root of its rows, and the finite-sample correction counts effective rows.

Sources: Romano, Patterson, Candès 2019, Conformalized Quantile Regression; Barber et al. 2023,
Conformal Prediction Beyond Exchangeability (weights).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from lai_training.calibration.measurements import Floats, Texts

LEVELS = (0.5, 0.55, 0.6, 0.65, 0.68, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95)
"""Levels that are tabulated; between them the UDF interpolates."""
RIDGE = 10.0
"""Penalty of the squared standardised weights, in rows."""
NARROWEST = 0.05
"""Quantiles of the fit between which a feature is taken as it is, and bounded beyond."""


def fit_scale(
    features: Mapping[str, Floats], error: Floats, group: Texts, source: Texts
) -> dict[str, Any]:
    """Fit the scale of the error; the level is that of the first source in the rows.

    `features` are named as in `lai_udf.predict.work_out_scale`, (n,) each; `error` is
    measured minus centre; rows of a `group` share a part of their error. Returns `constant` and
    `terms` (name -> `weight`, `range`) of the logarithm of the scale.
    """
    names = list(features)
    first = source == source[0]
    ranges = [np.quantile(features[name][first], [NARROWEST, 1 - NARROWEST]) for name in names]
    parts = [np.clip(features[name], *ends) for name, ends in zip(names, ranges, strict=True)]
    bounded = np.column_stack([np.ones(error.size), *parts])
    centre, spread = bounded.mean(axis=0), bounded.std(axis=0)
    centre[0], spread[0] = 0.0, 1.0
    spread = np.where(spread > 1e-6, spread, np.inf)  # what does not vary explains nothing
    design = (bounded - centre) / spread
    others = [name for name in np.unique(source) if name != source[0]]
    design = np.column_stack([design, *((source == name) * 1.0 for name in others)])
    penalty = np.array([0.0] + [RIDGE] * len(names) + [0.0] * len(others))
    weights = group_weights(np.unique(group, return_inverse=True)[1])

    def loss(parameters: Floats) -> tuple[float, Floats]:
        log_scale = design @ parameters
        ratio = error**2 * np.exp(-2 * log_scale)
        value = weights @ (log_scale + ratio / 2) + penalty @ parameters**2 / 2
        return float(value), design.T @ (weights * (1 - ratio)) + penalty * parameters

    start = np.zeros(design.shape[1])
    start[0] = np.log(np.sqrt(np.mean(error[first] ** 2)))
    # Bounds that only a handful of rows can reach: there a weight could grow without end.
    bounds = (
        [(start[0] - 2, start[0] + 2)] + [(-1.0, 1.0)] * len(names) + [(-3.0, 3.0)] * len(others)
    )
    optimum = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    slopes = optimum[1 : len(names) + 1] / spread[1:]
    return {
        "constant": round(float(optimum[0] - slopes @ centre[1:]), 5),
        "terms": {
            name: {
                "weight": round(float(slope), 5),
                "range": [round(float(end), 5) for end in limits],
            }
            for name, slope, limits in zip(names, slopes, ranges, strict=True)
        },
    }


def fit_half_widths(
    ratio: Floats,
    group: Texts,
    shared: float,
    levels: Sequence[float] = LEVELS,
    *,
    few: bool = True,
) -> list[float]:
    """Return the half-widths of the levels in units of the scale.

    `ratio`, (n,), is |error| / scale of rows that took no part in fitting either; rows of a `group`
    have the part `shared` of their error's variance in common. `few`: whether the quantiles are
    raised because the rows are few.
    """
    number = np.unique(group, return_inverse=True)[1]
    rows = effective_rows(number, shared) if few else np.inf
    weights = group_weights(number)
    return [round(weighted_quantile(ratio, weights, level, rows), 4) for level in levels]


def share_of_groups(ratio: Floats, group: Texts) -> float:
    """Return the share of the variance of signed errors that a group shares, 0.05 to 0.9.

    One-way analysis of variance with unequal groups.
    """
    _, number, count = np.unique(group, return_inverse=True, return_counts=True)
    several = count > 1
    if several.sum() < 2:
        return 0.5
    means = np.bincount(number, weights=ratio) / count
    within = float(((ratio - means[number]) ** 2).sum() / (count - 1).sum())
    total = float(count.sum())
    size = (total - (count**2).sum() / total) / (count.size - 1)
    between = float((count * (means - ratio.mean()) ** 2).sum() / (count.size - 1))
    shared = max((between - within) / size, 0.0)
    return float(np.clip(shared / (shared + within), 0.05, 0.9))


def group_weights(group: NDArray[np.int64]) -> Floats:
    """Weigh rows so that a site-date counts as the square root of its rows; mean 1."""
    _, place, count = np.unique(group, return_inverse=True, return_counts=True)
    weights = 1.0 / np.sqrt(count[place])
    return np.asarray(weights / weights.mean())


def effective_rows(group: NDArray[np.int64], shared: float) -> float:
    """Return how many independent errors the rows hold, of which a group shares a part, 0-1."""
    rows = np.unique(group, return_counts=True)[1]
    return float((rows / (1 + (rows - 1) * shared)).sum())


def weighted_quantile(values: Floats, weights: Floats, level: float, rows: float) -> float:
    """Return the conformal quantile: the least value with weight share >= level (n + 1) / n.

    Weights, (n,), may have any scale; `rows` is the effective n of the finite-sample correction.
    """
    order = np.argsort(values)
    share = np.cumsum(weights[order]) / weights.sum() / (1 + 1 / rows)
    place = int(np.searchsorted(share, level))
    return float(values[order][min(place, len(values) - 1)])
