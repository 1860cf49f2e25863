"""Composites and seasons of a series: dekads, months, and when a crop grew and how much.

In: a dataset of `lai_udf.smooth`, or of `lai_udf.estimate` for composites; dims `t` or `time` and
any others, parcels included. Out: datasets with the other dimensions kept. In memory.
"""

from typing import Literal

import numpy as np
import numpy.typing as npt
import xarray as xr

from lai_udf.errors import MissingBandError
from lai_udf.predict import OUTPUT_BANDS, UNUSABLE_FLAGS, VARIABLES, LaiInputError
from lai_udf.series import TIME_SCALE_DAYS
from lai_udf.smoothing import find_time

Period = Literal["dekad", "month"]
Method = Literal["mean", "median", "best"]
Floats = npt.NDArray[np.float64]
BOUNDS = tuple(band for band in OUTPUT_BANDS if band != "LAI_FLAGS")
MIN_AMPLITUDE = 0.5  # LAI between base and peak, below which there is no season
SHARE = 0.2  # of the amplitude on either side, where a season starts and ends
_UNIT = VARIABLES["LAI"].unit
SEASON_UNITS = {"START": "", "START_SD": "d", "PEAK": "", "PEAK_SD": "d", "END": "", "END_SD": "d"}
SEASON_UNITS |= {"LENGTH": "d", "LENGTH_SD": "d", "PEAK_LAI": _UNIT, "PEAK_LAI_SD": _UNIT}
SEASON_UNITS |= {"INTEGRAL": f"{_UNIT} d", "INTEGRAL_SD": f"{_UNIT} d"}


def composite(data: xr.Dataset, period: Period = "dekad", method: Method = "mean") -> xr.Dataset:
    """Combine the dates of each dekad (days 1 to 10, 11 to 20, 21 to the last) or month.

    Args:
        data: `LAI` and what there is of `LAI_SD`, `LAI_LOWER`, `LAI_UPPER`; with `LAI_FLAGS`,
            pixels that statistics leave out are left out, with `REJECTED`, those dates.
        period: `dekad` or `month`.
        method: `mean`; `median` of LAI, and the bounds of that very date; `best`, the date of the
            smallest `LAI_SD`, or without it the one with the narrowest bounds.

    Returns:
        The same variables, on the first days of the periods, and `COUNT`, the dates used. The
        deviation and bounds of a mean are the mean ones: errors of neighbouring dates go together.

    Raises:
        MissingBandError: no LAI, or no time.
        lai_udf.predict.LaiInputError: an unknown period or method.
    """
    for name, value, known in (
        ("period", period, ("dekad", "month")),
        ("method", method, ("mean", "median", "best")),
    ):
        if value not in known:
            raise LaiInputError(parameter=name, value=value, expected=" or ".join(known))
    names = [name for name in BOUNDS if name in data]
    time = find_time({name: data[name] for name in names})
    usable = data["LAI"].notnull()
    if "LAI_FLAGS" in data:
        usable &= (data["LAI_FLAGS"].fillna(0).astype(int) & UNUSABLE_FLAGS) == 0
    if "REJECTED" in data:
        usable &= data["REJECTED"] != 1
    kept = data[names].where(usable)
    starts = _period_starts(data[time].values, period)
    pick = {"mean": _mean, "median": _median, "best": _best}[method]
    parts = []
    for start in np.unique(starts):
        part = kept.isel({time: np.flatnonzero(starts == start)})
        used = part["LAI"].count(time).rename("COUNT")
        parts.append(pick(part, time).assign(COUNT=used).expand_dims({time: [start]}))
    result = xr.concat(parts, time).transpose(time, ...)
    for name in names:
        result[name].attrs = dict(data[name].attrs)
    result["COUNT"].attrs = {"long_name": "dates used", "units": "1"}
    return result


