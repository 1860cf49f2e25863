"""The curve of a place on a regular grid of dates, from what was observed: `lai_udf.series`."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lai_service.files.observations import Observation

MAX_STEP_DAYS = 60


@dataclass(frozen=True)
class SmoothedDate:
    """LAI of a place on one date of the grid."""

    date: str
    """Day, ISO 8601."""
    lai: float | None
    """Mean LAI, m2 m-2; None where too far from any usable date."""
    sd: float | None
    """Standard deviation of another acquisition about the curve, m2 m-2."""
    lower: float | None
    """Lower end of the 95 % interval of LAI in the field, m2 m-2."""
    upper: float | None
    """Upper end of it."""
    gap_days: float | None
    """Days to the nearest usable date."""


@dataclass(frozen=True)
class SmoothedPlace:
    """The curve of a place."""

    dates: list[SmoothedDate]
    """Every so many days, from the first to the last observation."""
    rejected: list[bool]
    """Of each observation: taken for cloud, haze or shadow, and left out of the curve."""


def smooth_place(
    observations: Sequence[Observation], step_days: int, level: float = 0.95
) -> SmoothedPlace:
    """Smooth the mean LAI of a place.

    Without spectra about two thirds of the clouds that the scene classes missed are found; mowing
    and harvest stay.

    Args:
        observations: of one place, in order of time, with the pixels that count in a series
            (`lai_udf.series.IMPOSSIBLE_FLAGS`).
        step_days: of the grid, from 1 to `MAX_STEP_DAYS`.
        level: of the bounds.
    """
    from lai_udf.series import OUTPUT_BANDS  # xarray takes half a second to import
    from lai_udf.smoothing import PARCEL_BANDS, smooth_parcel

    times = [one.datetime[:10] for one in observations]
    means = {name: [getattr(one, name) for one in observations] for name in PARCEL_BANDS}
    found, rejected = smooth_parcel(times, means, step_days, level)
    rows = zip(found["time"], *(found[name] for name in OUTPUT_BANDS), strict=True)
    dates = [SmoothedDate(str(day), *map(_number, values)) for day, *values in rows]
    return SmoothedPlace(dates, [bool(one) for one in rejected == 1])


def _number(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None
