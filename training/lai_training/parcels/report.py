"""Tables 7 to 9 and figures 9 to 12 of the paper, for any parcels, beside the paper's own numbers.

Input: observations (`means.observe_items`). Output: what there is per crop (tables 7 and 8),
agreement with SL2P per crop and season (table 9), and a figure per season with a panel per crop:
the network in red, SL2P in black. Where asked for, the curve of each parcel through clouds and
gaps, and its season (`lai_udf.series`), of observations with the pixels that count in a series:
`exclude_flags=series.IMPOSSIBLE_FLAGS`. Means have no spectra here: clouds that the scene classes
missed are found by LAI and time alone.
"""

from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd
import xarray as xr

from lai_training.metrics import mean_width, score
from lai_training.reporting import read_paper, write_files
from lai_udf.seasons import season as find_season
from lai_udf.series import OUTPUT_BANDS
from lai_udf.smoothing import PARCEL_BANDS, smooth_parcel

SEASON_ORDER = ("winter", "spring", "summer", "all year", "other")
AGREEMENT = ("correlation", "distance", "mse", "r_squared")
"""Columns of table 9."""


def name_crops() -> dict[str, str]:
    """Return the English names of crops of the French register by code, in order."""
    return dict(read_paper("crops").set_index("crop")["name"])


def count_parcels(observations: pd.DataFrame) -> pd.DataFrame:
    """Tables 7 and 8: per crop its season, parcels (the paper's beside), usable observations."""
    groups = observations.groupby(["season", "crop"], sort=False)
    table = groups.agg(
        parcels=("parcel", "nunique"),
        observations=("lai", "count"),
        mean_lai=("lai", "mean"),
        valid_fraction=("valid_fraction", "mean"),
    ).reset_index()
    names = name_crops()
    table.insert(2, "name", [names.get(code, code) for code in table["crop"]])
    paper = read_paper("parcels").set_index("crop")["parcels"].drop("all")
    table.insert(4, "paper_parcels", table["crop"].map(paper))
    return _in_order(table)


def compare_with_paper(observations: pd.DataFrame) -> pd.DataFrame:
    """Table 9: agreement with SL2P by crop, and of all crops of a season; the paper's beside.

    Returns:
        A row per crop and, `crop` = `all`, per season: what `score_parcels` returns, and the
        paper's `AGREEMENT` of the same crops as `paper_...` (its distance: mean of six dates).
    """
    by_crop = _score_groups(observations, ["season", "crop"])
    by_season = _score_groups(observations, ["season"]).assign(crop="all")
    paper = read_paper("parcels")
    paper["distance"] = paper.filter(regex=r"^\d{4}-").mean(axis=1)
    paper = paper[["season", "crop", *AGREEMENT]].rename(
        columns=lambda name: f"paper_{name}" if name in AGREEMENT else name
    )
    table = pd.concat([by_crop, by_season]).merge(paper, on=["season", "crop"], how="left")
    return _in_order(table)[["season", "crop", *table.columns.drop(["season", "crop"])]]


def score_parcels(observations: pd.DataFrame) -> dict[str, Any]:
    """Score parcel means.

    Returns:
        Number of observations; network against SL2P (`bias_sl2p` and `AGREEMENT`); mean width of
        the interval.
    """
    row: dict[str, Any] = {"n": int(observations["lai"].count())}
    if "sl2p" in observations:
        against = score(observations["sl2p"], observations["lai"])
        row |= {name: getattr(against, name) for name in AGREEMENT} | {"bias_sl2p": against.bias}
    row["width"] = mean_width(observations["parcel_lower"], observations["parcel_upper"])
    return row


