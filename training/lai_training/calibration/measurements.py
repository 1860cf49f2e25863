"""Field measurements of a variable beside SL2P's estimate for the place and date.

Input: tables of field pairs (measured LAI beside the reflectance of the place), of GROUNDED EO (LAI
and FAPAR at forest, shrub, grass and crop sites, no place or date given) and of Swiss winter wheat
(destructive LAI, green cover from photographs). Output: `Measurements`, one form for all of them.

The residual that a calibration learns is measured minus exact SL2P 2_1, so that it does not depend
on the network that emulates SL2P.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rasterio.warp import transform

from lai_training import sl2p
from lai_training.errors import PairsError
from lai_training.simulation.angles import sun_position
from lai_training.sl2p.tables import load_network
from lai_udf.own_points import HIGHEST_LAI
from lai_udf.predict import (
    BANDS,
    INPUT_OUT_OF_DOMAIN,
    MAX_REFLECTANCE,
    MAX_SUN_ZENITH_DEG,
    MAX_VIEW_ZENITH_DEG,
    MIN_REFLECTANCE,
    MIN_SUN_ZENITH_DEG,
    NOMINAL_COSINES,
)

Floats = NDArray[np.float64]
Texts = NDArray[np.str_]

PAIRS, GROUNDED, WHEAT = "pairs", "grounded", "wheat"
"""Sources, which differ in their noise."""
FILES = {
    GROUNDED: "grounded_eo_400.csv",
    "lai": "eoa_ch_lai_2022.csv",
    "green_cover": "eoa_ch_gcc_2022.csv",
}
"""Names of the further tables in their folder."""
FOLDS = 10
"""Of measurements without a site: their folds are random, so their scores are optimistic."""
REQUIRED_COLUMNS = ("source", "site", "date", "dt_days", "crop", "lai", "green_brown", *BANDS)
"""Columns that scoring needs; `sensor`, angles and the predictions of peers are optional."""

MAX_DAYS = 5
"""Greatest distance between field and satellite date, days."""
NOMINAL_DEG = {
    "view_zenith": sl2p.NOMINAL_VIEW_ZENITH_DEG,
    "sun_zenith": sl2p.NOMINAL_SUN_ZENITH_DEG,
    "rel_azimuth": sl2p.NOMINAL_RELATIVE_AZIMUTH_DEG,
}
"""Angles of field pairs where they are missing."""
POSSIBLE_DEG = {
    "view_zenith": (0.0, MAX_VIEW_ZENITH_DEG),
    "sun_zenith": (MIN_SUN_ZENITH_DEG, MAX_SUN_ZENITH_DEG),
    "rel_azimuth": (-360.0, 360.0),
}
LIMITS = {"lai": (0.0, HIGHEST_LAI)} | dict.fromkeys(BANDS, (MIN_REFLECTANCE, MAX_REFLECTANCE))
"""Least and greatest possible number in a column of field pairs."""


class Table:
    """A dataclass whose fields are arrays of n rows."""

    def take(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> Self:
        """Return some rows."""
        return type(self)(**{name: values[rows] for name, values in vars(self).items()})

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """Return the rows of several as one."""
        names = vars(parts[0])
        return cls(**{name: np.concatenate([vars(part)[name] for part in parts]) for name in names})


@dataclass(frozen=True, eq=False)
class Measurements(Table):
    """Measurements of one variable; all arrays have n rows."""

    measured: Floats
    """In the field, unit of the variable."""
    sl2p: Floats
    """Of SL2P 2_1 at the angles of the row, clipped as SNAP does."""
    sl2p_nominal: Floats
    """The same at nominal angles: what there is where angles are missing."""
    reflectance: Floats
    """(n, 10), bands in the order of `BANDS`; B08 is NaN where it was not kept."""
    cosines: Floats
    """(n, 3): view zenith, sun zenith, relative azimuth."""
    outside: NDArray[np.bool_]
    """The spectrum lies outside SL2P's definition domain."""
    group: Texts
    """Site and date (or fold): rows of a group share a part of their error."""
    fold: Texts
    """What is left out together to judge a fit."""
    region: Texts
    """Region that is left out as a whole (country; or fold)."""
    source: Texts
    """`PAIRS`, `GROUNDED` or `WHEAT`."""

    @property
    def deciding(self) -> NDArray[np.bool_]:
        """Return (n,) bool: rows by which a variable is judged: field pairs, if any."""
        rows = self.source == PAIRS
        return rows if rows.any() else np.ones(rows.size, bool)

    def estimate(self, *, sun: bool) -> Floats:
        """Return SL2P's estimate with or without angles."""
        return self.sl2p if sun else self.sl2p_nominal


