"""The curve of a field: LAI with its interval over time, years on the axis, gaps as gaps."""

import io

import matplotlib.dates as mdates
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

GAP_DAYS = 45
"""Over a longer time without a value no line is drawn."""

LINE, BAND = "#0e7147", "#90c15c"


def draw_field(name: str, table: pd.DataFrame, curve: pd.DataFrame | None = None) -> bytes:
    """Draw the rows of one field.

    Args:
        name: of the field.
        table: its rows, see `lai_udf.field.table.build_table`.
        curve: its smoothed series, which is then the line.

    Returns:
        PNG.
    """
    seen = table[np.isfinite(table["mean"])]
    days = pd.to_datetime(seen["datetime"]).dt.tz_localize(None)
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.add_subplot()
    if curve is not None and len(curve):
        at = pd.to_datetime(curve["date"])
        axes.fill_between(
            at, curve["lai_lower"], curve["lai_upper"], color=BAND, alpha=0.35, label="interval"
        )
        axes.plot(at, curve["lai"], color=LINE, linewidth=1.2, label="smoothed")
        axes.scatter(days, seen["mean"], color=LINE, s=14, label="mean of a date")
    else:
        broken = split_at_gaps(days, seen)
        if {"lower", "upper"} <= set(broken):
            axes.fill_between(
                broken.index, broken["lower"], broken["upper"], color=BAND, alpha=0.35,
                label="interval",
            )  # fmt: skip
        axes.plot(broken.index, broken["mean"], color=LINE, linewidth=1)
        axes.scatter(days, seen["mean"], color=LINE, s=16, label="mean of a date")
    axes.set_ylabel("LAI (m² m⁻²)")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(mdates.AutoDateLocator())  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_formatter(mdates.DateFormatter("%-d %b\n%Y"))  # type: ignore[no-untyped-call]
    axes.grid(alpha=0.3)
    if len(seen):
        axes.legend(loc="upper right", frameon=False)
        first, last = days.min().date(), days.max().date()
        axes.set_title(
            f"Field {name}, {first} to {last}: {len(seen)} of {len(table)} dates",
            size=10,
            loc="left",
        )
    else:
        axes.set_title(f"Field {name}: none of {len(table)} dates is usable", size=10, loc="left")
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=110)
    return image.getvalue()


def split_at_gaps(days: pd.Series, seen: pd.DataFrame) -> pd.DataFrame:
    """Return the values by day, with a row of NaN in every gap."""
    columns = [name for name in ("mean", "lower", "upper") if name in seen]
    values = seen[columns].set_index(pd.DatetimeIndex(days))
    long = np.flatnonzero(np.diff(values.index.to_numpy()) > np.timedelta64(GAP_DAYS, "D"))
    breaks = pd.DatetimeIndex(values.index.to_numpy()[long] + np.timedelta64(1, "D"))
    empty = pd.DataFrame(np.nan, index=breaks, columns=columns)
    joined = values if empty.empty else pd.concat([values, empty])
    return joined.sort_index()
