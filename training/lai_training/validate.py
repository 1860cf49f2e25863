"""Accuracy against field truth: tables of scores by subset, with a bootstrap by site-date.

Comes in: field pairs (`pairs.read_pairs`) and named predictors. Goes out: long tables (one row per
predictor and subset), which `cli` prints and writes. Rows of one site and date share weather,
observer and image, so resampling draws whole site-dates.
"""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lai_training import metrics
from lai_training.pairs import Prediction, Predictor

LAI_BINS = (0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, math.inf)
"""Edges of the bins of measured LAI, m2 m-2, lower edge included."""

LEVELS = (0.50, 0.68, 0.90, 0.95)
"""Nominal levels of the central intervals that are scored."""

SMALLEST_CROP = 5
"""Crops with fewer pairs are pooled."""

_SCORES = ("bias", "rmse", "r2")


@dataclass(frozen=True)
class Validation:
    """Everything that was scored, as tables."""

    accuracy: pd.DataFrame
    """Per predictor over all pairs: scores, agreement ratios, bootstrap limits."""
    uncertainty: pd.DataFrame
    """Per predictor that states an uncertainty: coverage, width, CRPS, rank correlation."""
    subsets: pd.DataFrame
    """Per predictor and LAI bin, source, site and crop: n, bias, RMSE, r2, agreement."""
    predictions: pd.DataFrame
    """One row per pair: site-date, measured LAI and each predictor's LAI."""


def validate(
    pairs: pd.DataFrame,
    predictors: Mapping[str, Predictor],
    *,
    rng: np.random.Generator,
    replicates: int = 2000,
) -> Validation:
    """Score predictors on field pairs.

    Args:
        pairs: scored rows as `pairs.read_pairs` returns them.
        predictors: name -> predictor; a network joins SL2P by being added here.
        rng: draws the site-dates of the bootstrap; every predictor meets the same draws.
        replicates: number of bootstrap draws.

    Returns:
        The tables of `Validation`.
    """
    truth = pairs["lai"].to_numpy(dtype=np.float64)
    predictions = {name: predict(pairs) for name, predict in predictors.items()}
    counts, clusters = _draw_clusters(pairs["site_date"], rng, replicates)
    accuracy, uncertainty = [], []
    for name, prediction in predictions.items():
        limits = bootstrap_limits(truth, prediction.lai, clusters, counts)
        accuracy.append({"predictor": name, **_score_all(truth, prediction.lai), **limits})
        if prediction.quantiles:
            uncertainty.append({"predictor": name, **score_uncertainty(truth, prediction)})
    subsets = [
        {"by": by, "subset": subset, "predictor": name}
        | _score_subset(truth[rows], prediction.lai[rows])
        for by, subset, rows in _split(pairs)
        for name, prediction in predictions.items()
    ]
    table = pairs[["source", "site", "site_date", "crop", "lai"]].assign(
        **{name: prediction.lai for name, prediction in predictions.items()}
    )
    return Validation(
        pd.DataFrame(accuracy), pd.DataFrame(uncertainty), pd.DataFrame(subsets), table
    )


def score_uncertainty(truth: NDArray[np.float64], prediction: Prediction) -> dict[str, float]:
    """Score a prediction's central intervals and its distribution.

    Returns:
        Per level of `LEVELS` whose quantiles are given: coverage and mean width; CRPS; Spearman's
        rank correlation of the width of the widest of them with the absolute error.
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
    crps = metrics.crps_quantiles(truth, prediction.quantiles)
    return scores | {"crps": crps, "rank_correlation": ranks}


def central_interval(
    prediction: Prediction, level: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return the bounds of a central interval, interpolated between neighbouring quantiles.

    None where the quantiles do not reach as far out as the level.
    """
    known = np.array(sorted(prediction.quantiles))
    wanted = ((1 - level) / 2, (1 + level) / 2)
    if known.size == 0 or wanted[0] < known[0] - 1e-9 or wanted[1] > known[-1] + 1e-9:
        return None
    values = np.stack([prediction.quantiles[p] for p in known])
    lower, upper = (_interpolate(known, values, p) for p in wanted)
    return lower, upper


