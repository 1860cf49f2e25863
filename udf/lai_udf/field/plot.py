"""Curves of LAI over time with their interval: years on the axis, gaps as gaps."""

import io

import matplotlib.dates as mdates
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

MARGIN = pd.Timedelta(days=15)  # around a date by itself
GAP_DAYS = 45  # over a longer time without a value no line is drawn
LINE, BAND = "#0e7147", "#90c15c"
COLUMNS = {"mean": "lai", "lower": "lai_lower", "upper": "lai_upper"}


def draw_field(name: str, table: pd.DataFrame, curve: pd.DataFrame | None = None) -> bytes:
    """Draw the rows of one field (see `build_table`) as a PNG, its smoothed curve as the line."""
    numbers = [name for name in COLUMNS if name in table]
    table = table.astype(dict.fromkeys(numbers, "float64"))  # columns of nothing are objects
    seen = table[np.isfinite(table["mean"])]
    days = pd.DatetimeIndex(pd.to_datetime(seen["datetime"]).dt.tz_localize(None))
    points = pd.DataFrame({"lai": seen["mean"].to_numpy()}, index=days)
    points["rejected"] = seen["rejected"].to_numpy() == 1 if "rejected" in seen else False
    if curve is not None and len(curve):
        line = curve.set_index(pd.DatetimeIndex(pd.to_datetime(curve["date"])))
    else:
        line = split_at_gaps(seen.set_index(days).rename(columns=COLUMNS))
    if not len(seen):
        return draw_curve(line, f"Field {name}: none of {len(table)} dates is usable", points)
    period = f"{days.min().date()} to {days.max().date()}"
    title = f"Field {name}, {period}: {len(seen)} of {len(table)} dates"
    return draw_curve(line, title, points)


def draw_curve(curve: pd.DataFrame, title: str = "", points: pd.DataFrame | None = None) -> bytes:
    """Draw LAI over time as a PNG.

    Args:
        curve: `lai`, and what there is of `lai_lower`, `lai_upper` (of LAI in the field) and
            `lai_sd` (of another acquisition), by time; NaN breaks the line.
        title: above it.
        points: `lai`, the means of single dates, by time; `rejected`: those that the curve leaves
            out.
    """
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.add_subplot()
    if {"lai_lower", "lai_upper"} <= set(curve):
        low, high = curve["lai_lower"], curve["lai_upper"]
        axes.fill_between(curve.index, low, high, color=BAND, alpha=0.35, lw=0, label="field LAI")
        alone = _by_themselves(curve["lai"])  # they have no band, but a bar
        axes.vlines(curve.index[alone], low[alone], high[alone], color=BAND, alpha=0.35, lw=4)
    if "lai_sd" in curve:
        low, high = (curve["lai"] + sign * 1.96 * curve["lai_sd"] for sign in (-1, 1))
        label = "another acquisition, 95 %"
        axes.fill_between(curve.index, low, high, color=BAND, alpha=0.6, lw=0, label=label)
    axes.plot(curve.index, curve["lai"], color=LINE, linewidth=1.2, label="LAI")
    if points is not None:
        for rejected, label in ((False, "mean of a date"), (True, "rejected: cloud or outlier")):
            some = points[points["rejected"] == rejected]
            colour = "none" if rejected else LINE
            if len(some):
                axes.scatter(some.index, some["lai"], 14, colour, edgecolors=LINE, label=label)
    axes.set_ylabel("LAI (m² m⁻²)")
    axes.set_ylim(bottom=0)
    if len(curve) == 1:
        axes.set_xlim(curve.index[0] - MARGIN, curve.index[0] + MARGIN)
    axes.xaxis.set_major_locator(mdates.AutoDateLocator())  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_formatter(mdates.DateFormatter("%-d %b\n%Y"))  # type: ignore[no-untyped-call]
    axes.grid(alpha=0.3)
    if len(curve):
        figure.legend(loc="outside lower center", ncols=5, frameon=False)
    axes.set_title(title, size=10, loc="left")
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=110)
    return image.getvalue()


def _by_themselves(values: pd.Series) -> NDArray[np.bool_]:
    """Return which values have no value before and none after them."""
    known = np.pad(values.notna().to_numpy(), 1)
    return known[1:-1] & ~known[:-2] & ~known[2:]


def split_at_gaps(values: pd.DataFrame) -> pd.DataFrame:
    """Return the columns of a curve by time, with a row of NaN in every gap."""
    values = values[[name for name in COLUMNS.values() if name in values]]
    long = np.flatnonzero(np.diff(values.index.to_numpy()) > np.timedelta64(GAP_DAYS, "D"))
    breaks = pd.DatetimeIndex(values.index.to_numpy()[long] + np.timedelta64(1, "D"))
    empty = pd.DataFrame(np.nan, index=breaks, columns=values.columns)
    joined = values if empty.empty else pd.concat([values, empty])
    return joined.sort_index()
