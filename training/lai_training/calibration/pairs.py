"""Field pairs: measured LAI beside the Sentinel-2 reflectance of the place, and who predicts it.

Input: a CSV table (columns in `REQUIRED_COLUMNS`; reflectance with unit 1, angles in degrees).
Output: the scored rows, and predictions with whatever uncertainty a model states.

The filter and the handling of missing angles are those of the reference scores: |dt| of at most 5
days, `green_brown` not beginning with b, relative azimuth 90 where missing, the 3_0 network of the
row's sensor (S2A where it is not given).
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from lai_training import sl2p
from lai_training.errors import PairsError
from lai_training.sl2p.tables import load_network
from lai_udf.predict import BANDS

Doubles = NDArray[np.float64]

REQUIRED_COLUMNS = ("source", "site", "date", "dt_days", "crop", "lai", "green_brown", *BANDS)
"""Columns that scoring needs; `sensor`, angles and the predictions of peers are optional."""

MAX_DAYS = 5
"""Greatest distance between field and satellite date, days."""

PROBABILITIES = tuple(round(0.025 * step, 3) for step in range(1, 40))
"""Probabilities of the quantiles of a normal prediction: 0.025 to 0.975."""


@dataclass(frozen=True)
class Prediction:
    """What a model predicts for the LAI of each pair."""

    lai: Doubles
    """Point prediction, m2 m-2, shape (n,)."""
    quantiles: Mapping[float, Doubles] = field(default_factory=lambda: MappingProxyType({}))
    """Probability -> LAI of shape (n,); empty where the model states no uncertainty. The central
    interval of a level such as 0.95 is scored where both its quantiles (0.025, 0.975) are here."""
    note: str = ""
    """What the quantiles rest on, for the report."""


Predictor = Callable[[pd.DataFrame], Prediction]
"""Predicts the rows of a table as `read_pairs` returns it."""


def read_pairs(path: Path) -> pd.DataFrame:
    """Read a table of field pairs and return the rows that are scored.

    Args:
        path: CSV file.

    Returns:
        The scored rows with a new index, `site_date` (site and field date, the unit of the
        bootstrap) added, angles filled with their nominal values where missing.

    Raises:
        PairsError: the file is not such a table, or no row passes the filter.
    """
    try:
        table = pd.read_csv(path)
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise PairsError(f"cannot read the field pairs {path}: {error}") from error
    missing = [name for name in REQUIRED_COLUMNS if name not in table]
    if missing:
        raise PairsError(f"{path} lacks the columns {', '.join(missing)}")
    for name in ("dt_days", "lai", *BANDS):
        if not pd.api.types.is_numeric_dtype(table[name]):
            raise PairsError(f"{path}: column {name} holds text where numbers are needed")
    scored = table[select_scored(table)].reset_index(drop=True)
    if scored.empty:
        raise PairsError(
            f"{path}: none of {len(table)} rows has measured LAI, |dt_days| <= {MAX_DAYS} and "
            "green vegetation (green_brown not beginning with b)"
        )
    _check_reflectance(scored, path)
    return _fill_angles(scored).assign(site_date=scored["site"] + " " + scored["date"].astype(str))


def fingerprint(site_date: str) -> str:
    """Return what a site-date is known again by in `model.json`, without naming the place."""
    return hashlib.sha256(site_date.encode()).hexdigest()[:12]


def select_scored(table: pd.DataFrame) -> "pd.Series[bool]":
    """Return which rows are scored: near in time, green, with a measured LAI."""
    brown = table["green_brown"].fillna("").astype(str).str.startswith("b")
    return (table["dt_days"].abs() <= MAX_DAYS) & ~brown & table["lai"].notna()


def _check_reflectance(table: pd.DataFrame, path: Path) -> None:
    values = table[list(BANDS)].to_numpy()
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        raise PairsError(f"{path}: no reflectance in {BANDS[column]} of scored row {row + 1}")
    if values.max() > 2:
        raise PairsError(
            f"{path}: reflectance up to {values.max():g}; divide digital numbers by 10000 "
            "(and subtract 0.1 from processing baseline 04.00 on)"
        )


def _fill_angles(table: pd.DataFrame) -> pd.DataFrame:
    nominal = {
        "view_zenith": sl2p.NOMINAL_VIEW_ZENITH_DEG,
        "sun_zenith": sl2p.NOMINAL_SUN_ZENITH_DEG,
        "rel_azimuth": sl2p.NOMINAL_RELATIVE_AZIMUTH_DEG,
    }
    filled = {
        name: table[name].fillna(value) if name in table else value
        for name, value in nominal.items()
    }
    return table.assign(**filled)


def predict_sl2p_2_1(table: pd.DataFrame) -> Prediction:
    """Predict with SL2P 2_1, clipped as SNAP does."""
    value, _ = sl2p.predict(_sl2p_inputs(table), network="2_1")
    return Prediction(value.astype(np.float64))


def predict_sl2p_3_0(table: pd.DataFrame) -> Prediction:
    """Predict with the SL2P 3_0 network of each row's sensor, S2A where it is not given."""
    x = _sl2p_inputs(table)
    sensors = table["sensor"].fillna("S2A") if "sensor" in table else pd.Series(["S2A"] * len(x))
    lai = np.full(len(x), np.nan)
    for sensor in sensors.unique():
        rows = (sensors == sensor).to_numpy()
        lai[rows] = sl2p.predict(x[rows], network="3_0", sensor=str(sensor))[0]
    return Prediction(lai)


def predict_from_column(name: str, sd_column: str | None = None) -> Predictor:
    """Return a predictor that reads a peer's LAI from a column, with its standard deviation."""

    def read(table: pd.DataFrame) -> Prediction:
        lai = table[name].to_numpy(dtype=np.float64)
        if sd_column is None:
            return Prediction(lai)
        return predict_normal(lai, table[sd_column].to_numpy(dtype=np.float64))

    return read


def predict_normal(lai: Doubles, sd: Doubles) -> Prediction:
    """Return a prediction whose uncertainty is normal with standard deviation `sd`."""
    quantiles = {p: lai + sd * stats.norm.ppf(p) for p in PROBABILITIES}
    return Prediction(lai, quantiles, "normal, of the stated standard deviation")


def list_baselines(table: pd.DataFrame) -> dict[str, Predictor]:
    """Return SL2P and the peers whose predictions the table carries."""
    found: dict[str, Predictor] = {"SL2P 2_1": predict_sl2p_2_1, "SL2P 3_0": predict_sl2p_3_0}
    if {"leaf_sl2p_lai", "leaf_sl2p_unc"} <= set(table):
        found["LEAF SL2P"] = predict_from_column("leaf_sl2p_lai", "leaf_sl2p_unc")
    if "s2biophys_laie" in table:
        found["s2biophys"] = predict_from_column("s2biophys_laie")
    return found


def _sl2p_inputs(table: pd.DataFrame) -> Doubles:
    bands = load_network("LAI", "2_1", "S2A").inputs[:-3]  # behind them three cosines
    degrees = table[["view_zenith", "sun_zenith", "rel_azimuth"]].to_numpy(dtype=np.float64)
    return np.column_stack([table[list(bands)].to_numpy(np.float64), np.cos(np.deg2rad(degrees))])
