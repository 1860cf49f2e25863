"""Tables 7-9 and figures 9-12 of the paper, for any parcels.

Comes in: observations (`means.observe_items`), with `truth` where it is known. Goes out: what
there is per crop (table 7), agreement per crop (table 8) and per season (table 9), and a figure per
season with a panel per crop: the network in red, SL2P in black.

The paper's layout is followed in what is compared; where it scores the network against SL2P only,
the truth and the coverage of the interval stand beside it.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd

from lai_training.parcels.crops import CROPS_BY_CODE
from lai_training.scores.metrics import mean_width, score
from lai_udf.atomic import move_finished, work_folder

SEASON_ORDER = ("winter", "spring", "summer", "all year", "other")
REPLICATES = 1000
"""Draws of the bootstrap."""


def count_parcels(observations: pd.DataFrame) -> pd.DataFrame:
    """Table 7: per crop its season, parcels, usable observations and mean valid fraction."""
    groups = observations.groupby(["season", "crop"], sort=False)
    table = groups.agg(
        parcels=("parcel", "nunique"),
        observations=("lai", "count"),
        mean_lai=("lai", "mean"),
        valid_fraction=("valid_fraction", "mean"),
    ).reset_index()
    table.insert(2, "name", [name_crop(code) for code in table["crop"]])
    return _in_order(table)


def score_parcels(observations: pd.DataFrame, by: str | None = None) -> pd.DataFrame:
    """Tables 8 (`by="crop"`) and 9 (`by="season"`): agreement of parcel means.

    Returns:
        A row per group (one row, `all`, without `by`): number of observations; network against
        SL2P (`rmse_sl2p`, `bias_sl2p`, `r2_sl2p`); where the truth is known RMSE and bias of both
        against it, share of it inside the parcel interval with the 95 % limits of a bootstrap by
        parcel (`coverage_low`, `coverage_high`: its dates share their errors), and mean width of
        the interval.
    """
    groups = observations.groupby(by, sort=False) if by else [("all", observations)]
    rows = [{by or "group": key, **_score(group)} for key, group in groups]
    return _in_order(pd.DataFrame(rows))


def _score(group: pd.DataFrame) -> dict[str, Any]:
    row: dict[str, Any] = {"n": int(group["lai"].count())}
    if "sl2p" in group:
        against = score(group["sl2p"], group["lai"])
        row |= {"rmse_sl2p": against.rmse, "bias_sl2p": against.bias, "r2_sl2p": against.r_squared}
    if "truth" in group:
        truth = group["truth"].where(group["lai"].notna())
        network = score(truth, group["lai"])
        row |= {"rmse_truth": network.rmse, "bias_truth": network.bias}
        if "sl2p" in group:
            teacher = score(truth, group["sl2p"])
            row |= {"sl2p_rmse_truth": teacher.rmse, "sl2p_bias_truth": teacher.bias}
        row |= _cover(group.assign(truth=truth).dropna(subset=["truth"]))
    row["width"] = mean_width(group["parcel_lower"], group["parcel_upper"])
    return row


def _cover(group: pd.DataFrame) -> dict[str, float]:
    """Return the share of true means inside their intervals, and its limits over parcels."""
    inside = group["truth"].between(group["parcel_lower"], group["parcel_upper"])
    parcels = inside.groupby(group["parcel"]).agg(["sum", "count"]).to_numpy(float)
    if not len(parcels):
        return dict.fromkeys(("coverage", "coverage_low", "coverage_high"), math.nan)
    rng = np.random.default_rng(0)
    draws = rng.multinomial(len(parcels), np.full(len(parcels), 1 / len(parcels)), REPLICATES)
    held, seen = (draws @ parcels).T
    low, high = np.percentile(held / seen, [2.5, 97.5])
    return {"coverage": inside.mean(), "coverage_low": low, "coverage_high": high}


def name_crop(code: str) -> str:
    """Return the English name of a crop code, or the code."""
    crop = CROPS_BY_CODE.get(code)
    return crop.name if crop else code


def _in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Order rows by season, then by crop as in `CROP_TYPES`."""
    seasons = {season: place for place, season in enumerate(SEASON_ORDER)}
    codes = {code: place for place, code in enumerate(CROPS_BY_CODE)}
    keys = {"season": seasons, "crop": codes}
    present = [name for name in ("season", "crop") if name in table]

    def place(column: pd.Series) -> pd.Series:
        return column.map(keys[str(column.name)]).fillna(len(codes))

    return table.sort_values(present, key=place, ignore_index=True) if present else table


def write_report(observations: pd.DataFrame, folder: Path) -> list[Path]:
    """Write observations, tables and figures; all files appear, or none.

    Args:
        observations: with `parcel_lower` and `parcel_upper`.
        folder: where to; made if missing.

    Returns:
        The files: `parcels.csv`, `table7_parcels.csv`, `table8_crops.csv`, `table9_seasons.csv`
        and `figure<9...>_<season>.png`.

    Raises:
        OutputNotWritableError: the folder cannot be written.
    """
    tables = {
        "parcels": observations,
        "table7_parcels": count_parcels(observations),
        "table8_crops": score_parcels(observations, "crop"),
        "table9_seasons": score_parcels(observations, "season"),
    }
    with work_folder(folder) as work:
        for name, table in tables.items():
            table.to_csv(work / f"{name}.csv", index=False, float_format="%.4g")
        for number, season in enumerate(SEASON_ORDER, start=9):
            group = observations[observations["season"] == season]
            if group["lai"].notna().any():
                name = f"figure{number}_{season.replace(' ', '_')}.png"
                draw_season(group, work / name, title=f"{season.capitalize()} crops")
        files = {path: folder / path.name for path in sorted(work.iterdir())}
        move_finished(files)
    return list(files.values())


