"""Rows of fields and dates: CSV to read, GeoParquet with the geometries, a figure of each field."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd

from lai_udf import series
from lai_udf.atomic import new_files
from lai_udf.calibration import interval_of_mean, shared_error
from lai_udf.errors import RasterError
from lai_udf.field.plot import draw_field
from lai_udf.predict import UNUSABLE_FLAGS
from lai_udf.results import LaiResult, find_results
from lai_udf.smoothing import PARCEL_BANDS, smooth_parcel
from lai_udf.zonal import FLAG_BITS, MIN_VALID_SHARE, Observation, observe_zones

CSV = "fields.csv"
PARQUET = "fields.parquet"
SMOOTH_CSV = "fields_smooth.csv"
COLUMNS = {"lai": "mean", "lai_lower": "lower", "lai_upper": "upper", "lai_sd": "sd"}
"""Column by asset key; further variables keep their keys."""


def find_lai(directory: Path) -> list[LaiResult]:
    """Return the results below a folder; none where there is none yet."""
    try:
        return find_results([directory])
    except RasterError:
        return []


def choose_comparable(results: Sequence[LaiResult], folders: Iterable[Path]) -> list[LaiResult]:
    """Return the results of a run, and those of earlier ones that differ in their time alone."""
    ran = set(folders)
    ran_now = {each.path: each for each in results if ran & {each.path, *each.path.parents}}
    settings = {each.settings for each in ran_now.values()}
    times = {each.datetime for each in ran_now.values()}
    return [
        each
        for each in results
        if each.path in ran_now or (each.settings in settings and each.datetime not in times)
    ]


def build_table(
    fields: gpd.GeoDataFrame,
    results: Sequence[LaiResult],
    *,
    min_valid_share: float = MIN_VALID_SHARE,
    exclude_flags: int = UNUSABLE_FLAGS,
) -> pd.DataFrame:
    """Return a row for each field and overpass: field, date, mean, interval, valid share, flags.

    Args:
        fields: columns `id` and `geometry`, with a CRS.
        results: LAI on disk.
        min_valid_share: least usable share of a field that has a mean, 0-1.
        exclude_flags: bits that make a pixel unusable.

    Returns:
        Sorted by field and time. `mean`, `lower`, `upper` in m2 m-2, empty where too little of the
        field is usable; the bounds are those of the mean, of which the error that all pixels
        share stays (of field LAI that the shipped bundle made; else they are means of the
        pixels'); `valid_share` 0-1; `flag_<bit>`: share of the field's LAI that has it; `flags`:
        the bits that half of it has.
    """
    rows: list[dict[str, Any]] = []
    observed = observe_zones(
        list(fields.geometry),
        fields.crs,
        results,
        exclude_flags=exclude_flags,
        min_valid_share=min_valid_share,
    )
    for one in observed:
        rows += [_row(fields["id"].iloc[zone], zone, one) for zone in one.met]
    table = pd.DataFrame(rows)
    if table.empty:
        return table
    shared = shared_error(results)
    if shared is not None and {"lower", "upper"} <= set(table.columns):
        area_px = table["pixels"] * (results[0].grid.pixel_m / 20) ** 2
        mean, lower, upper = (
            table[name].to_numpy("float64") for name in ("mean", "lower", "upper")
        )
        bounds = interval_of_mean(mean, lower, upper, area_px.to_numpy("float64"), shared)
        table["lower"], table["upper"] = (ends.round(6) for ends in bounds)
    return table.sort_values(["field", "datetime"]).reset_index(drop=True)


def _row(name: str, zone: int, one: Observation) -> dict[str, Any]:
    statistics = one.statistics
    row: dict[str, Any] = {
        "field": name,
        "datetime": one.datetime.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "date": one.datetime.date().isoformat(),
    }
    row |= {
        COLUMNS.get(key, key): round(float(values[zone]), 6)
        for key, values in statistics.mean.items()
    }
    row["spread"] = round(float(statistics.standard_deviation["lai"][zone]), 6)
    row["valid_share"] = round(float(statistics.valid_share[zone]), 6)
    row["pixels"] = round(float(statistics.pixels[zone]), 3)
    row["flags"] = int(statistics.flags[zone])
    if statistics.flag_shares:
        row |= {
            f"flag_{bit}": round(float(statistics.flag_shares[bit][zone]), 6) for bit in FLAG_BITS
        }
    row["result"] = " ".join(result.name for result in one.results)
    return row


def smooth_table(
    table: pd.DataFrame, counted: pd.DataFrame, step_days: int = 5, level: float = 0.95
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Smooth the means of each field over time, gaps filled where they may be.

    Args:
        table: see `build_table`.
        counted: the same with `exclude_flags=series.IMPOSSIBLE_FLAGS`: what counts in a series.
        step_days: of the grid of dates.
        level: of the bounds.

    Returns:
        The table with a column `rejected` (1 where a mean does not fit the course of the others,
        empty where there is none); the series on the grid.
    """
    rejected, parts = pd.Series(np.nan, table.index), []
    for name, means_of_field in counted.rename(columns={"mean": "lai"}).groupby("field"):
        means = {
            column: means_of_field[column] for column in PARCEL_BANDS if column in means_of_field
        }
        if means["lai"].count() < 2:
            continue
        times = means_of_field["datetime"].astype(str).to_numpy()
        curve, rejected[means_of_field.index] = smooth_parcel(times, means, step_days, level)
        columns = {band.lower(): curve[band] for band in series.OUTPUT_BANDS}
        parts.append(pd.DataFrame({"field": name, "date": curve["time"].astype(str), **columns}))
    table = table.assign(rejected=rejected.astype("Int64"))
    return table, pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def write_tables(
    table: pd.DataFrame,
    fields: gpd.GeoDataFrame,
    directory: Path,
    smoothed: pd.DataFrame | None = None,
) -> list[Path]:
    """Write CSV, GeoParquet and a figure for each field; all of them appear, or none."""
    shapes = fields.set_index("id").geometry
    located = gpd.GeoDataFrame(
        table, geometry=[shapes[name] for name in table["field"]], crs=fields.crs
    )
    with new_files(directory) as work:
        table.to_csv(work / CSV, index=False)
        located.to_parquet(work / PARQUET, index=False)
        names = [CSV, PARQUET]
        if smoothed is not None and len(smoothed):
            smoothed.round(6).to_csv(work / SMOOTH_CSV, index=False)
            names.append(SMOOTH_CSV)
        for name, own in table.groupby("field"):
            curve = None
            if smoothed is not None and len(smoothed):
                curve = smoothed[smoothed["field"] == name]
            plain = "".join(c if c.isalnum() or c in "-_." else "-" for c in str(name))
            file = f"field_{plain}.png"
            taken = {known.lower() for known in names}  # also where case does not matter
            number = 2
            while file.lower() in taken:  # `a/1` beside `a-1`
                file, number = f"field_{plain}_{number}.png", number + 1
            (work / file).write_bytes(draw_field(str(name), own, curve))
            names.append(file)
    if SMOOTH_CSV not in names:
        (directory / SMOOTH_CSV).unlink(missing_ok=True)  # of an earlier run, of other means
    return [directory / name for name in names]
