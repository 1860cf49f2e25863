"""Accuracy against field truth: tables of scores by subset, with a bootstrap by site-date.

Input: field pairs (`pairs.read_pairs`) and named predictors. Output: long tables (one row per
predictor and subset), which `cli` prints and writes. Rows of one site and date share weather,
observer and image, so resampling draws whole site-dates.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lai_training.calibration.bootstrap import score_draws
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

_ENDS = ("low", "high")


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
    draws = draw_rows(pairs["site_date"], rng, replicates)
    accuracy, uncertainty, reliability = [], [], []
    for name, prediction in predictions.items():
        limits = limit_accuracy(truth, prediction.lai, draws)
        accuracy.append({"predictor": name, **_score_all(truth, prediction.lai), **limits})
        if prediction.quantiles:
            scores = score_uncertainty(truth, prediction)
            scores |= limit_uncertainty(truth, prediction, draws)
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


def _take(prediction: Prediction, rows: NDArray[np.bool_] | NDArray[np.intp]) -> Prediction:
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


def draw_rows(
    names: "pd.Series[str]", rng: np.random.Generator, replicates: int
) -> list[NDArray[np.intp]]:
    """Draw as many whole site-dates as there are, with replacement; return rows of each draw."""
    clusters, distinct = pd.factorize(names)
    number = len(distinct)
    counts = rng.multinomial(number, np.full(number, 1 / number), size=replicates)
    return [np.repeat(np.arange(clusters.size), draw[clusters]) for draw in counts]


def _flat(limits: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """Return limits as columns `<score>_low` and `<score>_high`."""
    ends = [
        (f"{name}_{end}", v)
        for name, own in limits.items()
        for end, v in zip(_ENDS, own, strict=True)
    ]
    return dict(ends)


def _score_draw(truth: NDArray[np.float64], lai: NDArray[np.float64]) -> dict[str, float]:
    scores = metrics.score(truth, lai)
    return {"bias": scores.bias, "rmse": scores.rmse, "r2": scores.correlation_squared}


def limit_accuracy(
    truth: NDArray[np.float64], lai: NDArray[np.float64], draws: Sequence[NDArray[np.intp]]
) -> dict[str, float]:
    """Return the limits of bias, RMSE and r2 over draws of rows."""
    return _flat(score_draws(lambda rows: _score_draw(truth[rows], lai[rows]), draws))


def limit_uncertainty(
    truth: NDArray[np.float64], prediction: Prediction, draws: Sequence[NDArray[np.intp]]
) -> dict[str, float]:
    """Return the limits of coverage, CRPS and rank correlation over draws of rows."""
    interval = central_interval(prediction, 0.95)

    def score(rows: NDArray[np.intp]) -> dict[str, float]:
        scores = {"crps": score_distribution(truth[rows], _take(prediction, rows))}
        if interval is not None:
            ends = (end[rows] for end in interval)
            scores["coverage_95%"] = metrics.coverage(truth[rows], *ends)
        return scores

    limits = score_draws(score, draws)
    if interval is not None:
        width, error = interval[1] - interval[0], np.abs(prediction.lai - truth)
        limits |= score_draws(
            lambda rows: {"rank_correlation": metrics.rank_correlation(width[rows], error[rows])},
            draws[:RANK_DRAWS],
        )
    return _flat(limits)