def _period_starts(times: npt.NDArray[np.datetime64], period: Period) -> npt.NDArray[np.datetime64]:
    months = times.astype("datetime64[M]")
    days = times.astype("datetime64[D]")
    first = months.astype("datetime64[D]")
    if period == "dekad":
        number = np.minimum((days - first).astype(int) // 10, 2)
        first = first + (10 * number).astype("timedelta64[D]")
    return first.astype("datetime64[ns]")


def _mean(part: xr.Dataset, time: str) -> xr.Dataset:
    return part.mean(time, skipna=True)


def _median(part: xr.Dataset, time: str) -> xr.Dataset:
    """Take the date whose LAI is the (lower) median."""
    rank = part["LAI"].fillna(np.inf).argsort(part["LAI"].get_axis_num(time))
    middle = np.maximum((part["LAI"].count(time) - 1) // 2, 0)
    return part.isel({time: rank.isel({time: middle})})


def _best(part: xr.Dataset, time: str) -> xr.Dataset:
    if "LAI_SD" in part and "LAI_FLAGS" not in part:
        width = part["LAI_SD"]
    elif "LAI_UPPER" in part and "LAI_LOWER" in part:
        width = part["LAI_UPPER"] - part["LAI_LOWER"]
    else:
        raise MissingBandError("the best date needs LAI_SD or the bounds of LAI")
    return part.isel({time: width.fillna(np.inf).argmin(time)})


def season(data: xr.Dataset, *, share: float = SHARE) -> xr.Dataset:
    """Describe the main season of a series: when it starts, peaks and ends, and its integral.

    The season is that of the highest LAI. It starts where LAI, before the peak, last rises above
    its lowest value there plus `share` of the amplitude, and ends likewise. Give one season's
    dates, such as a year: `series.sel(t="2024")`.

    Args:
        data: of `lai_udf.smooth`: `LAI` and `LAI_SD`, a regular grid of dates.
        share: of the amplitude on either side, from 0.05 to 0.9.

    Returns:
        `START`, `PEAK`, `END` (dates), `LENGTH` (days), `PEAK_LAI`, `INTEGRAL` of LAI from start to
        end (m2 m-2 d), each with its standard deviation `..._SD` (that of a date in days). NaT or
        NaN where there is no season (amplitude below 0.5) or its side is not in the data. The
        deviations are those of the series; what all dates share, the difference of LAI from the
        field, is not in them.

    Raises:
        MissingBandError: no LAI, LAI_SD or time.
        lai_udf.predict.LaiInputError: `share` is out of range.
    """
    if not 0.05 <= share <= 0.9:
        raise LaiInputError(parameter="share", value=share, expected="from 0.05 to 0.9")
    if "LAI_SD" not in data:
        raise MissingBandError("a season needs LAI_SD: smooth the series first")
    time = find_time({"LAI": data["LAI"]} if "LAI" in data else {})
    ordered = data[["LAI", "LAI_SD"]].sortby(time)
    days = (ordered[time].values.astype("datetime64[s]").astype("int64") / 86_400).astype(float)

    def describe(lai: Floats, deviation: Floats) -> tuple[Floats, ...]:
        flat, spread = (part.reshape(-1, len(days)).T.astype(float) for part in (lai, deviation))
        described = describe_seasons(days, flat, spread, share)
        return tuple(values.reshape(lai.shape[:-1]) for values in described)

    results = xr.apply_ufunc(
        describe,
        ordered["LAI"],
        ordered["LAI_SD"],
        input_core_dims=[[time], [time]],
        output_core_dims=[[]] * len(SEASON_UNITS),
        dask="parallelized",
        output_dtypes=[np.float64] * len(SEASON_UNITS),
    )
    described = xr.Dataset(dict(zip(SEASON_UNITS, results, strict=True)))
    for name in ("START", "PEAK", "END"):
        seconds = (described[name] * 86_400).round()
        described[name] = seconds.fillna(0).astype("int64").astype("datetime64[s]")
        described[name] = described[name].astype("datetime64[ns]").where(seconds.notnull())
    for name, unit in SEASON_UNITS.items():
        described[name].attrs = {"units": unit} if unit else {}
    return described


def describe_seasons(
    days: Floats, lai: Floats, deviation: Floats, share: float = SHARE
) -> tuple[Floats, ...]:
    """Return what `SEASON_UNITS` names, (n,) each, of series (t, n); dates as days."""
    columns = np.arange(lai.shape[1])
    valid = np.isfinite(lai)
    top = np.where(valid, lai, -np.inf).argmax(axis=0)
    peak_lai, peak_sd = lai[top, columns], deviation[top, columns]
    times = np.arange(len(days))[:, None]
    sides, amplitudes = [], []
    for before in (True, False):
        inside = valid & ((times <= top) if before else (times >= top))
        base = np.where(inside, lai, np.inf).min(axis=0)
        amplitude = peak_lai - base
        level = base + share * amplitude
        sides.append(_find_crossing(days, lai, deviation, level, top, before))
        amplitudes.append(amplitude)
    none = ~valid.any(axis=0) | ~(np.maximum(*amplitudes) >= MIN_AMPLITUDE)
    (start, start_sd), (end, end_sd) = (
        tuple(np.where(none | ~(amplitude >= MIN_AMPLITUDE), np.nan, part) for part in side)
        for side, amplitude in zip(sides, amplitudes, strict=True)
    )
    near_top = valid & (lai >= peak_lai - peak_sd)
    spread = np.where(near_top, (days[:, None] - days[top]) ** 2, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        counted = np.maximum(near_top.sum(axis=0), 1)
        peak_time_sd = np.sqrt(np.nansum(spread, axis=0) / counted)
        step = float(np.median(np.diff(days))) if len(days) > 1 else 0.0
        peak_time_sd = np.maximum(peak_time_sd, step / np.sqrt(12))
    peak, peak_time_sd, peak_lai, peak_sd = (
        np.where(none, np.nan, values) for values in (days[top], peak_time_sd, peak_lai, peak_sd)
    )
    length = end - start, np.hypot(start_sd, end_sd)
    integral = _integrate(days, lai, deviation, start, end)
    sides_and_peak = start, start_sd, peak, peak_time_sd, end, end_sd
    return (*sides_and_peak, *length, peak_lai, peak_sd, *integral)


def _find_crossing(
    days: Floats,
    lai: Floats,
    deviation: Floats,
    level: Floats,
    top: npt.NDArray[np.intp],
    before: bool,
) -> tuple[Floats, Floats]:
    """Return when LAI crosses a level next to the peak, and how well that is known, days."""
    times, columns = np.arange(len(days))[:, None], np.arange(lai.shape[1])
    side = (times < top) if before else (times > top)
    below = side & (lai <= level)
    crosses = below.any(axis=0)
    outer = np.where(below, times, -1).max(axis=0)
    if not before:
        outer = np.where(below, times, len(days)).min(axis=0)
    outer = np.clip(outer, 0, len(days) - 1)
    inner = np.clip(outer + (1 if before else -1), 0, len(days) - 1)
    low, high = lai[outer, columns], lai[inner, columns]
    with np.errstate(invalid="ignore", divide="ignore"):
        part = np.where(high > low, (level - low) / (high - low), 0)
        slope = (high - low) / np.abs(days[inner] - days[outer])
        spread = (1 - part) * deviation[outer, columns] + part * deviation[inner, columns]
        error = spread / np.maximum(slope, 1e-3)
    moment = days[outer] + part * (days[inner] - days[outer])
    return np.where(crosses, moment, np.nan), np.where(crosses, error, np.nan)


def _integrate(
    days: Floats, lai: Floats, deviation: Floats, start: Floats, end: Floats
) -> tuple[Floats, Floats]:
    """Return the integral of LAI from start to end by trapezoids, and its deviation.

    Errors of dates go together as the process of `lai_udf.series` does (Matérn 3/2).
    """
    edges = np.concatenate([days[:1], (days[1:] + days[:-1]) / 2, days[-1:]])[:, None]
    with np.errstate(invalid="ignore"):
        width = np.minimum(edges[1:], end) - np.maximum(edges[:-1], start)
        width = np.maximum(width, 0)
    gap = (np.isnan(lai) & (width > 0)).any(axis=0) | np.isnan(start + end)
    width = np.nan_to_num(width)
    lag = np.sqrt(3) / TIME_SCALE_DAYS * np.abs(days[:, None] - days)
    correlation = (1 + lag) * np.exp(-lag)
    error = width * np.nan_to_num(deviation)
    variance = (error * (correlation @ error)).sum(axis=0)
    integral = (width * np.nan_to_num(lai)).sum(axis=0)
    return np.where(gap, np.nan, integral), np.where(gap, np.nan, np.sqrt(variance))
