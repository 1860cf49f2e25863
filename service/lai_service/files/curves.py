"""What becomes of the observations of a place: the interval of its mean, and its smoothed curve.

The error of field LAI has a part that all pixels share and one of each point. The first stays in a
mean, the second averages out (`lai_udf.calibration`). The model's bundle states how large each is.
The curve on a regular grid of dates is that of `lai_udf.series`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from lai_service.files.observations import Observation, PublishedResult
from lai_udf.bundle import Bundle, open_bundle
from lai_udf.calibration import interval_of_mean, shared_error


@lru_cache(maxsize=8)
def _opened(bundles: tuple[Path, ...]) -> tuple[Bundle, ...]:
    return tuple(map(open_bundle, bundles)) or (open_bundle(),)


def shared_part(results: Sequence[PublishedResult], bundles: tuple[Path, ...]) -> float | None:
    """Return the share of the error variance that all pixels have in common, if it is known.

    Args:
        results: of one series.
        bundles: models known here; none = the shipped one.
    """
    if results[0].chosen_by.target != "field":  # only who has field LAI needs the models
        return None
    return shared_error(results, _opened(bundles))


def narrowed(
    series: Sequence[Observation], shared: float, resolution_m: float
) -> list[Observation]:
    """Return observations whose bounds are those of the mean, not the mean of those of its pixels.

    Args:
        series: of one place.
        shared: see `shared_part`.
        resolution_m: pixel size, metres.
    """
    numbers = [(row.lai, row.lower, row.upper, row.pixels) for row in series]
    lai, lower, upper, pixels = np.array(numbers, np.float64).reshape(-1, 4).T
    ends = interval_of_mean(lai, lower, upper, pixels * (resolution_m / 20) ** 2, shared)
    return [
        row if np.isnan(low) else replace(row, lower=float(low), upper=float(high))
        for row, low, high in zip(series, *ends, strict=True)
    ]


MAX_STEP_DAYS = 60


@dataclass(frozen=True)
class SmoothedDate:
    """LAI of a place on one date of the grid."""

    date: str  # day, ISO 8601
    lai: float | None  # mean LAI, m2 m-2; None where too far from any usable date
    sd: float | None  # standard deviation of another acquisition about the curve, m2 m-2
    lower: float | None  # lower end of the interval of LAI in the field, m2 m-2
    upper: float | None  # upper end of it
    gap_days: float | None  # days to the nearest usable date


@dataclass(frozen=True)
class SmoothedPlace:
    """The curve of a place."""

    dates: list[SmoothedDate]  # every so many days, from the first to the last observation
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
