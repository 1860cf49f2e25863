"""Accuracy against field truth: tables of scores by subset, with a bootstrap by site-date.

Input: field pairs (`measurements.read_pairs`) and predictions by name. Output: long tables (one
row per predictor and subset), which `report` prints and writes. Rows of one site and date share
weather, observer and image, so resampling draws whole site-dates.

Nothing is scored that a prediction does not state: a level of which the quantiles are not there, or
CRPS from a handful of quantiles (two of them give a number that looks like CRPS and is none).
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lai_training import metrics
from lai_training.calibration.measurements import Floats, name_regions
from lai_training.calibration.predictors import Prediction
from lai_training.reporting import read_words
from lai_udf.predict import BANDS

Rows = NDArray[np.intp]

LEVELS = (0.50, 0.68, 0.90, 0.95)
"""Nominal levels of the central intervals that are scored."""
CURVE = tuple(round(0.05 * step, 2) for step in range(1, 20))
"""Nominal levels of the reliability curve, 5 to 95 %."""
WIDEST_GAP = 0.06
"""Quantiles farther apart in probability are neither interpolated nor integrated over."""
LAI_BINS = (0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, math.inf)
"""Edges of the bins of measured LAI, m2 m-2, lower edge included."""
RANK_DRAWS = 500
"""Of the bootstrap that rank correlations are taken of: they are slow."""
SMALLEST_CROP = 5
"""Crops with fewer pairs are pooled."""
NEAREST = 0.01
"""Reflectance: spectra that differ by less are alike."""


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
    floor: str
    """What no estimate from these spectra can beat (`measure_floor`)."""


def validate(
    pairs: pd.DataFrame,
    predictions: Mapping[str, Prediction],
    *,
    rng: np.random.Generator,
    replicates: int = 2000,
) -> Validation:
    """Score predictions of field pairs, by the name of who predicts.

    `rng` draws the site-dates of the bootstrap, `replicates` times; every predictor meets the same
    draws.
    """
    truth = pairs["lai"].to_numpy(dtype=np.float64)
    draws = draw_rows(pairs["site_date"], rng, replicates)
    accuracy, uncertainty, reliability = [], [], []
    for name, prediction in predictions.items():
        limits = limit_accuracy(truth, prediction.lai, draws)
        accuracy.append({"predictor": name, **_score_all(truth, prediction.lai), **limits})
        if prediction.quantiles:
            scores = score_uncertainty(truth, prediction)
            scores |= limit_uncertainty(truth, prediction, draws)
            uncertainty.append({"predictor": name, **scores, "note": prediction.note})
            for level in CURVE:
                if interval := central_interval(prediction, level):
                    covered = metrics.coverage(truth, *interval)
                    reliability.append({"predictor": name, "level": level, "coverage": covered})
    split = [(by, subset, name, rows) for by, subset, rows in _split(pairs) for name in predictions]
    split += [
        ("predicted LAI", subset, name, rows)
        for name, prediction in predictions.items()
        for subset, rows in _bins(prediction.lai)
    ]
    subsets = [
        {"by": by, "subset": subset, "predictor": name}
        | _score_subset(truth[rows], predictions[name].take(rows))
        for by, subset, name, rows in split
    ]
    table = pairs[["source", "site", "site_date", "crop", "lai"]]
    return Validation(
        accuracy=pd.DataFrame(accuracy),
        uncertainty=pd.DataFrame(uncertainty),
        reliability=pd.DataFrame(reliability),
        subsets=pd.DataFrame(subsets),
        predictions=table.assign(**{name: each.lai for name, each in predictions.items()}),
        floor=measure_floor(pairs),
    )


def _score_all(truth: Floats, lai: Floats) -> dict[str, float]:
    scores = metrics.score(truth, lai)
    return {
        "n": scores.n,
        "rmse": scores.rmse,
        "bias": scores.bias,
        "r2": scores.correlation_squared,
        "R2": scores.r_squared,
        **metrics.agreement_ratios(truth, lai),
    }


def _score_subset(truth: Floats, prediction: Prediction) -> dict[str, float]:
    scores = _score_all(truth, prediction.lai)
    kept = {key: scores[key] for key in ("n", "rmse", "bias", "r2", "within_0.5_or_20%")}
    lower, upper = central_interval(prediction, 0.95) or (np.full_like(truth, np.nan),) * 2
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


def _bins(lai: Floats) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield (name, rows) of the bins of `LAI_BINS` that hold any."""
    for low, high in itertools.pairwise(LAI_BINS):
        rows = (low <= lai) & (lai < high)
        if rows.any():
            yield f"{low:g}-{high:g}" if high < math.inf else f">= {low:g}", rows


