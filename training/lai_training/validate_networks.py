"""Networks as predictors of field pairs: as they ship, and as if these pairs had not taught them.

Comes in: a model bundle and field pairs. Goes out: a predictor for either target of the bundle.

A bundle's interval and field correction were fitted on field pairs. Where the pairs to score are
those, its own numbers would be scored on what they were fitted on; then both are fitted anew
without the site-date that is predicted, by the code that calibrated the bundle. Such predictors
are called "left out". On other pairs a bundle is scored as it ships.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from lai_training.calibrate import Pairs, correct, fit_correction, fit_intervals
from lai_training.conformal import bounds
from lai_training.emulation import pair_with_field, predict_spectra
from lai_training.metrics import score
from lai_training.pairs import PROBABILITIES, Prediction, Predictor
from lai_udf.predict import load_model

Doubles = NDArray[np.float64]

LEFT_OUT_NOTE = "fitted without the site-date, at each level"
SHIPPED_NOTE = "intervals of {levels}; between them linear in normal scores"
_SAME_RMSE = 2e-3  # of model.json, which rounds to four digits, on another machine


def list_networks(bundle: Path, table: pd.DataFrame) -> dict[str, Predictor]:
    """Return a bundle as predictors, one per target that it was calibrated for.

    Args:
        bundle: model bundle, a zip or folder.
        table: field pairs as `pairs.read_pairs` returns them.

    Returns:
        Name -> predictor of this table. The name ends in "left out" where the bundle was
        calibrated on these pairs.

    Raises:
        LaiModelError: the bundle cannot be opened.
    """
    contract = load_model(str(bundle)).contract
    calibration = contract["calibration"]
    pairs = pair_with_field(table, bundle)
    taught = was_calibrated_on(calibration, pairs)
    found: dict[str, Predictor] = {}
    for target in ("sl2p", "field"):
        if target not in calibration["intervals"]:
            continue
        model = str(contract["model_id"]).removeprefix("sentinel2-lai-")
        name = f"{model} {contract['model_version']} {target}"
        if taught:
            found[f"{name}, left out"] = _left_out(pairs, target)
        else:
            found[name] = _shipped(bundle, target, calibration)
    return found


def was_calibrated_on(calibration: Mapping[str, Any], pairs: Pairs) -> bool:
    """Tell whether a bundle was calibrated on these pairs: the same number, clusters and RMSE.

    The RMSE of the target `sl2p` does not depend on the calibration, so `model.json` holds the
    fingerprint of its pairs. Pairs that share only some rows with them are not recognised.
    """
    counts = (pairs.measured_lai.size, np.unique(pairs.group).size)
    if (calibration.get("n_pairs"), calibration.get("n_site_dates")) != counts:
        return False
    scores = calibration.get("scores_left_out_site_dates", {})
    known = float(scores.get("sl2p", {}).get("rmse", np.inf))
    return abs(score(pairs.measured_lai, pairs.estimated_lai).rmse - known) < _SAME_RMSE


def predict_left_out(pairs: Pairs, target: str) -> Prediction:
    """Predict each site-date with interval and correction fitted on all the others.

    Args:
        pairs: measured LAI and the network's.
        target: `sl2p` or `field`.

    Returns:
        LAI, and the ends of the conformal intervals of all levels as quantiles.
    """
    lai = np.empty_like(pairs.measured_lai)
    quantiles = {p: np.empty_like(lai) for p in PROBABILITIES if p != 0.5}
    for group in np.unique(pairs.group):
        out = pairs.group == group
        rest, held = pairs.take(~out), pairs.take(out)
        correction = fit_correction(rest)
        lai[out] = correct(held, correction) if target == "field" else held.estimated_lai
        levels = {p: round(1 - 2 * p, 3) for p in PROBABILITIES[: len(PROBABILITIES) // 2]}
        tables = fit_intervals(rest, correction, list(levels.values()))
        for p, level in levels.items():
            lower, upper = bounds(lai[out], tables[target, level])
            quantiles[p][out], quantiles[round(1 - p, 3)][out] = lower, upper
    return Prediction(lai, quantiles, LEFT_OUT_NOTE)


def predict_shipped(
    table: pd.DataFrame, bundle: Path, target: str, calibration: Mapping[str, Any]
) -> Prediction:
    """Predict with a bundle as it ships.

    It states intervals at a few levels, of which the UDF gives one. They become a distribution
    that is linear in normal scores between them: with a single level two half normals that meet
    at the estimate.

    Args:
        table: field pairs.
        bundle: model bundle.
        target: `sl2p` or `field`.
        calibration: of the bundle: `level`, and `quantiles` (target -> level -> interval) if any.
    """
    bands = predict_spectra(table, bundle, target=target)
    lai = bands["LAI"]
    other = calibration.get("quantiles", {}).get(target, {})
    ends = {float(level): bounds(lai, interval) for level, interval in other.items()}
    ends[float(calibration.get("level", 0.95))] = (bands["LAI_LOWER"], bands["LAI_UPPER"])
    levels = sorted(ends)
    known = [0.0, *stats.norm.ppf([(1 + level) / 2 for level in levels])]
    told = [round((1 + side * level) / 2, 6) for level in levels for side in (-1, 1)]
    quantiles: dict[float, Doubles] = {}
    for p in sorted({*PROBABILITIES, *told}):
        z = float(stats.norm.ppf(p))
        side = [lai, *(ends[level][int(z > 0)] for level in levels)]
        above = min(max(int(np.searchsorted(known, abs(z) - 1e-9)), 1), len(levels))
        share = min((abs(z) - known[above - 1]) / (known[above] - known[above - 1]), 1.0)
        quantiles[p] = side[above - 1] * (1 - share) + side[above] * share
    listed = ", ".join(f"{level:.0%}" for level in levels)
    return Prediction(lai, quantiles, SHIPPED_NOTE.format(levels=listed))


def _left_out(pairs: Pairs, target: str) -> Predictor:
    return lambda table: predict_left_out(pairs, target)


def _shipped(bundle: Path, target: str, calibration: Mapping[str, Any]) -> Predictor:
    return lambda table: predict_shipped(table, bundle, target, calibration)
