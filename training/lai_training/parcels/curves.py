"""The curve of each parcel through clouds and gaps, and its season: `lai_udf.series`.

In: a row per parcel and overpass (`parcels.means`, with the pixels that count in a series:
`exclude_flags=series.IMPOSSIBLE_FLAGS`). Out: a row per parcel and date of a regular
grid, and a row per parcel and calendar year. Means have no spectra here: clouds that the scene
classes missed are found by LAI and time alone.
"""

from pathlib import Path

import pandas as pd
import xarray as xr

from lai_training.reporting import write_files
from lai_udf.seasons import season
from lai_udf.series import OUTPUT_BANDS
from lai_udf.smoothing import PARCEL_BANDS, smooth_parcel

MIN_DATES = 2


def smooth_parcels(observations: pd.DataFrame, step_days: int) -> pd.DataFrame:
    """Return the curve of every parcel that was seen on two dates at least.

    From the first to the last observation of the parcel (`observe_items`), every `step_days` days:
    columns `parcel`, `crop`, `season`, `date` and, lower case, `series.OUTPUT_BANDS`. Raises
    `LaiInputError` where `step_days` is no number of days.
    """
    curves = []
    for parcel, own in observations.groupby("parcel"):
        if own["lai"].count() < MIN_DATES:
            continue
        times = own["datetime"].dt.tz_localize(None).to_numpy("datetime64[D]")
        means = {column: own[column] for column in PARCEL_BANDS if column in own}
        found, _ = smooth_parcel(times, means, step_days)
        names = {"parcel": parcel, **own[["crop", "season"]].iloc[0]}
        bands = {band.lower(): found[band] for band in OUTPUT_BANDS}
        curves.append(pd.DataFrame({**names, "date": pd.to_datetime(found["time"]), **bands}))
    return pd.concat(curves, ignore_index=True) if curves else pd.DataFrame()


def describe_seasons(curves: pd.DataFrame) -> pd.DataFrame:
    """Return start, peak, end, length and integral of each parcel and calendar year.

    Of the curves of `smooth_parcels`: columns `parcel`, `crop`, `season`, `year` and, lower case,
    those of `lai_udf.season`.
    """
    rows = []
    for (parcel, year), own in curves.groupby(["parcel", curves["date"].dt.year]):
        data = xr.Dataset(
            {name.upper(): ("time", own[name].to_numpy()) for name in ("lai", "lai_sd")},
            coords={"time": own["date"].to_numpy()},
        )
        found = season(data)
        values = {str(name).lower(): found[name].values.item() for name in found.data_vars}
        for name in ("start", "peak", "end"):
            values[name] = pd.Timestamp(found[name.upper()].values).floor("D")
        names = own[["crop", "season"]].iloc[0]
        rows.append({"parcel": parcel, **names, "year": year, **values})
    return pd.DataFrame(rows)


def write_curves(observations: pd.DataFrame, step_days: int, folder: Path) -> list[Path]:
    """Write `curves.csv` and `seasons.csv`; both appear, or none."""
    curves = smooth_parcels(observations, step_days)
    seasons = describe_seasons(curves) if len(curves) else curves
    return write_files(folder, {"curves": curves, "seasons": seasons})
