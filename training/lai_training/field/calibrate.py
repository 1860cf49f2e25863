"""Calibrate a network against field measurements: prediction interval and field correction.

Comes in: pairs of measured LAI and the network's LAI for the measured spectrum. Goes out: the
`calibration` block of `model.json`, which the UDF interpolates:

* ``intervals``: for either target, offsets below and above the estimate, tabulated over LAI, so
  that 95 % of field measurements fall between them (the user's prediction interval);
* ``quantiles``: the same at other levels, for whoever scores or draws a whole distribution;
* ``field_correction``: a bounded linear correction from SL2P's LAI towards field LAI.

The interval is split-conformal: absolute errors of the corrected LAI are divided by a scale that
grows with LAI as the requirement of GCOS does, and a quantile of the ratios is the half-width for
either target: it says where field measurements lie, whichever LAI is shown. The rows of a site-date
share their error, so a site-date weighs as the root of its rows, and the finite-sample correction
counts effective rows. What the interval is worth is measured by leaving out one site-date at a
time.

The correction is a mixed model: a line in LAI, and an error that the rows of a site-date share
(generalised least squares; Pinheiro and Bates 2000, Mixed-Effects Models in S and S-PLUS, ch. 2).
Without the shared error the dates with many rows decide. It fades out towards bare soil, of which
everybody knows that it has no leaves.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from lai_training.field.conformal import (
    Floats,
    Interval,
    bounds,
    effective_rows,
    group_weights,
    weighted_quantile,
)

KNOTS = np.array([0.0, 0.5, 1.0, 2.0, 3.5, 5.0, 6.5, 8.0])
"""LAI at which the interval is tabulated."""
SCALE_FLOOR, SCALE_SLOPE = 0.5, 0.2
"""Shape of the interval over LAI: GCOS asks for 20 %, and 0.5 at least (GCOS-245, ECV LAI). A shape
fitted to 21 site-dates was narrower where the pairs happened to agree and ranked errors worse."""
RIDGE = 4.0
"""Ridge penalty of the standardised slope of the field correction, in effective rows."""
SHARED_VARIANCE = 1.0
"""Variance of the error that a site-date shares, over that of its rows; restricted maximum
likelihood on the development pairs says 1 (of 0.1 to 4), and 4 for the ridge (of 0.5 to 64)."""
FADE_BELOW_LAI = 0.5
"""Below this LAI the correction shrinks in proportion, to nothing at 0."""
CORRECTION_LIMIT = 1.5
"""The corrected LAI never strays farther than this from SL2P."""
TARGETS = ("sl2p", "field")
LEVELS = (0.5, 0.68, 0.9)
"""Levels tabulated beside the 95 % interval."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Field measurements and what the network says at the same place and date."""

    measured_lai: Floats
    """(n,), m2 m-2."""
    estimated_lai: Floats
    """(n,), m2 m-2, of a uniform patch of the measured spectrum."""
    group: NDArray[np.int64]
    """(n,) number of the site-date."""
    outside: NDArray[np.bool_]
    """(n,), the spectrum lies outside SL2P's definition domain: there it is not corrected."""

    def take(self, rows: NDArray[np.bool_]) -> "Pairs":
        """Return the pairs of some rows."""
        return Pairs(**{name: values[rows] for name, values in vars(self).items()})


def scale_at(lai: Floats) -> Floats:
    """Return what an error at this LAI is measured by, m2 m-2."""
    return np.hypot(SCALE_FLOOR, SCALE_SLOPE * np.maximum(lai, 0.0))


def fit_half_width(
    corrected: Floats, measured: Floats, group: NDArray[np.int64], level: float = 0.95
) -> float:
    """Return the half-width of the interval around corrected LAI, in units of `scale_at`."""
    ratio = np.abs(measured - corrected) / scale_at(corrected)
    return weighted_quantile(
        ratio, group_weights(group), level, effective_rows(group, SHARED_VARIANCE)
    )


def tabulate_interval(half_width: float, correction: dict[str, float] | None) -> Interval:
    """Return offsets of the interval from LAI at `KNOTS`: {"lai", "lower", "upper"}.

    Args:
        half_width: of `fit_half_width`.
        correction: for the interval around SL2P's LAI: where field LAI lies from there; None where
            LAI is corrected already.
    """
    change = np.zeros_like(KNOTS) if correction is None else change_at(KNOTS, correction)
    margin = half_width * scale_at(KNOTS + change)
    return {
        "lai": KNOTS.tolist(),
        "lower": [round(float(value), 4) for value in np.minimum(change - margin, 0.0)],
        "upper": [round(float(value), 4) for value in np.maximum(change + margin, 0.0)],
    }


