"""Accuracy against field truth: tables of scores by subset, with a bootstrap by site-date.

Input: field pairs (`pairs.read_pairs`) and named predictors. Output: long tables (one row per
predictor and subset), which `cli` prints and writes. Rows of one site and date share weather,
observer and image, so resampling draws whole site-dates.
"""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lai_training.calibration.measurements import name_regions
from lai_training.calibration.pairs import Prediction, Predictor
from lai_training.calibration.uncertainty import (
    central_interval,
    score_distribution,
    score_uncertainty,
)
from lai_training.scores import metrics

LAI_BINS = (0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, math.inf)
"""Edges of the bins of measured LAI, m2 m-2, lower edge included."""

CURVE = tuple(round(0.05 * step, 2) for step in range(1, 20))
"""Nominal levels of the reliability curve, 5 to 95 %."""

RANK_DRAWS = 500
"""Of the bootstrap that rank correlations are taken of: they are slow."""

SMALLEST_CROP = 5
"""Crops with fewer pairs are pooled."""

_SCORES = ("bias", "rmse", "r2")


@dataclass(frozen=True)
class Validation:
    """Everything that was scored, as tables."""

    accuracy: pd.DataFrame
    """Per predictor over all pairs: scores, agreement ratios, bootstrap limits."""
    uncertainty: pd.DataFrame
    """Per predictor that states an uncertainty: coverage, width, CRPS, rank correlation, bootstrap
    limits, and what the uncertainty rests on (`note`)."""
    reliability: pd.DataFrame
    """Per predictor that states an uncertainty and level of `CURVE`: coverage."""
    subsets: pd.DataFrame
    """Per predictor and LAI bin, source, site and crop: n, bias, RMSE, r2, agreement; coverage and
    width of the 95 % interval and CRPS, NaN where none is stated."""
    predictions: pd.DataFrame
    """One row per pair: site-date, measured LAI and each predictor's LAI."""
    worth: pd.DataFrame = field(default_factory=pd.DataFrame)
    """What the calibration is worth (`worth.describe_worth`); empty where it was not requested."""
    floor: str = ""
    """What no estimate from these spectra can beat (`worth.measure_floor`)."""


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
    accuracy, uncertainty, reliability = [], [], []
    for name, prediction in predictions.items():
        limits = bootstrap_limits(truth, prediction.lai, clusters, counts)
        accuracy.append({"predictor": name, **_score_all(truth, prediction.lai), **limits})
        if prediction.quantiles:
            scores = score_uncertainty(truth, prediction)
            scores |= bootstrap_uncertainty(truth, prediction, clusters, counts)
            uncertainty.append({"predictor": name, **scores, "note": prediction.note})
            reliability += [{"predictor": name, **row} for row in _trace(truth, prediction)]
    subsets = [
        {"by": by, "subset": subset, "predictor": name}
        | _score_subset(truth[rows], _take(prediction, rows))
        for by, subset, rows in _split(pairs)
        for name, prediction in predictions.items()
    ]
    subsets += [
        {"by": "predicted LAI", "subset": subset, "predictor": name}
        | _score_subset(truth[rows], _take(prediction, rows))
        for name, prediction in predictions.items()
        for subset, rows in _bins(prediction.lai)
    ]
    table = pairs[["source", "site", "site_date", "crop", "lai"]].assign(
        **{name: prediction.lai for name, prediction in predictions.items()}
    )
    return Validation(
        accuracy=pd.DataFrame(accuracy),
        uncertainty=pd.DataFrame(uncertainty),
        reliability=pd.DataFrame(reliability),
        subsets=pd.DataFrame(subsets),
        predictions=table,
    )


def _take(prediction: Prediction, rows: NDArray[np.bool_]) -> Prediction:
    quantiles = {p: values[rows] for p, values in prediction.quantiles.items()}
    return Prediction(prediction.lai[rows], quantiles, prediction.note)