def write_observations(observations: pd.DataFrame, parcels: gpd.GeoDataFrame, folder: Path) -> Path:
    """Write observations with the polygons of their parcels as GeoParquet, in degrees.

    Args:
        observations: a row per parcel and overpass.
        parcels: with columns `parcel` and `geometry`.
        folder: where `parcels.parquet` goes.

    Raises:
        OutputNotWritableError: the folder cannot be written.
    """
    shapes = parcels[["parcel", "geometry"]].to_crs("EPSG:4326")
    table = shapes.merge(observations, on="parcel", validate="1:m")
    with work_folder(folder) as work:
        table.to_parquet(work / "parcels.parquet", index=False)
        move_finished({work / "parcels.parquet": folder / "parcels.parquet"})
    return folder / "parcels.parquet"


def draw_season(observations: pd.DataFrame, path: Path, *, title: str) -> None:
    """Draw LAI over the year, a panel per crop: mean over parcels, and the mean interval."""
    from matplotlib import dates
    from matplotlib.figure import Figure  # the commands that draw nothing start without it

    crops = [code for code in CROPS_BY_CODE if code in set(observations["crop"])]
    crops += sorted(set(observations["crop"]) - set(crops))
    columns = min(3, len(crops))
    lines = -(-len(crops) // columns)
    figure = Figure(figsize=(4.2 * columns, 2.9 * lines + 0.7), layout="constrained")
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for place, (panel, code) in enumerate(zip(panels, crops, strict=False)):
        own = observations[observations["crop"] == code]
        _draw_crop(panel, own)
        count = own["parcel"].nunique()
        panel.set_title(f"{name_crop(code)} ({count} parcel{'s' * (count > 1)})", fontsize=10)
        locator: Any = dates.MonthLocator  # untyped
        formatter: Any = dates.DateFormatter
        panel.xaxis.set_major_locator(locator(bymonth=(1, 3, 5, 7, 9, 11)))
        panel.xaxis.set_major_formatter(formatter("%b"))
        panel.tick_params(labelbottom=place + columns >= len(crops))
    panels[0].set_ylim(bottom=0)  # for all; not before each has drawn its band
    for panel in panels[len(crops) :]:
        panel.set_axis_off()
    figure.supylabel("mean LAI of parcels (m² m⁻²)", fontsize=10)
    figure.suptitle(title, x=0.02, ha="left", fontsize=12)
    handles, labels = panels[0].get_legend_handles_labels()
    ncols = len(labels) if columns > 1 else 2
    figure.legend(handles, labels, loc="outside lower center", ncols=ncols, frameon=False)
    figure.savefig(path, dpi=130)


def _draw_crop(panel: Any, own: pd.DataFrame) -> None:  # noqa: ANN401  (untyped matplotlib axes)
    """Draw the mean curves of one crop, over the dates on which half of its parcels are seen."""
    shown = ["lai", "parcel_lower", "parcel_upper", "sl2p", "truth"]
    by_date = own.dropna(subset=["lai"]).groupby("datetime")
    means = by_date[[name for name in shown if name in own]].mean()
    seen = by_date["parcel"].nunique() >= 0.5 * own["parcel"].nunique()
    means = means[seen]
    days = pd.DatetimeIndex(means.index).tz_localize(None).to_numpy()
    panel.fill_between(
        days,
        means["parcel_lower"],
        means["parcel_upper"],
        color="0.87",
        label="95 % interval of a parcel",
    )
    style: dict[str, dict[str, Any]] = {
        "truth": {"color": "tab:blue", "ls": ":", "lw": 2, "label": "truth"},
        "sl2p": {
            "color": "black",
            "ls": "--",
            "lw": 1.3,
            "marker": "s",
            "ms": 6,
            "mfc": "none",
            "label": "SL2P",
        },
        "lai": {"color": "tab:red", "lw": 1.5, "marker": "o", "ms": 3.5, "label": "network"},
    }
    for name, how in style.items():
        if name in means:
            panel.plot(days, means[name], **how)
    panel.grid(alpha=0.25)


def format_report(observations: pd.DataFrame) -> str:
    """Return tables 7-9 and the total as plain text."""
    parts: list[tuple[str, Callable[[], pd.DataFrame]]] = [
        ("Table 7: parcels", lambda: count_parcels(observations)),
        ("Table 8: by crop", lambda: score_parcels(observations, "crop")),
        ("Table 9: by season", lambda: score_parcels(observations, "season")),
        ("All", lambda: score_parcels(observations)),
    ]
    return "\n\n".join(
        f"{title}\n{make().round(3).to_string(index=False)}" for title, make in parts
    )
