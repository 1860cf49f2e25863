"""Predictions of field pairs: by SL2P, by peers whose LAI the table carries, and by networks.

Input: field pairs (`measurements.read_pairs`) and model bundles. Output: predictions by name.

A bundle's interval and field correction were fitted on field pairs, whose site-dates `model.json`
remembers. On those site-dates its numbers would be scored on what they were fitted on; there both
are fitted anew without the site-date that is predicted, by the code that calibrated the bundle.
Everywhere else a bundle is scored as it ships. Names of predictions distinguish them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from lai_training import sl2p
from lai_training.calibration.calibrate import CEILINGS, leave_out, nested_bounds
from lai_training.calibration.measurements import (
    PAIRS,
    Floats,
    Measurements,
    cosines_of,
    fingerprint,
    from_pairs,
    sl2p_inputs,
)
from lai_training.errors import PairsError
from lai_udf.predict import (
    BANDS,
    HaloSlice,
    PredictOptions,
    clear_inputs,
    load_model,
    predict_block,
)

Rows = NDArray[np.bool_] | NDArray[np.intp]

PROBABILITIES = tuple(round(0.025 * step, 3) for step in range(1, 40))
"""Probabilities of the quantiles of a normal prediction: 0.025 to 0.975."""
LEFT_OUT_NOTE = "fitted without the site-date, at each level"
SHIPPED_NOTE = "intervals of the bundle at each level"
SHIPPED_LEVELS = (*(round(0.5 + 0.05 * step, 2) for step in range(9)), 0.68, 0.95)
TARGETS = ("sl2p", "field")
INTERVAL_BANDS = ("LAI", "LAI_LOWER", "LAI_UPPER")
FEWEST_SITE_DATES = 3
"""Site-dates of a table that a bundle must have been calibrated on to leave out one of them."""


@dataclass(frozen=True)
class Prediction:
    """What a model predicts for the LAI of each pair."""

    lai: Floats
    """Point prediction, m2 m-2, shape (n,)."""
    quantiles: Mapping[float, Floats] = field(default_factory=dict)
    """Probability -> LAI of shape (n,); empty where the model states no uncertainty. The central
    interval of a level such as 0.95 is scored where both its quantiles (0.025, 0.975) are here."""
    note: str = ""
    """What the quantiles rest on, for the report."""

    def take(self, rows: Rows) -> "Prediction":
        """Return some rows."""
        quantiles = {p: values[rows] for p, values in self.quantiles.items()}
        return Prediction(self.lai[rows], quantiles, self.note)


def predict_normal(lai: Floats, sd: Floats) -> Prediction:
    """Return a prediction whose uncertainty is normal with standard deviation `sd`."""
    quantiles = {p: lai + sd * stats.norm.ppf(p) for p in PROBABILITIES}
    return Prediction(lai, quantiles, "normal, of the stated standard deviation")


def predict_baselines(table: pd.DataFrame) -> dict[str, Prediction]:
    """Predict with SL2P 2_1, with SL2P 3_0 of each row's sensor, and by peers in the table."""
    x = sl2p_inputs(table, cosines_of(table))
    sensors = table.get("sensor", pd.Series("S2A", table.index)).fillna("S2A")
    latest = np.full(len(x), np.nan)
    for sensor in sensors.unique():
        rows = (sensors == sensor).to_numpy()
        latest[rows] = sl2p.predict(x[rows], network="3_0", sensor=str(sensor))[0]
    first = sl2p.predict(x, network="2_1")[0].astype(np.float64)
    predictions = {"SL2P 2_1": Prediction(first), "SL2P 3_0": Prediction(latest)}
    if {"leaf_sl2p_lai", "leaf_sl2p_unc"} <= set(table):
        lai, sd = (table[f"leaf_sl2p_{name}"].to_numpy(np.float64) for name in ("lai", "unc"))
        predictions["LEAF SL2P"] = predict_normal(lai, sd)
    if "s2biophys_laie" in table:
        predictions["s2biophys"] = Prediction(table["s2biophys_laie"].to_numpy(np.float64))
    return predictions


def predict_by_bundle(
    bundle: Path,
    table: pd.DataFrame,
    further: Measurements | None = None,
) -> dict[str, Prediction]:
    """Predict with a bundle, by each target that it was calibrated for.

    Args:
        bundle: model bundle, a zip or folder.
        table: field pairs as `measurements.read_pairs` returns them.
        further: measurements of LAI to fit on besides the pairs where the bundle is fitted anew.

    Returns:
        Name -> prediction. The name states how many site-dates of the table are left out, because
        the bundle was calibrated on them.

    Raises:
        LaiModelError: the bundle cannot be opened.
        PairsError: the bundle was calibrated on so few of the table's site-dates that nothing
            can be fitted without one of them.
    """
    contract = load_model(str(bundle)).contract
    if "LAI" not in contract["calibration"].get("variables", {}):
        return {}
    calibrated = find_calibration_rows(table, contract["calibration"])
    site_dates = table["site_date"][calibrated].nunique()
    if 0 < site_dates < FEWEST_SITE_DATES:
        raise PairsError(
            f"the bundle was calibrated on {site_dates} of the site-dates of the table: too few to "
            "fit it anew without one of them; remove their rows"
        )
    ending = f", {site_dates} site-dates left out" if site_dates else ""
    if calibrated.all():
        ending, predictions = ", left out", predict_left_out(table, bundle, further)
    else:
        predictions = predict_shipped(table[~calibrated], bundle)
        if site_dates:
            anew = predict_left_out(table[calibrated], bundle, further)
            for target, shipped in predictions.items():
                predictions[target] = _merge(anew[target], shipped, calibrated)
    model = str(contract["model_id"]).removeprefix("sentinel2-lai-")
    name = f"{model} {contract['model_version']}"
    return {f"{name} {target}{ending}": each for target, each in predictions.items()}