def fit_correction(pairs: Pairs) -> dict[str, float]:
    """Fit the correction of SL2P's LAI towards field LAI, as `model.json` holds it.

    Only pairs inside the definition domain teach it, as only they are corrected.
    """
    pairs = pairs.take(~pairs.outside)
    lai, error = pairs.estimated_lai, pairs.measured_lai - pairs.estimated_lai
    centre, spread = float(lai.mean()), float(lai.std())
    design = _fading(lai)[:, None] * np.column_stack([np.ones_like(lai), (lai - centre) / spread])
    shared = pairs.group[:, None] == pairs.group
    weights = np.linalg.inv(np.eye(lai.size) + SHARED_VARIANCE * shared)
    normal = design.T @ weights @ design + np.diag([0.0, RIDGE])
    level, slope = np.linalg.solve(normal, design.T @ weights @ error)
    return {
        "intercept": round(float(level - slope * centre / spread), 5),
        "lai": round(float(slope / spread), 5),
        "fade_below_lai": FADE_BELOW_LAI,
        "limit": CORRECTION_LIMIT,
    }


def _fading(lai: Floats) -> Floats:
    return np.clip(lai / FADE_BELOW_LAI, 0.0, 1.0)


def change_at(lai: Floats, correction: dict[str, float]) -> Floats:
    """Return how far field LAI lies from SL2P's, (n,); the same arithmetic as in the UDF."""
    change = (correction["intercept"] + correction["lai"] * lai) * _fading(lai)
    return np.clip(change, -correction["limit"], correction["limit"])


def correct(pairs: Pairs, correction: dict[str, float]) -> Floats:
    """Return the corrected LAI, (n,)."""
    change = change_at(pairs.estimated_lai, correction)
    corrected: Floats = pairs.estimated_lai + np.where(pairs.outside, 0.0, change)
    return corrected


def calibrate(pairs: Pairs) -> dict[str, Any]:
    """Fit interval and correction on all pairs; score both with site-dates left out.

    Returns:
        `intervals`, `quantiles`, `field_correction` and scores, ready for `model.json`.
    """
    correction = fit_correction(pairs)
    tables = fit_intervals(pairs, correction)
    return {
        "level": 0.95,
        "method": "split-conformal: absolute errors over a scale that grows with LAI; rows of a "
        "site-date count as fewer",
        "n_pairs": int(pairs.measured_lai.size),
        "n_site_dates": int(np.unique(pairs.group).size),
        "effective_rows": round(effective_rows(pairs.group, SHARED_VARIANCE), 1),
        "intervals": {target: tables[target, 0.95] for target in TARGETS},
        "quantiles": {
            target: {str(level): tables[target, level] for level in LEVELS} for target in TARGETS
        },
        "field_correction": correction,
        "scores_left_out_site_dates": cross_validate(pairs),
    }


def fit_intervals(
    pairs: Pairs, correction: dict[str, float], levels: Sequence[float] = (*LEVELS, 0.95)
) -> dict[tuple[str, float], Interval]:
    """Return the interval of every target and level."""
    centre = pairs.estimated_lai + change_at(pairs.estimated_lai, correction)
    tables = {}
    for level in levels:
        width = fit_half_width(centre, pairs.measured_lai, pairs.group, level)
        tables["sl2p", level] = tabulate_interval(width, correction)
        tables["field", level] = tabulate_interval(width, None)
    return tables


def cross_validate(pairs: Pairs) -> dict[str, dict[str, float]]:
    """Score interval and correction on site-dates that took no part in fitting them."""
    n = pairs.measured_lai.size
    estimates = {target: np.empty(n) for target in TARGETS}
    limits = {(target, level): np.empty((2, n)) for target in TARGETS for level in (*LEVELS, 0.95)}
    for group in np.unique(pairs.group):
        out = pairs.group == group
        rest, held = pairs.take(~out), pairs.take(out)
        correction = fit_correction(rest)
        estimates["sl2p"][out] = held.estimated_lai
        estimates["field"][out] = correct(held, correction)
        for (target, level), table in fit_intervals(rest, correction).items():
            limits[target, level][:, out] = bounds(estimates[target][out], table)
    return {
        target: _score(
            pairs.measured_lai,
            estimates[target],
            {level: limits[target, level] for level in (*LEVELS, 0.95)},
        )
        for target in TARGETS
    }


def _score(measured: Floats, estimated: Floats, limits: dict[float, Floats]) -> dict[str, float]:
    error = estimated - measured
    coverage = {
        level: float(((measured >= lower) & (measured <= upper)).mean())
        for level, (lower, upper) in limits.items()
    }
    lower, upper = limits[0.95]
    rank = stats.spearmanr(upper - lower, np.abs(error)).statistic
    return {
        "rmse": round(float(np.sqrt(np.mean(error**2))), 4),
        "bias": round(float(error.mean()), 4),
        "coverage": round(coverage[0.95], 4),
        "mean_width": round(float((upper - lower).mean()), 4),
        **{f"coverage_{round(100 * level)}": round(coverage[level], 4) for level in LEVELS},
        "rank_width_error": round(float(rank), 4),
    }
