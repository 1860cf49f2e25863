"""Networks as predictors of field pairs: as they ship, and as if these pairs had not taught them.

Comes in: a model bundle and field pairs. Goes out: a predictor for either target of the bundle.

A bundle's interval and field correction were fitted on field pairs, whose site-dates `model.json`
remembers. On those site-dates its numbers would be scored on what they were fitted on; there both
are fitted anew without the site-date that is predicted, by the code that calibrated the bundle.
Everywhere else a bundle is scored as it ships. The name of a predictor says which.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from lai_training.errors import PairsError
from lai_training.field.calibrate import TARGETS, Pairs, correct, fit_correction, fit_intervals
from lai_training.field.conformal import bounds
from lai_training.field.pairs import BANDS, PROBABILITIES, Prediction, Predictor, fingerprint
from lai_training.scores.emulation import predict_spectra
from lai_udf.predict import find_outside_domain, load_model

Doubles = NDArray[np.float64]

LEFT_OUT_NOTE = "fitted without the site-date, at each level"
SHIPPED_NOTE = "intervals of {levels}; between them linear in normal scores"
FEWEST_SITE_DATES = 3
"""Site-dates of a table that a bundle must have been calibrated on to leave out one of them."""


def pair_with_field(table: pd.DataFrame, bundle: Path) -> Pairs:
    """Run a bundle over field pairs (`pairs.read_pairs`), ready to calibrate on."""
    reflectance = table[list(BANDS)].to_numpy("float32").T[:, None]  # (10, 1, n), an image
    return Pairs(
        measured_lai=table["lai"].to_numpy("float64"),
        estimated_lai=predict_spectra(table, bundle, target="sl2p")["LAI"],
        group=pd.factorize(table["site_date"])[0],
        outside=find_outside_domain(reflectance, load_model(str(bundle)))[0],
    )


def list_networks(bundle: Path, table: pd.DataFrame) -> dict[str, Predictor]:
    """Return a bundle as predictors, one per target that it was calibrated for.

    Args:
        bundle: model bundle, a zip or folder.
        table: field pairs as `pairs.read_pairs` returns them.

    Returns:
        Name -> predictor of this table. The name says how many of its site-dates are left out,
        because the bundle was calibrated on them.

    Raises:
        LaiModelError: the bundle cannot be opened.
        PairsError: the bundle was calibrated on so few of the table's site-dates that nothing
            can be fitted without one of them.
    """
    contract = load_model(str(bundle)).contract
    calibration = contract["calibration"]
    taught = find_taught(table, calibration)
    model = str(contract["model_id"]).removeprefix("sentinel2-lai-")
    name = f"{model} {contract['model_version']} {{}}{_describe_left_out(table, taught)}"
    return {
        name.format(target): _predictor(bundle, target, calibration, taught)
        for target in TARGETS
        if target in calibration["intervals"]
    }


def find_taught(table: pd.DataFrame, calibration: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Tell which rows belong to site-dates that a bundle was calibrated on, (n,)."""
    known = set(calibration.get("site_dates", ()))
    return np.array([fingerprint(name) in known for name in table["site_date"]])


def _describe_left_out(table: pd.DataFrame, taught: NDArray[np.bool_]) -> str:
    if not taught.any():
        return ""
    own = table["site_date"][taught].nunique()
    if own < FEWEST_SITE_DATES:
        raise PairsError(
            f"the bundle was calibrated on {own} of the site-dates of the table: too few to fit "
            "it anew without one of them; remove their rows"
        )
    return ", left out" if taught.all() else f", {own} site-dates left out"


def _predictor(
    bundle: Path, target: str, calibration: Mapping[str, Any], taught: NDArray[np.bool_]
) -> Predictor:
    def predict(table: pd.DataFrame) -> Prediction:
        if not taught.any():
            return predict_shipped(table, bundle, target, calibration)
        left_out = predict_left_out(pair_with_field(table[taught], bundle), target)
        if taught.all():
            return left_out
        shipped = predict_shipped(table[~taught], bundle, target, calibration)
        return _merge(left_out, shipped, taught)

    return predict


def _merge(left_out: Prediction, shipped: Prediction, taught: NDArray[np.bool_]) -> Prediction:
    """Put the predictions of taught and of other rows into one, in the order of the table."""

    def place(own: Doubles, others: Doubles) -> Doubles:
        merged = np.empty(taught.size)
        merged[taught], merged[~taught] = own, others
        return merged

    told = left_out.quantiles.keys() & shipped.quantiles.keys()
    return Prediction(
        place(left_out.lai, shipped.lai),
        {p: place(left_out.quantiles[p], shipped.quantiles[p]) for p in sorted(told)},
        f"own site-dates {left_out.note}; others: {shipped.note}",
    )


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
