"""Networks as predictors of field pairs: as they ship, and as if these pairs had not taught them.

Input: a model bundle and field pairs. Output: a predictor for either target of the bundle.

A bundle's interval and field correction were fitted on field pairs, whose site-dates `model.json`
remembers. On those site-dates its numbers would be scored on what they were fitted on; there both
are fitted anew without the site-date that is predicted, by the code that calibrated the bundle.
Everywhere else a bundle is scored as it ships. Names of predictors tell them apart.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from lai_training.calibration.calibrate import CEILINGS, LeftOut, leave_out, nested_bounds
from lai_training.calibration.measurements import PAIRS, Measurements, from_pairs
from lai_training.calibration.pairs import PROBABILITIES, Prediction, Predictor, fingerprint
from lai_training.errors import PairsError
from lai_training.scores.emulation import predict_spectra
from lai_udf.predict import load_model

Doubles = NDArray[np.float64]

LEFT_OUT_NOTE = "fitted without the site-date, at each level"
SHIPPED_NOTE = "intervals of the bundle at each level"
SHIPPED_LEVELS = (*(round(0.5 + 0.05 * step, 2) for step in range(9)), 0.68, 0.95)
TARGETS = ("sl2p", "field")
FEWEST_SITE_DATES = 3
"""Site-dates of a table that a bundle must have been calibrated on to leave out one of them."""


def list_networks(
    bundle: Path,
    table: pd.DataFrame,
    further: Measurements | None = None,
    left_out: LeftOut | None = None,
) -> dict[str, Predictor]:
    """Return a bundle as predictors, one per target that it was calibrated for.

    Args:
        bundle: model bundle, a zip or folder.
        table: field pairs as `pairs.read_pairs` returns them.
        further: measurements of LAI that teach beside the pairs where the bundle is fitted anew.
        left_out: of the table and `further`, if known: it takes a minute.

    Returns:
        Name -> predictor of this table. The name states how many of its site-dates are left out,
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
        name.format(target): _predictor(bundle, target, taught, further, left_out)
        for target in TARGETS
        if "LAI" in calibration.get("variables", {})
    }


def find_taught(table: pd.DataFrame, calibration: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Return which rows belong to site-dates that a bundle was calibrated on, (n,)."""
    known = set(calibration.get("site_dates", ()))
    return np.array([fingerprint(name) in known for name in table["site_date"]])


def is_taught_by_all(table: pd.DataFrame, bundle: Path) -> bool:
    """Return whether a bundle was calibrated on every site-date of a table."""
    return bool(find_taught(table, load_model(str(bundle)).contract["calibration"]).all())


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
    bundle: Path,
    target: str,
    taught: NDArray[np.bool_],
    further: Measurements | None,
    known: LeftOut | None,
) -> Predictor:
    def predict(table: pd.DataFrame) -> Prediction:
        if not taught.any():
            return predict_shipped(table, bundle, target)
        whole = known if taught.all() else None
        left_out = predict_left_out(table[taught], bundle, target, further, whole)
        if taught.all():
            return left_out
        return _merge(left_out, predict_shipped(table[~taught], bundle, target), taught)

    return predict


def _merge(left_out: Prediction, shipped: Prediction, taught: NDArray[np.bool_]) -> Prediction:
    """Put the predictions of taught and of other rows into one, in the order of the table."""

    def place(own: Doubles, others: Doubles) -> Doubles:
        merged = np.empty(taught.size)
        merged[taught], merged[~taught] = own, others
        return merged

    common = left_out.quantiles.keys() & shipped.quantiles.keys()
    return Prediction(
        place(left_out.lai, shipped.lai),
        {p: place(left_out.quantiles[p], shipped.quantiles[p]) for p in sorted(common)},
        f"own site-dates {left_out.note}; others: {shipped.note}",
    )


def predict_left_out(
    table: pd.DataFrame,
    bundle: Path,
    target: str,
    further: Measurements | None = None,
    left_out: LeftOut | None = None,
) -> Prediction:
    """Predict each site-date with correction and interval fitted without it.

    Args:
        table: field pairs.
        bundle: model bundle, whose LAI is corrected.
        target: `sl2p` or `field`.
        further: measurements of LAI that teach beside the pairs.
        left_out: of both, pairs first, if known.

    Returns:
        LAI, and the ends of the conformal intervals of all levels as quantiles.
    """
    if left_out is None:
        pairs = from_pairs(table)
        everything = pairs if further is None else Measurements.join([pairs, further])
        left_out = leave_out(everything, "LAI", everything.fold, sun=True)
    levels = {p: round(1 - 2 * p, 3) for p in PROBABILITIES[: len(PROBABILITIES) // 2]}
    lower, upper = nested_bounds(left_out, CEILINGS["LAI"], tuple(levels.values()))
    own = left_out.take(left_out.measurements.source == PAIRS)
    # The network stands for SL2P: its estimate is shown, and shifts the interval with it.
    network = predict_spectra(table, bundle, target="sl2p")["LAI"]
    shift = network - own.measurements.sl2p
    lai = np.maximum(own.centre + shift, 0.0) if target == "field" else network
    quantiles = {}
    for p, level in levels.items():
        quantiles[p] = np.minimum(np.maximum(lower[level] + shift, 0.0), lai)
        quantiles[round(1 - p, 3)] = np.maximum(upper[level] + shift, lai)
    return Prediction(lai, quantiles, LEFT_OUT_NOTE)


def predict_shipped(
    table: pd.DataFrame, bundle: Path, target: str, region: str = "known"
) -> Prediction:
    """Predict with a bundle as it ships, by the UDF: its intervals of several levels.

    Args:
        table: field pairs.
        bundle: model bundle.
        target: `sl2p` or `field`.
        region: `known` or `new`.
    """
    quantiles: dict[float, Doubles] = {}
    for level in SHIPPED_LEVELS:
        bands = predict_spectra(table, bundle, target=target, level=level, region=region)
        quantiles[round((1 - level) / 2, 6)] = bands["LAI_LOWER"]
        quantiles[round((1 + level) / 2, 6)] = bands["LAI_UPPER"]
    lai = bands["LAI"]
    ends = {side: quantiles[0.5 + side * 0.25] for side in (-1, 1)}
    for p in PROBABILITIES:  # within the narrowest interval: half normals that meet at the estimate
        if 0.25 < p < 0.75:
            share = float(abs(stats.norm.ppf(p)) / stats.norm.ppf(0.75))
            quantiles[p] = lai + share * (ends[1 if p > 0.5 else -1] - lai)
    return Prediction(lai, quantiles, SHIPPED_NOTE)