def gather_measurements(pairs: Path, further: Path | None = None) -> dict[str, Measurements]:
    """Return the measurements of every variable.

    `pairs` is a CSV of field pairs of LAI, `further` a folder with some of the tables of `FILES`;
    None: LAI of the pairs alone. Raises `PairsError` where a table cannot be read.
    """
    lai, more = from_pairs(read_pairs(pairs)), gather_further(further)
    measurements = {"LAI": lai if more is None else Measurements.join([lai, more])}
    if further is not None:
        if (path := further / FILES[GROUNDED]).exists():
            measurements["FAPAR"] = from_grounded(path, "FAPAR")
        if (path := further / FILES["green_cover"]).exists():
            measurements["FCOVER"] = from_wheat(path, "FCOVER")
    return measurements


def gather_further(folder: Path | None) -> Measurements | None:
    """Return the LAI of the further tables in a folder, None where there is none of them."""
    if folder is None:
        return None
    readers = {GROUNDED: from_grounded, "lai": from_wheat}
    paths = {name: folder / FILES[name] for name in readers}
    parts = [readers[name](path, "LAI") for name, path in paths.items() if path.exists()]
    return Measurements.join(parts) if parts else None


def from_pairs(table: pd.DataFrame) -> Measurements:
    """Return the LAI of field pairs (`read_pairs`)."""
    dates = table["site_date"].to_numpy(str)
    return _measure(
        table,
        table["lai"].to_numpy("float64"),
        "LAI",
        cosines_of(table),
        group=dates,
        fold=dates,
        region=name_regions(table).to_numpy(str),
        source=PAIRS,
    )


def read_pairs(path: Path) -> pd.DataFrame:
    """Read a CSV of field pairs (`REQUIRED_COLUMNS`) and return the rows that are scored.

    Reflectance has unit 1, angles are in degrees. The filter and the handling of missing angles are
    those of the reference scores: |dt| of at most 5 days, `green_brown` not beginning with b,
    nominal angles where missing or impossible. The rows have a new index, and `site_date` (site and
    field date, the unit of the bootstrap). Raises `PairsError` where the file is not such a table,
    no row passes, or LAI or reflectance of one that does cannot be.
    """
    table = _read(path)
    missing = [name for name in REQUIRED_COLUMNS if name not in table]
    if missing:
        raise PairsError(f"{path} lacks the columns {', '.join(missing)}")
    angles = [name for name in NOMINAL_DEG if name in table]
    for name in ("dt_days", "lai", *BANDS, *angles):
        if not pd.api.types.is_numeric_dtype(table[name]):
            raise PairsError(f"{path}: column {name} holds text where numbers are needed")
    brown = table["green_brown"].fillna("").astype(str).str.startswith("b")
    rows = (table["dt_days"].abs() <= MAX_DAYS) & ~brown & table["lai"].notna()
    if not rows.any():
        raise PairsError(
            f"{path}: none of {len(table)} rows has measured LAI, |dt_days| <= {MAX_DAYS} and "
            "green vegetation (green_brown not beginning with b)"
        )
    _require_possible(table[rows], path)
    scored = table[rows].reset_index(drop=True)
    possible = {name: _possible_angles(scored, name) for name in angles}
    for name, nominal in NOMINAL_DEG.items():
        scored[name] = possible[name].fillna(nominal) if name in angles else nominal
    return scored.assign(site_date=scored["site"] + " " + scored["date"].astype(str))


def _require_possible(table: pd.DataFrame, path: Path) -> None:
    """Raise `PairsError` for the first row whose LAI or reflectance cannot be, or is missing."""
    for name, (low, high) in LIMITS.items():
        wrong = table[~table[name].between(low, high)]
        if len(wrong):
            value = wrong[name].iloc[0]
            advice = "; divide digital numbers by 10000 (and subtract 0.1 from processing baseline"
            raise PairsError(
                f"{path}: row {wrong.index[0] + 1} has {name} {value:g}, not {low:g} to {high:g}"
                + (f"{advice} 04.00 on)" if name in BANDS and value > high else "")
            )