def score_uncertainty(truth: Floats, prediction: Prediction) -> dict[str, float]:
    """Score a prediction's central intervals and its distribution.

    Per level of `LEVELS` that the quantiles give: coverage and mean width; Spearman's rank
    correlation of the width of the widest of them with the absolute error; CRPS, NaN where the
    quantiles are too far apart.
    """
    scores: dict[str, float] = {}
    error = np.abs(prediction.lai - truth)
    ranks = math.nan
    for level in LEVELS:
        if interval := central_interval(prediction, level):
            lower, upper = interval
            scores[f"coverage_{level:.0%}"] = metrics.coverage(truth, lower, upper)
            scores[f"width_{level:.0%}"] = metrics.mean_width(lower, upper)
            ranks = metrics.rank_correlation(upper - lower, error)
    return scores | {"crps": score_distribution(truth, prediction), "rank_correlation": ranks}


def score_distribution(truth: Floats, prediction: Prediction) -> float:
    """Return the mean CRPS; NaN where the quantiles are too few for a distribution."""
    gaps = np.diff([0.0, *sorted(prediction.quantiles), 1.0])
    if max(gaps) > WIDEST_GAP:
        return math.nan
    return metrics.crps_quantiles(truth, prediction.quantiles)


def central_interval(prediction: Prediction, level: float) -> tuple[Floats, Floats] | None:
    """Return the bounds of a central interval, interpolated between near neighbours.

    None where the quantiles do not reach as far out as the level, or are too far apart there.
    """
    lower, upper = (_interpolate(prediction, p) for p in ((1 - level) / 2, (1 + level) / 2))
    return None if lower is None or upper is None else (lower, upper)


def _interpolate(prediction: Prediction, p: float) -> Floats | None:
    """Return the quantile of probability p, shape (n,), where its neighbours are near."""
    quantiles = prediction.quantiles
    stated = np.array(sorted(quantiles))
    for same in stated[np.abs(stated - p) < 1e-9]:
        return quantiles[same]
    above = int(np.searchsorted(stated, p))
    if above in (0, stated.size) or stated[above] - stated[above - 1] > WIDEST_GAP:
        return None
    low, high = stated[above - 1], stated[above]
    weight = (p - low) / (high - low)
    return np.asarray(quantiles[low] * (1 - weight) + quantiles[high] * weight)


def draw_rows(names: "pd.Series[str]", rng: np.random.Generator, replicates: int) -> list[Rows]:
    """Draw as many whole site-dates as there are, with replacement; return rows of each draw."""
    clusters, distinct = pd.factorize(names)
    number = len(distinct)
    counts = rng.multinomial(number, np.full(number, 1 / number), size=replicates)
    return [np.repeat(np.arange(clusters.size), draw[clusters]) for draw in counts]


def score_draws(
    score: Callable[[Rows], Mapping[str, float]], draws: Iterable[Rows]
) -> dict[str, float]:
    """Return the 2.5 and 97.5 percentile of each score over draws of rows.

    `score` gives scores by name of some rows, NaN where a draw has none; a draw holds a row as
    often as it is drawn. Names are `<score>_low` and `<score>_high`.
    """
    scores = pd.DataFrame([score(rows) for rows in draws]).dropna(axis=1, how="all")
    limits: dict[str, float] = {}
    for name, values in scores.items():
        low, high = np.nanpercentile(values, [2.5, 97.5])
        limits |= {f"{name}_low": float(low), f"{name}_high": float(high)}
    return limits


def limit_accuracy(truth: Floats, lai: Floats, draws: Sequence[Rows]) -> dict[str, float]:
    """Return the limits of bias, RMSE and r2 over draws of rows."""

    def score(rows: Rows) -> dict[str, float]:
        scores = metrics.score(truth[rows], lai[rows])
        return {"bias": scores.bias, "rmse": scores.rmse, "r2": scores.correlation_squared}

    return score_draws(score, draws)


def limit_uncertainty(
    truth: Floats, prediction: Prediction, draws: Sequence[Rows]
) -> dict[str, float]:
    """Return the limits of coverage, CRPS and rank correlation over draws of rows."""
    interval = central_interval(prediction, 0.95)

    def score(rows: Rows) -> dict[str, float]:
        scores = {"crps": score_distribution(truth[rows], prediction.take(rows))}
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
    return limits


def measure_floor(table: pd.DataFrame) -> str:
    """Return what no estimate from these spectra can beat, in a sentence.

    Points of one site and date whose spectra differ by less than `NEAREST` (root mean square over
    bands) and whose LAI differs anyway; and what the measurements state of themselves.
    """
    differences = []
    for _, points in table.groupby("site_date"):
        spectra, lai = points[list(BANDS)].to_numpy(float), points["lai"].to_numpy(float)
        apart = np.sqrt(((spectra[:, None] - spectra) ** 2).mean(axis=2))
        first, second = np.nonzero(np.triu(apart < NEAREST, k=1))
        differences += list(lai[first] - lai[second])
    text = "No two points of a date have spectra alike."
    if differences:
        sd = float(np.sqrt(np.mean(np.square(differences)) / 2))
        text = read_words()["floor"].format(pairs=len(differences), nearest=NEAREST, sd=sd)
    if "lai_sd" in table and table["lai_sd"].notna().any():
        stated = table["lai_sd"].dropna()
        text += f" {stated.size} measurements state their own: {stated.median():.2f} (median)."
    return text