def find_calibration_rows(table: pd.DataFrame, calibration: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Return which rows belong to site-dates that a bundle was calibrated on, (n,)."""
    site_dates = set(calibration.get("site_dates", ()))
    return np.array([fingerprint(name) in site_dates for name in table["site_date"]])


def _merge(left_out: Prediction, shipped: Prediction, calibrated: NDArray[np.bool_]) -> Prediction:
    """Put the predictions of rows left out and of others into one, in the order of the table."""

    def place(of_left_out: Floats, others: Floats) -> Floats:
        merged = np.empty(calibrated.size)
        merged[calibrated], merged[~calibrated] = of_left_out, others
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
    further: Measurements | None = None,
) -> dict[str, Prediction]:
    """Predict each site-date with correction and interval fitted without it, by target.

    `further` are measurements of LAI to fit on besides the pairs of the table. Quantiles are the
    ends of the conformal intervals of all levels.
    """
    pairs = from_pairs(table)
    everything = pairs if further is None else Measurements.join([pairs, further])
    left_out = leave_out(everything, "LAI", everything.fold, sun=True)
    levels = {p: round(1 - 2 * p, 3) for p in PROBABILITIES[: len(PROBABILITIES) // 2]}
    lower, upper = nested_bounds(left_out, CEILINGS["LAI"], tuple(levels.values()))
    rows = left_out.take(left_out.measurements.source == PAIRS)
    # The network stands for SL2P: its estimate is shown, and shifts the interval with it.
    network = predict_spectra(table, bundle, target="sl2p")["LAI"]
    shift = network - rows.measurements.sl2p
    predictions = {}
    for target in TARGETS:
        lai = np.maximum(rows.centre + shift, 0.0) if target == "field" else network
        quantiles = {}
        for p, level in levels.items():
            quantiles[p] = np.minimum(np.maximum(lower[level] + shift, 0.0), lai)
            quantiles[round(1 - p, 3)] = np.maximum(upper[level] + shift, lai)
        predictions[target] = Prediction(lai, quantiles, LEFT_OUT_NOTE)
    return predictions


def predict_shipped(table: pd.DataFrame, bundle: Path) -> dict[str, Prediction]:
    """Predict field pairs with a bundle as it ships, by target: its intervals of several levels."""
    predictions = {}
    for target in TARGETS:
        quantiles: dict[float, Floats] = {}
        for level in SHIPPED_LEVELS:
            bands = predict_spectra(table, bundle, target=target, level=level)
            quantiles[round((1 - level) / 2, 6)] = bands["LAI_LOWER"]
            quantiles[round((1 + level) / 2, 6)] = bands["LAI_UPPER"]
        lai = bands["LAI"]
        ends = {side: quantiles[0.5 + side * 0.25] for side in (-1, 1)}
        # Within the narrowest interval: half normals that meet at the estimate.
        for p in (p for p in PROBABILITIES if 0.25 < p < 0.75):
            share = float(abs(stats.norm.ppf(p)) / stats.norm.ppf(0.75))
            quantiles[p] = lai + share * (ends[1 if p > 0.5 else -1] - lai)
        predictions[target] = Prediction(lai, quantiles, SHIPPED_NOTE)
    return predictions


def predict_spectra(
    table: pd.DataFrame, bundle: Path, *, target: str, level: float = 0.95
) -> dict[str, Floats]:
    """Run the UDF over uniform patches of the single spectra of field pairs.

    Returns `LAI`, and `LAI_LOWER` and `LAI_UPPER` of the level, (n,) each; `target` and `level`
    are those of the UDF's context.
    """
    model = load_model(str(bundle))
    reach, multiple = model.contract["reach_px"], model.contract["window_multiple"]
    side = -(-(2 * reach + 1) // multiple) * multiple  # nothing beyond the patch is felt inside
    whole = HaloSlice(slice(0, side), (0, 0), slice(0, side))
    # The patch stands for endless uniform land: with the overlap declared, no border is seen.
    settings = PredictOptions(model=str(bundle), target=target, overlap=reach, level=level)
    rows = []
    for spectrum, angles in zip(table[list(BANDS)].to_numpy(), cosines_of(table), strict=True):
        patch = np.broadcast_to(spectrum[:, None, None], (len(BANDS), side, side))
        inputs = clear_inputs(patch.astype("float32"), angles[:, None, None].astype("float32"))
        bands = predict_block(inputs, whole, whole, model, settings)
        rows.append([float(bands[name][side // 2, side // 2]) for name in INTERVAL_BANDS])
    return dict(zip(INTERVAL_BANDS, np.array(rows).T, strict=True))
