"""A time series as a picture."""

import io
from collections.abc import Sequence
from datetime import datetime

from matplotlib.figure import Figure

from lai_service.files.parcels import Observation

__all__ = ["plot_series"]


def plot_series(series: Sequence[Observation]) -> bytes:
    """Draw mean LAI with its interval over time.

    Args:
        series: observations in order of time; those without a value are left out.

    Returns:
        A PNG image; points are paler where less of the place is valid.
    """
    shown = [o for o in series if o.lai is not None]
    times = [datetime.fromisoformat(o.datetime) for o in shown]
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.add_subplot()
    with_interval = [o for o in shown if o.lower is not None and o.upper is not None]
    if with_interval and len(with_interval) == len(shown):
        axes.fill_between(
            times,  # type: ignore[arg-type]  # matplotlib accepts datetimes here
            [o.lower or 0.0 for o in shown],
            [o.upper or 0.0 for o in shown],
            color="#78c679",
            alpha=0.35,
            label="95 % interval",
        )
    values = [o.lai or 0.0 for o in shown]
    axes.plot(times, values, color="#006837", linewidth=1)  # type: ignore[arg-type]
    axes.scatter(
        times,  # type: ignore[arg-type]
        values,
        c=[(0.0, 0.41, 0.22, 0.25 + 0.75 * o.valid_fraction) for o in shown],
        s=18,
        label="mean LAI",
    )
    axes.set_ylabel("LAI (m² m⁻²)")
    axes.set_ylim(bottom=0)
    figure.autofmt_xdate()
    axes.grid(alpha=0.3)
    if shown:
        axes.legend(loc="upper right")
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=110)
    return image.getvalue()