def _interpolate(
    known: NDArray[np.float64], values: NDArray[np.float64], p: float
) -> NDArray[np.float64]:
    above = min(max(int(np.searchsorted(known, p - 1e-9)), 1), known.size - 1)
    weight = np.clip((p - known[above - 1]) / (known[above] - known[above - 1]), 0, 1)
    return np.asarray(values[above - 1] * (1 - weight) + values[above] * weight)


def _score_all(truth: NDArray[np.float64], lai: NDArray[np.float64]) -> dict[str, float]:
    scores = metrics.score(truth, lai)
    return {
        "n": scores.n,
        "rmse": scores.rmse,
        "bias": scores.bias,
        "r2": scores.correlation_squared,
        "R2": scores.r_squared,
        "within_0.5_or_20%": metrics.agreement_ratio(truth, lai),
        "within_gcos_threshold": metrics.gcos_agreement_ratio(truth, lai),
        "within_gcos_goal": metrics.gcos_agreement_ratio(truth, lai, level="goal"),
    }


def _score_subset(truth: NDArray[np.float64], lai: NDArray[np.float64]) -> dict[str, float]:
    scores = _score_all(truth, lai)
    return {key: scores[key] for key in ("n", "rmse", "bias", "r2", "within_0.5_or_20%")}


def _split(pairs: pd.DataFrame) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    """Yield (criterion, subset, rows) for LAI bins, sources, sites and crops."""
    lai = pairs["lai"].to_numpy()
    for low, high in itertools.pairwise(LAI_BINS):
        rows = (low <= lai) & (lai < high)
        if rows.any():
            yield "LAI", f"{low:g}-{high:g}" if high < math.inf else f">= {low:g}", rows
    crops = pairs["crop"].fillna("unknown").astype(str).str.casefold()
    rare = crops.map(crops.value_counts()) < SMALLEST_CROP
    labels = {"source": pairs["source"], "site": pairs["site"], "crop": crops.mask(rare, "others")}
    for by, names in labels.items():
        for subset in sorted(names.unique()):
            yield by, str(subset), (names == subset).to_numpy()


def _draw_clusters(
    names: "pd.Series[str]", rng: np.random.Generator, replicates: int
) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """Draw site-dates with replacement.

    Returns:
        How often each cluster is drawn, shape (replicates, clusters), and the cluster number of
        each row, shape (n,).
    """
    clusters, distinct = pd.factorize(names)
    number = len(distinct)
    counts = rng.multinomial(number, np.full(number, 1 / number), size=replicates)
    return counts, clusters


def bootstrap_limits(
    truth: NDArray[np.float64],
    lai: NDArray[np.float64],
    clusters: NDArray[np.intp],
    counts: NDArray[np.int64],
) -> dict[str, float]:
    """Return the 2.5 and 97.5 percentiles of bias, RMSE and r2 over draws of whole clusters.

    Scores of a draw follow from sums per cluster, so no row is copied.

    Args:
        truth: measured LAI, shape (n,).
        lai: predicted LAI, shape (n,).
        clusters: cluster number of each row, shape (n,).
        counts: how often each draw holds each cluster, shape (draws, clusters).
    """
    error = lai - truth
    moments = np.stack(
        [np.ones_like(truth), error, error**2, truth, truth**2, lai, lai**2, truth * lai]
    )
    known = np.isfinite(error)
    sums = np.stack(
        [
            np.bincount(clusters[known], weights=row[known], minlength=counts.shape[1])
            for row in moments
        ]
    )
    n, e, e2, t, t2, p, p2, tp = sums @ counts.T
    with np.errstate(invalid="ignore", divide="ignore"):  # a draw of one cluster of one row
        covariance = tp / n - t * p / n**2
        variances = (t2 / n - (t / n) ** 2) * (p2 / n - (p / n) ** 2)
        draws = {"bias": e / n, "rmse": np.sqrt(e2 / n), "r2": covariance**2 / variances}
    limits: dict[str, float] = {}
    for name in _SCORES:
        low, high = np.nanpercentile(draws[name], [2.5, 97.5])
        limits |= {f"{name}_low": float(low), f"{name}_high": float(high)}
    return limits
