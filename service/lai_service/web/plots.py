"""A time series as a picture."""

import io
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lai_service.files.curves import SmoothedPlace
from lai_service.files.observations import Observation

GAP = timedelta(days=45)
"""Over a longer time without a value no line is drawn."""


def plot_series(series: Sequence[Observation], curve: SmoothedPlace | None = None) -> bytes:
    """Draw mean LAI with its interval over time; the line breaks where nothing was seen.

    Args:
        series: observations in order of time; those without a value are left out.
        curve: of the same observations; drawn instead of the line from date to date.

    Returns:
        A PNG image; points are paler where less of the place is valid, crosses where rejected.
    """
    rejected = [False] * len(series) if curve is None else curve.rejected
    pairs = list(zip(series, rejected, strict=True))
    cloudy = [o for o, no in pairs if o.lai is not None and no]
    shown = [o for o, no in pairs if o.lai is not None and not no]
    times, lai, lower, upper = lines(shown)
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.add_subplot()
    days, middle, low, high = (times, lai, lower, upper) if curve is None else _curve_lines(curve)
    if np.isfinite(low).any():
        axes.fill_between(days, low, high, color="#78c679", alpha=0.35, label="95 % interval")
    axes.plot(days, middle, color="#006837", linewidth=1)
    colours = [(0.0, 0.41, 0.22, 0.25 + 0.75 * o.valid_fraction) for o in shown]
    seen = np.isfinite(lai)
    axes.scatter(times[seen], lai[seen], c=colours or None, s=18, label="mean LAI")
    if cloudy:
        days, middle, *_ = lines(cloudy)
        axes.scatter(days, middle, c="#d7301f", marker="x", s=22, label="rejected")
    axes.set_ylabel("LAI (m² m⁻²)")
    axes.set_ylim(bottom=0)
    locator = AutoDateLocator()  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    years = ConciseDateFormatter(locator)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_formatter(years)
    axes.grid(alpha=0.3)
    if shown:
        axes.legend(loc="upper right")
        first, last = shown[0].datetime[:10], shown[-1].datetime[:10]
        axes.set_title(f"{first} to {last}, {len(shown)} dates", size=10)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=110)
    return image.getvalue()


def _curve_lines(curve: SmoothedPlace) -> tuple[NDArray[np.float64], ...]:
    """Return days since 1970, LAI and the ends of its interval; NaN where there is no value."""
    days = np.array([date.date for date in curve.dates], dtype="datetime64[D]").astype(np.float64)
    names = ("lai", "lower", "upper")
    columns = (np.array([getattr(d, name) for d in curve.dates], np.float64) for name in names)
    return days, *columns


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def lines(series: Sequence[Observation]) -> tuple[NDArray[np.float64], ...]:
    """Return days since 1970, LAI and the ends of its interval, with NaN where a line breaks.

    Args:
        series: observations with a value, in order of time.
    """
    times = (datetime.fromisoformat(o.datetime) for o in series)
    days = np.array([(time - _EPOCH) / timedelta(days=1) for time in times], np.float64)
    breaks = np.flatnonzero(np.diff(days) > GAP.days) + 1
    columns = [
        np.array([getattr(o, name) for o in series], np.float64)
        for name in ("lai", "lower", "upper")
    ]
    gaps = [np.insert(column, breaks, np.nan) for column in columns]
    return np.insert(days, breaks, days[breaks - 1]), *gaps