def _score_groups(observations: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    groups = observations.groupby(by, sort=False)
    return pd.DataFrame(
        [{**dict(zip(by, key, strict=True)), **score_parcels(group)} for key, group in groups]
    )


def _in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Order rows by season, then by crop as in `name_crops`; others behind them, then `all`."""
    names = name_crops()
    seasons = {season: place for place, season in enumerate(SEASON_ORDER)}
    codes = {code: place for place, code in enumerate([*names, "other", "all"])}
    keys = {"season": seasons, "crop": codes}

    def place(column: pd.Series) -> pd.Series:
        return column.map(keys[str(column.name)]).fillna(len(names))

    return table.sort_values(["season", "crop"], key=place, ignore_index=True)


def write_report(
    observations: pd.DataFrame, folder: Path, parcels: gpd.GeoDataFrame | None = None
) -> list[Path]:
    """Write observations, tables and figures; all files appear, or none.

    The files are `parcels.csv`, `table7_parcels.csv`, `table9_agreement.csv`,
    `figure<9...>_<season>.png` and, where `parcels` are given, `parcels.parquet`: observations with
    their polygons, in degrees. Raises `OutputNotWritableError` where the folder cannot be written.
    """

    def draw(work: Path) -> None:
        if parcels is not None:
            shapes = parcels[["parcel", "geometry"]].to_crs("EPSG:4326")
            located = shapes.merge(observations, on="parcel", validate="1:m")
            located.to_parquet(work / "parcels.parquet", index=False)
        for number, season in enumerate(SEASON_ORDER, start=9):
            group = observations[observations["season"] == season]
            if group["lai"].notna().any():
                name = f"figure{number}_{season.replace(' ', '_')}.png"
                draw_season(group, work / name, title=f"{season.capitalize()} crops")

    tables = {
        "parcels": observations,
        "table7_parcels": count_parcels(observations),
        "table9_agreement": compare_with_paper(observations),
    }
    return write_files(folder, tables, draw=draw)


def draw_season(observations: pd.DataFrame, path: Path, *, title: str) -> None:
    """Draw LAI over the year, a panel per crop: mean over parcels, and the mean interval."""
    from matplotlib import dates
    from matplotlib.figure import Figure  # the commands that draw nothing start without it

    names = name_crops()
    crops = [code for code in names if code in set(observations["crop"])]
    crops += sorted(set(observations["crop"]) - set(crops))
    columns = min(3, len(crops))
    lines = -(-len(crops) // columns)
    figure = Figure(figsize=(4.2 * columns, 2.9 * lines + 0.7), layout="constrained")
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for place, (panel, code) in enumerate(zip(panels, crops, strict=False)):
        of_crop = observations[observations["crop"] == code]
        _draw_crop(panel, of_crop)
        count = of_crop["parcel"].nunique()
        panel.set_title(f"{names.get(code, code)} ({count} parcel{'s' * (count > 1)})", fontsize=10)
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


def _draw_crop(panel: Any, of_crop: pd.DataFrame) -> None:  # noqa: ANN401  (untyped matplotlib axes)
    """Draw the mean curves of one crop, over the dates on which half of its parcels are seen."""
    shown = ["lai", "parcel_lower", "parcel_upper", "sl2p"]
    by_date = of_crop.dropna(subset=["lai"]).groupby("datetime")
    means = by_date[[name for name in shown if name in of_crop]].mean()
    seen = by_date["parcel"].nunique() >= 0.5 * of_crop["parcel"].nunique()
    means = means[seen]
    days = pd.DatetimeIndex(means.index).tz_localize(None).to_numpy()
    panel.fill_between(
        days,
        means["parcel_lower"],
        means["parcel_upper"],
        color="0.87",
        label="95 % interval of a parcel",
    )
    styles: dict[str, tuple[str, dict[str, Any]]] = {
        "sl2p": ("SL2P", {"color": "black", "ls": "--", "lw": 1.3, "marker": "s", "mfc": "none"}),
        "lai": ("network", {"color": "tab:red", "lw": 1.5, "marker": "o", "ms": 3.5}),
    }
    for name, (label, style) in styles.items():
        if name in means:
            panel.plot(days, means[name], label=label, **style)
    panel.grid(alpha=0.25)


def format_report(observations: pd.DataFrame) -> str:
    """Return tables 7 to 9 as plain text."""
    tables = {
        "Tables 7 and 8: parcels": count_parcels(observations),
        "Table 9: against SL2P, the paper's UNet against SNAP beside it": compare_with_paper(
            observations
        ),
        "All": pd.DataFrame([score_parcels(observations)]),
    }
    return "\n\n".join(
        f"{title}\n{table.round(3).to_string(index=False, na_rep='')}"
        for title, table in tables.items()
    )


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
        phenology = find_season(data)
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
