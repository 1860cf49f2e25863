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
    for parcel, of_parcel in observations.groupby("parcel"):
        if of_parcel["lai"].count() < MIN_DATES:
            continue
        times = of_parcel["datetime"].dt.tz_localize(None).to_numpy("datetime64[D]")
        means = {column: of_parcel[column] for column in PARCEL_BANDS if column in of_parcel}
        smooth, _ = smooth_parcel(times, means, step_days)
        names = {"parcel": parcel, **of_parcel[["crop", "season"]].iloc[0]}
        bands = {band.lower(): smooth[band] for band in OUTPUT_BANDS}
        curves.append(pd.DataFrame({**names, "date": pd.to_datetime(smooth["time"]), **bands}))
    return pd.concat(curves, ignore_index=True) if curves else pd.DataFrame()


def describe_seasons(curves: pd.DataFrame) -> pd.DataFrame:
    """Return start, peak, end, length and integral of each parcel and calendar year.

    Of the curves of `smooth_parcels`: columns `parcel`, `crop`, `season`, `year` and, lower case,
    those of `lai_udf.season`.
    """
    rows = []
    for (parcel, year), curve in curves.groupby(["parcel", curves["date"].dt.year]):
        data = xr.Dataset(
            {name.upper(): ("time", curve[name].to_numpy()) for name in ("lai", "lai_sd")},
            coords={"time": curve["date"].to_numpy()},
        )
        phenology = season(data)
        values = {str(name).lower(): phenology[name].values.item() for name in phenology.data_vars}
        for name in ("start", "peak", "end"):
            values[name] = phenology[name.upper()].dt.floor("D").values[()]
        names = curve[["crop", "season"]].iloc[0]
        rows.append({"parcel": parcel, **names, "year": year, **values})
    return pd.DataFrame(rows)


def write_curves(observations: pd.DataFrame, step_days: int, folder: Path) -> list[Path]:
    """Write `curves.csv` and `seasons.csv`; both appear, or none."""
    curves = smooth_parcels(observations, step_days)
    seasons = describe_seasons(curves) if len(curves) else curves
    return write_files(folder, {"curves": curves, "seasons": seasons})