def _trace(truth: NDArray[np.float64], prediction: Prediction) -> Iterator[dict[str, float]]:
    """Yield the points of the reliability curve."""
    for level in CURVE:
        interval = central_interval(prediction, level)
        if interval is not None:
            yield {"level": level, "coverage": metrics.coverage(truth, *interval)}


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


def _score_subset(truth: NDArray[np.float64], prediction: Prediction) -> dict[str, float]:
    scores = _score_all(truth, prediction.lai)
    kept = {key: scores[key] for key in ("n", "rmse", "bias", "r2", "within_0.5_or_20%")}
    interval = central_interval(prediction, 0.95)
    lower, upper = interval or (np.full_like(truth, np.nan),) * 2
    return kept | {
        "coverage_95%": metrics.coverage(truth, lower, upper),
        "width_95%": metrics.mean_width(lower, upper),
        "crps": score_distribution(truth, prediction),
    }


def _split(pairs: pd.DataFrame) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    """Yield (criterion, subset, rows) for LAI bins, sources, sites and crops."""
    for subset, rows in _bins(pairs["lai"].to_numpy()):
        yield "LAI", subset, rows
    crops = pairs["crop"].fillna("unknown").astype(str).str.casefold()
    rare = crops.map(crops.value_counts()) < SMALLEST_CROP
    labels = {
        "source": pairs["source"],
        "region": name_regions(pairs),
        "site": pairs["site"],
        "crop": crops.mask(rare, "others"),
    }
    for by, names in labels.items():
        for subset in sorted(names.unique()):
            yield by, str(subset), (names == subset).to_numpy()


def _bins(lai: NDArray[np.float64]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield (name, rows) of the bins of `LAI_BINS` that hold any."""
    for low, high in itertools.pairwise(LAI_BINS):
        rows = (low <= lai) & (lai < high)
        if rows.any():
            yield f"{low:g}-{high:g}" if high < math.inf else f">= {low:g}", rows


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


def bootstrap_uncertainty(
    truth: NDArray[np.float64],
    prediction: Prediction,
    clusters: NDArray[np.intp],
    counts: NDArray[np.int64],
) -> dict[str, float]:
    """Return 2.5 and 97.5 percentiles of coverage, CRPS and rank correlation over whole clusters.

    The first two are means over rows, so a draw follows from the sums of its clusters.

    Args:
        truth: measured LAI, shape (n,).
        prediction: with quantiles.
        clusters: cluster number of each row, shape (n,).
        counts: how often each draw holds each cluster, shape (draws, clusters).
    """
    parts = [clusters == cluster for cluster in range(counts.shape[1])]
    rows = np.array([part.sum() for part in parts])
    limits: dict[str, float] = {}
    for name, score in (("coverage_95%", _cover_95), ("crps", score_distribution)):
        means = np.array([score(truth[part], _take(prediction, part)) for part in parts])
        draws = counts @ (means * rows) / (counts @ rows)
        low, high = np.percentile(draws, [2.5, 97.5])
        limits |= {f"{name}_low": float(low), f"{name}_high": float(high)}
    interval = central_interval(prediction, 0.95)
    if interval is None:
        return limits
    width, error = interval[1] - interval[0], np.abs(prediction.lai - truth)
    ranks = []
    for draw in counts[:RANK_DRAWS]:
        drawn = np.repeat(np.arange(truth.size), draw[clusters])
        ranks.append(metrics.rank_correlation(width[drawn], error[drawn]))
    if not np.isfinite(ranks).any():  # all widths alike
        return limits
    low, high = np.nanpercentile(ranks, [2.5, 97.5])
    return limits | {"rank_correlation_low": float(low), "rank_correlation_high": float(high)}


def _cover_95(truth: NDArray[np.float64], prediction: Prediction) -> float:
    interval = central_interval(prediction, 0.95)
    return metrics.coverage(truth, *interval) if interval else math.nan