def _possible_angles(table: pd.DataFrame, name: str) -> "pd.Series[float]":
    """Return angles, degrees, NaN where they or the sun's are fill values, radians or no angles."""
    possible = table[name].between(*POSSIBLE_DEG[name])
    if "sun_zenith" in table:
        possible &= table["sun_zenith"].isna() | table["sun_zenith"].between(
            *POSSIBLE_DEG["sun_zenith"]
        )
    return table[name].where(possible)


def cosines_of(table: pd.DataFrame) -> Floats:
    """Return the cosines of the angles of field pairs, (n, 3), in the order of `NOMINAL_DEG`."""
    return np.asarray(np.cos(np.deg2rad(table[list(NOMINAL_DEG)].to_numpy("float64"))))


def sl2p_inputs(table: pd.DataFrame, cosines: Floats) -> Floats:
    """Return what `sl2p.predict` takes, (n, 11), of a table with a column per band."""
    bands = load_network("LAI", "2_1", "S2A").inputs[:-3]  # behind them three cosines
    return np.column_stack([table[list(bands)].to_numpy("float64"), cosines])


def fingerprint(site_date: str) -> str:
    """Return what a site-date is known again by in `model.json`, without naming the place."""
    return hashlib.sha256(site_date.encode()).hexdigest()[:12]


def name_regions(table: pd.DataFrame) -> "pd.Series[str]":
    """Return the region of field pairs: the country, as far as names of sites give it."""
    parts = table["site"].astype(str).str.split("_").str
    swiss = table["source"].astype(str).str.startswith("EOA")
    return parts[1].fillna(parts[0]).mask(swiss, "Switzerland")


def from_grounded(path: Path, variable: str) -> Measurements:
    """Return LAI or FAPAR of the table of GROUNDED EO; random folds stand for its sites."""
    table = _read(path)
    cosines = table[["cos_vza", "cos_sza", "cos_raa"]].to_numpy("float64")
    fold = np.random.default_rng(0).integers(0, FOLDS, len(table))
    names = np.array([f"grounded {number}" for number in fold])
    measured = table[variable.lower()].to_numpy("float64")
    return _measure(
        table, measured, variable, cosines, group=names, fold=names, region=names, source=GROUNDED
    )


def from_wheat(path: Path, variable: str) -> Measurements:
    """Return LAI or green cover (FCOVER) of Swiss winter wheat; the sun's position is computed."""
    table = _read(path)
    east, north = table["x"].tolist(), table["y"].tolist()
    longitude, latitude = transform("EPSG:32632", "EPSG:4326", east, north)[:2]
    cosines = np.tile(np.array(NOMINAL_COSINES), (len(table), 1))
    for row, scene in enumerate(table["scene"]):
        time = datetime.strptime(scene.split("_")[2], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
        zenith, _ = sun_position(time, latitude_deg=latitude[row], longitude_deg=longitude[row])
        cosines[row, 1] = np.cos(np.deg2rad(zenith))
    lai = variable == "LAI"
    column = "lai" if lai else "fcover_measured"
    return _measure(
        table,
        table[column].to_numpy("float64"),
        variable,
        cosines,
        group=(table["location"] + " " + table["date"]).to_numpy(str),
        fold=(table["location"] + " " + (table["date"] if lai else table["parcel"])).to_numpy(str),
        region=(np.full(len(table), "Switzerland") if lai else table["location"].to_numpy(str)),
        source=WHEAT,
    )


def _read(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path)
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise PairsError(f"cannot read the field measurements {path}: {error}") from error
    if not isinstance(table.index, pd.RangeIndex):
        raise PairsError(f"{path}: rows have more cells than there are columns")
    return table


def _measure(
    table: pd.DataFrame,
    measured: Floats,
    variable: str,
    cosines: Floats,
    *,
    group: Texts,
    fold: Texts,
    region: Texts,
    source: str,
) -> Measurements:
    at_angles, nominal = (
        sl2p_inputs(table, np.broadcast_to(angles, cosines.shape))
        for angles in (cosines, NOMINAL_COSINES)
    )
    with_angles, without = (
        sl2p.predict(x, variable=variable)[0].astype("float64") for x in (at_angles, nominal)
    )
    flags = sl2p.predict(at_angles)[1]  # the domain of LAI is used: that of FCOVER is not known
    return Measurements(
        measured=measured,
        sl2p=with_angles,
        sl2p_nominal=without,
        reflectance=table.reindex(columns=list(BANDS)).to_numpy("float64"),
        cosines=cosines,
        outside=(flags & INPUT_OUT_OF_DOMAIN).astype(bool),
        group=group,
        fold=fold,
        region=region,
        source=np.full(len(table), source),
    )
