"""Leaf area index through clouds and gaps: an openEO user-defined function over time.

In:  a cube (t, bands, y, x) with `LAI`, optionally `LAI_LOWER`, `LAI_UPPER`, `LAI_FLAGS`, `SCL` and
     the reflectance of `EVIDENCE_BANDS`: what `predict.py` returns with `pass_through`.
Out: the same y and x on the dates that the context asks for, with the bands of `OUTPUT_BANDS`,
     float32, NaN where too far from any usable date; on the observed dates also `REJECTED`.

Every pixel is smoothed by itself: no number depends on its neighbours, on how a back-end cuts the
cube, or on dates without data. The grid of dates never comes from the chunk, whose dates differ
from its neighbours'. The file ships alone, its text inside the process graph: it imports nothing
of this project.

The method: log(LAI + 1.2) is a Gaussian process with a Matérn 3/2 covariance, filtered forwards
and backwards in time (Hartikainen and Särkkä 2010, 10.1109/MLSP.2010.5589113). A date is cloud,
haze or shadow if its spectrum leaves its own course in time and its LAI the course of LAI; an
abrupt fall (mowing, harvest, ploughing) parts the course in two, and the moment of the fall,
unknown within its gap, is averaged over. Read it from `apply_datacube`, at the end, and from
`smooth_pixels`.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, timedelta
from statistics import NormalDist
from typing import Any

import numpy as np
import xarray
from openeo.metadata import CubeMetadata

EVIDENCE_BANDS = ("B02", "B04", "B8A", "B11")
"""Bands that distinguish cloud, haze and shadow; LAI alone works with less."""
LAI_BANDS = ("LAI", "LAI_LOWER", "LAI_UPPER", "LAI_FLAGS", "SCL")
OUTPUT_BANDS = ("LAI", "LAI_SD", "LAI_LOWER", "LAI_UPPER", "GAP_DAYS")
REJECTED, FALL = "REJECTED", "FALL"
OBSERVED = "observed"

# Stated in predict.py, which this file cannot import; a test compares them.
INPUT_OUT_OF_DOMAIN, OUTPUT_TOO_LOW, OUTPUT_TOO_HIGH = 1, 8, 16
CLOUD_NEAR, NO_DATA_NEAR, RESIDUAL_CLOUD = 32, 64, 128
NO_DATA_SCENE_CLASSES = (0, 1)
MASKED_SCENE_CLASSES = (3, 8, 9, 10, 11)
WATER_SCENE_CLASS = 6
MIN_REFLECTANCE, MAX_REFLECTANCE = -0.2, 2.0

IMPOSSIBLE_FLAGS = OUTPUT_TOO_LOW
"""Bits that take a value out of a series, and a pixel out of a parcel's mean that goes into one;
others make it noisier or likelier a cloud. To leave those out costs more than they do harm."""
DOUBTFUL_SCENE_CLASSES = (2, 7)  # dark, unclassified
MIN_LAI, MAX_LAI = -0.5, 20.0  # beyond, a value is no LAI
MAX_DATES = 10_000
MAX_JUDGED = 100_000  # values that judge the scaling
BLOCK_PX = 2048  # pixels at a time: about 100 MB for 70 dates in and 70 out
MAX_GAP_DAYS = 60  # no value further from a usable date
MAX_EXTRAPOLATION_DAYS = 10  # nor before the first or after the last one
MARGIN_DAYS = 31  # a chunk may lack the first and last dates of the period

# All constants of the method are fixed: what a window estimated for itself would show as a seam.
LOG_SHIFT = 1.2  # the noise of log(LAI + 1.2) is about the same at every LAI
MEAN_Z = float(np.log(1.5 + LOG_SHIFT))  # prior mean, worth two dates
TIME_SCALE_DAYS = 40.0  # of the covariance of z
PROCESS_SD = 0.5  # of z about its mean
NOISE_SD = 0.06  # of z on a clear date
BAND_TIME_SCALE_DAYS = 90.0
BAND_NOISE_SHARE = 0.04  # noise variance over process variance of reflectance
BAND_PROCESS_SD = 0.04  # of visible reflectance
NEAR_MASK_NOISE, DOUBTFUL_NOISE = 4.0, 4.0  # factors on the variance
OUT_OF_DOMAIN_NOISE, TOO_HIGH_NOISE = 2.0, 4.0

HAZE_REFLECTANCE, HAZE_WIDTH = 0.02, 0.003  # brightening of B02 at even odds, and its slope
HAZE_NOISE = 0.015  # brightening that doubles the noise variance
SHADOW_DROP, SHADOW_WIDTH = 0.22, 0.04  # relative darkening of both B8A and B11
MIN_EVIDENCE, MAX_EVIDENCE = -3.0, 8.0  # log odds; a clear spectrum counts against a cloud
PRIOR_LOG_ODDS = -3.0  # of a cloud that the scene classification missed
FLAGGED_LOG_ODDS, OUT_OF_DOMAIN_LOG_ODDS = 1.0, 1.0  # flags 128 and 1
OUTLIER_SD = 0.6  # of z under cloud
MIN_FALL = 0.2  # of z: LAI 3 -> 2.2
MAX_KNOWN_SHARE = 0.5  # beyond this share of the process variance, a course shows no fall
FALL_SPACING_DAYS = 15
PASSES = 3
MAX_SQUARED_RESIDUAL = 6.0
SCALE_PRIOR_DATES, MIN_SCALE, MAX_SCALE = 8.0, 0.3, 4.0
# Factor on the standard deviation by the gap, days: from dates and blocks left out, see
# training/experiments/series. Real errors have longer tails than the model.
GAP_LENGTHS_DAYS, GAP_FACTORS = (0.0, 10.0, 30.0, 60.0), (1.3, 1.3, 1.4, 1.8)
FIELD_SD = 0.7  # of field LAI about LAI, shared by all dates: where no bounds come in


class LaiInputError(ValueError):
    """The cube or the context is not what the function needs: fields as in `predict.LaiError`."""

    def __init__(
        self,
        problem: str = "",
        *,
        parameter: str | None = None,
        value: object = None,
        expected: str | None = None,
    ) -> None:
        super().__init__(problem or f"{parameter} must be {expected}, not {value!r}")
        self.problem, self.parameter = problem, parameter
        self.value, self.expected = value, expected


def require(is_kept: bool, parameter: str, value: object, expected: str) -> None:
    """Raise `LaiInputError` where a rule for a parameter is not kept."""
    if not is_kept:
        raise LaiInputError(parameter=parameter, value=value, expected=expected)


@dataclass(frozen=True)
class SeriesOptions:
    """The `context` of the process graph, checked: a key of it is a field here."""

    dates: tuple[str, ...] | str | None = None
    """Output dates, ISO 8601, or `observed`: those of the cube."""
    step_days: int | None = None
    """Instead of `dates`: one output date every so many days from `start` to `end`."""
    start: str | None = None  # first day of the grid, ISO 8601
    end: str | None = None  # last day that the grid may reach
    period: tuple[str, ...] | None = None
    """First and last day that was loaded; other dates are refused. Without it, dates more than
    `MARGIN_DAYS` outside those of the cube are."""
    level: float = 0.95  # level of the incoming and outgoing bounds
    max_gap_days: float = MAX_GAP_DAYS  # no value where the nearest usable date is further away
    reflectance_scale: float = 1.0
    """reflectance = value * scale + offset, of the bands that predict.py passed through."""
    reflectance_offset: float | None = None
    """In reflectance, or in digital numbers if its size is 1 or more; None is 0."""

    def __post_init__(self) -> None:
        """Refuse values that no run could mean."""
        numbers = {"level": (0.5, 0.999), "max_gap_days": (1, 400), "reflectance_scale": (1e-9, 1)}
        for key, (low, high) in numbers.items():
            value = getattr(self, key)
            is_inside = type(value) in (int, float) and low <= value <= high
            require(is_inside, key, value, f"a number from {low} to {high}")
        offset = 0.0 if self.reflectance_offset is None else self.reflectance_offset
        is_offset = type(offset) in (int, float) and -1e9 < offset < 1
        require(is_offset, "reflectance_offset", offset, "a number below 1, such as -0.1")
        rule = f'ISO 8601 dates, or "{OBSERVED}", or step_days with start and end instead: the '
        rule += "dates of a chunk differ from its neighbours'"
        require((self.dates is None) != (self.step_days is None), "dates", self.dates, rule)
        step = self.step_days
        is_step = step is None or (type(step) is int and 1 <= step <= 366)
        require(is_step, "step_days", step, "a whole number of days")
        if self.dates != OBSERVED:
            self.list_dates()

    def list_dates(self) -> list[date]:
        """Return the output dates in the order asked for; none for `observed`."""
        if self.dates == OBSERVED:
            return []
        if self.step_days is not None:
            start, end = (read_date(key, getattr(self, key)) for key in ("start", "end"))
            require(start <= end, "end", self.end, "after start")
            count = (end - start).days // self.step_days + 1
            days = [start + timedelta(days=self.step_days * number) for number in range(count)]
        else:
            listed = () if isinstance(self.dates, str) or self.dates is None else self.dates
            require(len(listed) > 0, "dates", self.dates, f'ISO 8601 dates or "{OBSERVED}"')
            days = [read_date("dates", text) for text in listed]
        require(len(days) <= MAX_DATES, "dates", len(days), f"at most {MAX_DATES} days")
        twice = next((str(day) for day in days if days.count(day) > 1), None)
        require(twice is None, "dates", twice, "different days")
        return days


def read_date(key: str, text: object) -> date:
    """Return the day of an ISO 8601 date or time."""
    try:
        return date.fromisoformat(str(text)[:10])
    except ValueError as error:
        raise LaiInputError(parameter=key, value=text, expected="an ISO 8601 date") from error


def read_settings(context: dict[str, Any] | None) -> SeriesOptions:
    """Check the context; raise `LaiInputError` for an unknown key or an unusable value."""
    settings = {key: value for key, value in (context or {}).items() if value is not None}
    keys = [field.name for field in fields(SeriesOptions)]
    if unknown := sorted(set(settings) - set(keys)):
        raise LaiInputError(f"unknown context key {', '.join(unknown)}: use {', '.join(keys)}")
    for key in ("dates", "period"):
        if isinstance(settings.get(key), list):
            settings[key] = tuple(map(str, settings[key]))
    return SeriesOptions(**settings)


@dataclass(frozen=True)
class Course:
    """What a filter predicts at every time before it is updated with the value there.

    In units of the process: prior N(0, 1) for the value and for the scaled slope.
    """

    mean: np.ndarray  # (t, [bands,] n): value
    slope: np.ndarray  # slope times time scale / sqrt(3), same shape
    var: np.ndarray  # (t, n): variance of the value
    cov: np.ndarray  # (t, n): covariance of value and slope
    slope_var: np.ndarray  # (t, n): variance of the slope


def filter_forwards(
    values: np.ndarray, noise: np.ndarray, days: np.ndarray, scale_days: float, resets: np.ndarray
) -> Course:
    """Run a Kalman filter of the Matérn 3/2 process over time.

    Args:
        values: (t, [bands,] n), finite; bands share the noise.
        noise: (t, n) variance; infinite where there is no value.
        days: (t,), monotonic in either direction.
        scale_days: time scale of the covariance.
        resets: (t, n) bool: the course begins anew before this value.
    """
    count, pixels = noise.shape
    mean, slope = np.zeros(values.shape[1:]), np.zeros(values.shape[1:])
    var, cov, slope_var = np.ones(pixels), np.zeros(pixels), np.ones(pixels)
    course = Course(
        np.empty(values.shape), np.empty(values.shape), *(np.empty(noise.shape) for _ in range(3))
    )
    for k in range(count):
        if k and days[k] != days[k - 1]:
            step = np.sqrt(3) / scale_days * abs(days[k] - days[k - 1])
            fade = np.exp(-step)
            a, b, d = fade * (1 + step), fade * step, fade * (1 - step)
            mean, slope = a * mean + b * slope, d * slope - b * mean
            v, s = var - 1, slope_var - 1  # the process is stationary: prior variance 1
            var = a * a * v + 2 * a * b * cov + b * b * s + 1
            slope_var = b * b * v - 2 * b * d * cov + d * d * s + 1
            cov = (a * d - b * b) * cov - a * b * v + b * d * s
        if (new := resets[k]).any():
            for part, prior in ((mean, 0), (slope, 0), (var, 1), (cov, 0), (slope_var, 1)):
                np.copyto(part, prior, where=new)
        course.mean[k], course.slope[k] = mean, slope
        course.var[k], course.cov[k], course.slope_var[k] = var, cov, slope_var
        gain = 1 / (var + noise[k])
        innovation = (values[k] - mean) * gain
        mean, slope = mean + var * innovation, slope + cov * innovation
        slope_var = slope_var - cov * cov * gain
        cov, var = cov - cov * var * gain, var - var * var * gain
    return course


def filter_both_ways(
    values: np.ndarray, noise: np.ndarray, days: np.ndarray, scale_days: float, falls: "Falls"
) -> tuple[Course, Course]:
    """Return what the past and what the future predict at every time, its own value left out."""
    forwards = filter_forwards(values, noise, days, scale_days, falls.after)
    back = filter_forwards(values[::-1], noise[::-1], days[::-1], scale_days, falls.before[::-1])
    return forwards, Course(
        back.mean[::-1], -back.slope[::-1], back.var[::-1], -back.cov[::-1], back.slope_var[::-1]
    )


@dataclass(frozen=True)
class Prediction:
    """Value at every time from past and future, its own left out."""

    mean: np.ndarray  # (t, [bands,] n)
    var: np.ndarray  # (t, n)
    agreement: np.ndarray  # (t, n): exponent of the likelihood that past and future are one course
    log_norm: np.ndarray
    """(t, n): its normalisation; the ratio to two separate courses is exp(agreement + log_norm)."""


def combine(past: Course, future: Course) -> Prediction:
    """Multiply what past and future know, and divide by the prior, which both contain."""
    past_det = past.var * past.slope_var - past.cov**2
    future_det = future.var * future.slope_var - future.cov**2
    # Information of both, less that of the prior.
    i11, i12, i22 = past.slope_var / past_det, past.cov / past_det, past.var / past_det
    j11, j12, j22 = future.slope_var / future_det, future.cov / future_det, future.var / future_det
    a11, a12, a22 = i11 + j11 - 1, i12 + j12, i22 + j22 - 1
    determinant = a11 * a22 - a12 * a12
    var, cov = a22 / determinant, a12 / determinant
    if past.mean.ndim == 3:  # of spectra nothing more is asked
        mean = np.zeros_like(past.mean)
        for part, weight in (
            (past.mean, var * i11 - cov * i12),
            (past.slope, cov * i22 - var * i12),
            (future.mean, var * j11 - cov * j12),
            (future.slope, cov * j22 - var * j12),
        ):
            mean += weight[:, None] * part
        return Prediction(mean, var, np.zeros(0), np.zeros(0))
    past_h1, past_h2 = i11 * past.mean - i12 * past.slope, i22 * past.slope - i12 * past.mean
    future_h1 = j11 * future.mean - j12 * future.slope
    future_h2 = j22 * future.slope - j12 * future.mean
    h1, h2 = past_h1 + future_h1, past_h2 + future_h2
    mean, slope = var * h1 + cov * h2, (a11 * h2 + a12 * h1) / determinant
    apart = past_h1 * past.mean + past_h2 * past.slope
    apart += future_h1 * future.mean + future_h2 * future.slope
    agreement = 0.5 * (h1 * mean + h2 * slope - apart)
    log_norm = -0.5 * np.log(past_det * future_det * determinant)
    return Prediction(mean, var, agreement, log_norm)


def log_gauss(distance: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Return the log density of a Gaussian at a distance from its mean."""
    result: np.ndarray = -0.5 * (distance * distance / variance + np.log(2 * np.pi * variance))
    return result


@dataclass(frozen=True)
class Observations:
    """Dates of a block of pixels, (t, n) each."""

    days: np.ndarray  # (t,) days since 1970, rising: one observation a day
    usable: np.ndarray  # bool
    z: np.ndarray  # log(LAI + shift) about the mean of the pixel, in units of the process
    mean_z: np.ndarray  # (n,)
    noise: np.ndarray  # variance of z in units of the process; finite
    log_odds: np.ndarray  # of cloud, haze or shadow, from flags
    spectra: np.ndarray
    """(t, bands, n) of `EVIDENCE_BANDS` about their mean; 0 where unusable. All four, the two
    visible ones, or none."""
    mean_spectrum: np.ndarray  # (bands, n)
    has_spectrum: np.ndarray  # bool
    margins: Mapping[str, np.ndarray]
    """LAI less `LAI_LOWER`, `LAI_UPPER` less LAI, where there are these bands; NaN = not stated."""
    looks: np.ndarray
    """bool (looks, n): which of the dates that came in are usable; those of a day are one then."""
    day_of: np.ndarray  # (looks,) position in `days` of each date that came in


def average_looks(values: np.ndarray, counts: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return the means of the looks at each day, (days, [bands,] n); the mean of none is 0.

    Looks at one day, such as two products of one acquisition, share their errors: together they
    count as one.

    Args:
        values: (looks, [bands,] n) in the order of the days; not finite only where not counted.
        counts: (looks, n) bool: which are averaged.
        starts: positions of the first look at each day.
    """
    counts = counts[:, None] if values.ndim == 3 else counts
    total = np.add.reduceat(np.where(counts, values, 0), starts, dtype="float64")
    mean: np.ndarray = total / np.maximum(np.add.reduceat(counts, starts, dtype="float64"), 1)
    return mean


def read_observations(days: np.ndarray, bands: Mapping[str, np.ndarray]) -> Observations:
    """Judge what is usable and how noisy it is, from flags and scene classes."""
    lai = bands["LAI"].astype("float64")
    with np.errstate(invalid="ignore"):
        usable = (lai >= MIN_LAI) & (lai <= MAX_LAI)
    flags = np.nan_to_num(bands["LAI_FLAGS"]).astype(int) if "LAI_FLAGS" in bands else 0 * usable
    usable &= flags & IMPOSSIBLE_FLAGS == 0
    factor = np.where(flags & (CLOUD_NEAR | NO_DATA_NEAR), NEAR_MASK_NOISE, 1.0)
    # Too high is what SL2P makes of the densest crops: without them a peak would be cut off.
    factor = np.maximum(factor, np.where(flags & OUTPUT_TOO_HIGH, TOO_HIGH_NOISE, 1))
    if "SCL" in bands:
        classes = np.nan_to_num(bands["SCL"])
        hidden = (*NO_DATA_SCENE_CLASSES, *MASKED_SCENE_CLASSES, WATER_SCENE_CLASS)
        usable &= ~np.isin(classes, hidden)
        doubtful = np.isin(classes, DOUBTFUL_SCENE_CLASSES)
        factor = np.maximum(factor, np.where(doubtful, DOUBTFUL_NOISE, 1))
    outside = flags & INPUT_OUT_OF_DOMAIN > 0
    factor = factor * np.where(outside, OUT_OF_DOMAIN_NOISE, 1)
    log_odds = np.where(flags & RESIDUAL_CLOUD, FLAGGED_LOG_ODDS, 0.0)
    log_odds += PRIOR_LOG_ODDS + np.where(outside, OUT_OF_DOMAIN_LOG_ODDS, 0)
    labels = [band for band in EVIDENCE_BANDS if band in bands]
    labels = labels if len(labels) == len(EVIDENCE_BANDS) else labels[:2]
    labels = labels if set(EVIDENCE_BANDS[:2]) <= set(labels) else []
    spectra = np.zeros((len(lai), len(labels), lai.shape[1]))
    for position, band in enumerate(labels):
        spectra[:, position] = bands[band]
    has_spectrum = usable & np.isfinite(spectra).all(axis=1)
    sides = [("LAI_LOWER", 1), ("LAI_UPPER", -1)]
    margins = {
        band: np.where(usable, np.maximum(sign * (lai - bands[band]), 0), np.nan)
        for band, sign in sides
        if band in bands
    }
    looks, (days, starts, day_of) = usable, np.unique(days, return_index=True, return_inverse=True)
    if len(days) < len(looks):
        # A look suspected of cloud is left out where another one of the day is less so.
        least = np.minimum.reduceat(np.where(usable, log_odds, np.inf), starts)[day_of]
        usable, has_spectrum = (part & (log_odds <= least) for part in (usable, has_spectrum))
        margins = {band: np.where(usable, margin, np.nan) for band, margin in margins.items()}
        lai, factor, log_odds = (
            average_looks(part, usable, starts) for part in (lai, factor, log_odds)
        )
        spectra = average_looks(spectra, has_spectrum, starts)
        for band, margin in margins.items():
            stated = np.isfinite(margin)
            none = ~np.logical_or.reduceat(stated, starts)
            margins[band] = np.where(none, np.nan, average_looks(margin, stated, starts))
        usable, has_spectrum = (
            np.logical_or.reduceat(part, starts) for part in (usable, has_spectrum)
        )

    z = np.log(np.maximum(np.where(usable, lai, 1), 0) + LOG_SHIFT)
    mean_z = (np.where(usable, z, 0).sum(0) + 2 * MEAN_Z) / (usable.sum(0) + 2)
    z = np.where(usable, (z - mean_z) / PROCESS_SD, 0)
    spectra = np.where(has_spectrum[:, None], spectra, 0)
    mean_spectrum = spectra.sum(0) / np.maximum(has_spectrum.sum(0), 1)
    spectra = np.where(has_spectrum[:, None], spectra - mean_spectrum, 0)
    return Observations(
        days=days,
        usable=usable,
        z=z,
        mean_z=mean_z,
        noise=(NOISE_SD / PROCESS_SD) ** 2 * np.maximum(factor, 1),
        log_odds=log_odds,
        spectra=spectra,
        mean_spectrum=mean_spectrum,
        has_spectrum=has_spectrum,
        margins=margins,
        looks=looks,
        day_of=day_of,
    )


@dataclass(frozen=True)
class Falls:
    """Abrupt falls, (t, n) bool each."""

    after: np.ndarray  # the first date after a fall
    before: np.ndarray  # the last date before one


def mark_falls(after: np.ndarray, certain: np.ndarray) -> Falls:
    """Find the last certain date before each fall: the fall lies somewhere between the two."""
    before, pending = np.zeros_like(after), np.zeros(after.shape[1], dtype=bool)
    for k in range(len(after) - 1, -1, -1):
        before[k] = certain[k] & pending
        pending = (pending & ~before[k]) | after[k]
    return Falls(after, before)


def judge_spectra(
    seen: Observations, weight: np.ndarray, falls: Falls
) -> tuple[np.ndarray, np.ndarray]:
    """Compare every spectrum with its own course in time.

    Haze brightens B02 most; soil, which brightens B04 more, counts half; a shadow darkens B8A and
    B11 both. `weight`, 0 to 1, is how far each date is trusted.

    Returns:
        Log odds of cloud, haze or shadow, and a factor on the noise variance, (t, n) each.
    """
    trusted = np.where(seen.has_spectrum, BAND_NOISE_SHARE / np.maximum(weight, 1e-4), np.inf)
    course = combine(
        *filter_both_ways(seen.spectra, trusted, seen.days, BAND_TIME_SCALE_DAYS, falls)
    )
    excess = seen.spectra - course.mean
    blue, red = excess[:, 0], excess[:, 1]
    haze = np.minimum(blue, 1.5 * blue - 0.5 * red)
    uncertain = BAND_PROCESS_SD**2 * course.var
    width = np.sqrt(HAZE_WIDTH**2 + uncertain)
    log_odds = np.clip((haze - HAZE_REFLECTANCE) / width, MIN_EVIDENCE, MAX_EVIDENCE)
    if excess.shape[1] > 2:
        expected = np.maximum(course.mean[:, 2:] + seen.mean_spectrum[2:], 0.02)
        drop = (-excess[:, 2:] / expected).min(axis=1)
        shadow = (drop - SHADOW_DROP) / SHADOW_WIDTH
        log_odds = np.maximum(log_odds, np.clip(shadow, MIN_EVIDENCE, MAX_EVIDENCE / 2))
    noise = 1 + np.minimum(np.maximum(haze, 0) ** 2 / (HAZE_NOISE**2 + uncertain), 25)
    return np.where(seen.has_spectrum, log_odds, 0), np.where(seen.has_spectrum, noise, 1)


def judge_dates(
    seen: Observations,
    noise: np.ndarray,
    log_odds: np.ndarray,
    weight: np.ndarray,
    scale: np.ndarray,
    falls: Falls,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weigh four explanations of every LAI against each other.

    It continues the one course of past and future; the past's, before a fall; the future's, after
    a fall; or it is an outlier.

    Args:
        seen: the dates.
        noise: (t, n) variance of z.
        log_odds: (t, n) of cloud, haze or shadow, from flags and spectra.
        weight: (t, n) from 0 to 1, how far each date is trusted so far.
        scale: (n,) factor on all variances.
        falls: known so far.

    Returns:
        Probability of an outlier, log odds that a fall came just before, and the squared residual
        in units of its variance, (t, n) each.
    """
    z, trusted = seen.z, np.where(seen.usable, noise / np.maximum(weight, 1e-4), np.inf)
    past, future = filter_both_ways(z, trusted, seen.days, TIME_SCALE_DAYS, falls)
    both = combine(past, future)
    one_course = both.agreement / scale + both.log_norm
    residual, variance = z - both.mean, both.var + noise
    outlier_var = (OUTLIER_SD / PROCESS_SD) ** 2
    from_past, from_future = z - past.mean, z - future.mean
    past_var, future_var = past.var + noise, future.var + noise
    # A fall: the course with this date on the one side, the other side without it.
    least = MIN_FALL / PROCESS_SD
    known_past, known_future = past.var < MAX_KNOWN_SHARE, future.var < MAX_KNOWN_SHARE
    after_seen = future.mean + future.var / future_var * from_future
    before_seen = past.mean + past.var / past_var * from_past
    falls_after = known_future & (before_seen - future.mean > least) & (from_future > least)
    falls_before = known_past & (past.mean - after_seen > least) & (from_past < -least)
    falls_beside = known_past & known_future & (past.mean - future.mean > least)

    impossible = -1e9
    continues = one_course + log_gauss(residual, variance * scale)
    last_before = np.where(falls_after, log_gauss(from_past, past_var * scale), impossible)
    first_after = np.where(falls_before, log_gauss(from_future, future_var * scale), impossible)
    outlier = one_course + log_gauss(residual, variance * scale + outlier_var) + log_odds
    nearer = np.abs(from_past) < np.abs(from_future)
    nearest = np.where(nearer, from_past, from_future)
    nearest_var = np.where(nearer, past_var, future_var) * scale + outlier_var
    beside = np.where(falls_beside, log_gauss(nearest, nearest_var) + log_odds, impossible)

    kept, rejected = np.logaddexp(continues, last_before), np.logaddexp(outlier, beside)
    fall = first_after - np.logaddexp(kept, rejected)
    ratio = np.clip(np.logaddexp(kept, first_after) - rejected, -50, 50)
    probability = np.where(seen.usable, 1 / (1 + np.exp(ratio)), 0)
    return probability, np.where(seen.usable, fall, -np.inf), residual**2 / variance


def pick_falls(log_odds: np.ndarray, days: np.ndarray) -> np.ndarray:
    """Return (t, n) bool: the most probable falls, at least `FALL_SPACING_DAYS` apart."""
    candidate = log_odds > 0
    picked = candidate.copy()
    for k in np.flatnonzero(candidate.any(axis=1)):
        for j in range(k - 1, -1, -1):
            if days[k] - days[j] > FALL_SPACING_DAYS:
                break
            stronger = log_odds[j] > log_odds[k]
            picked[k] &= ~(candidate[j] & stronger)
            picked[j] &= ~(candidate[k] & ~stronger)
    return picked


@dataclass(frozen=True)
class Verdict:
    """What is thought of the dates of a block, (t, n) each but `scale`."""

    outlier: np.ndarray  # probability of cloud, haze or shadow
    noise: np.ndarray  # variance of z, haze included
    falls: Falls
    scale: np.ndarray  # (n,) factor on all variances: how much noisier than usual the pixel is


def judge(seen: Observations) -> Verdict:
    """Find clouds and falls, in passes that learn from each other."""
    shape = seen.usable.shape
    falls = Falls(np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool))
    scale, noise = np.ones(shape[1]), seen.noise
    weight, log_odds = seen.usable.astype("float64"), seen.log_odds
    outlier = np.zeros(shape)
    for step in range(PASSES):
        if seen.spectra.shape[1]:
            if step == 0:  # the brightest dates bend their own course: once without them
                evidence, _ = judge_spectra(seen, weight, falls)
                weight = weight / (1 + np.exp(np.clip(evidence + 1, -30, 30)))
            evidence, factor = judge_spectra(seen, weight, falls)
            noise, log_odds = seen.noise * factor, seen.log_odds + evidence
        weight = 1 / (1 + np.exp(log_odds)) if step == 0 else 1 - outlier
        outlier, fall, squared = judge_dates(seen, noise, log_odds, weight, scale, falls)
        if step < PASSES - 1:
            after = falls.after | pick_falls(fall, seen.days)
            outlier = np.where(after, 0, outlier)
            falls = mark_falls(after, seen.usable & ((log_odds < 0) | after))
        weight = seen.usable * (1 - outlier)
        squared = (weight * np.minimum(squared, MAX_SQUARED_RESIDUAL)).sum(0)
        scale = (squared + SCALE_PRIOR_DATES) / (weight.sum(0) + SCALE_PRIOR_DATES)
        scale = np.clip(scale, MIN_SCALE, MAX_SCALE)
    return Verdict(outlier, noise, confirm_falls(seen, falls, outlier < 0.5), scale)


def confirm_falls(seen: Observations, falls: Falls, trusted: np.ndarray) -> Falls:
    """Keep the falls after which LAI is lower than on the last trusted date before.

    What looked like one may have been the end of a cloud that was rejected later on.
    """
    accepted = seen.usable & trusted
    earlier = np.zeros_like(accepted)
    earlier[1:] = accepted[:-1]
    before, _ = find_neighbours(earlier)  # one date late: the last one before, not the date itself
    drop = np.take_along_axis(seen.z, np.maximum(before - 1, 0), 0) - seen.z
    return mark_falls(falls.after & (before > 0) & (drop > MIN_FALL / PROCESS_SD), accepted)


def find_neighbours(accepted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of the accepted dates before and after each time, (t, n); -1 if none.

    At an accepted date both are its own.
    """
    times = np.arange(len(accepted))[:, None]
    before = np.maximum.accumulate(np.where(accepted, times, -1), axis=0)
    last = len(accepted)
    after = np.minimum.accumulate(np.where(accepted, times, last)[::-1], axis=0)[::-1]
    return before, np.where(after == last, -1, after)


def smooth_pixels(
    days: np.ndarray,
    bands: Mapping[str, np.ndarray],
    targets: np.ndarray,
    *,
    level: float = 0.95,
    max_gap_days: float = MAX_GAP_DAYS,
) -> dict[str, np.ndarray]:
    """Smooth LAI over time, pixel by pixel.

    Args:
        days: (t,) days since 1970, ascending; equal ones are looks at one day, of which the usable
            ones least suspected of cloud by their flags are averaged pixel by pixel: they are no
            independent observations.
        bands: LAI and what else there is of `LAI_BANDS` and, in reflectance, `EVIDENCE_BANDS`;
            (t, n) each, NaN = no data.
        targets: (u,) days since 1970, ascending.
        level: of the bounds.
        max_gap_days: no value where the nearest usable date is further away.

    Returns:
        `OUTPUT_BANDS` on the targets, (u, n) float64, and on the dates that came in, (t, n):
        `REJECTED` (1, 0, NaN where there was no LAI) and `FALL`, bool, the first date after an
        abrupt fall. `LAI_SD` is what another acquisition would differ by; the bounds are of field
        LAI, whose error is shared by all dates.
    """
    seen = read_observations(days, bands)
    verdict = judge(seen)
    accepted = seen.usable & (verdict.outlier < 0.5)
    observed, pixels = accepted.shape
    merged = np.concatenate([seen.days, targets])
    order = np.argsort(merged, kind="stable")  # an observation comes before a target of its day
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    days, here = merged[order], place[observed:]

    def spread(values: np.ndarray, fill: float | bool) -> np.ndarray:
        result = np.full((len(merged), pixels), fill, dtype=values.dtype)
        result[place[:observed]] = values
        return result

    trust = np.maximum(1 - verdict.outlier, 1e-4)
    noise = np.where(seen.usable, verdict.noise / trust, np.inf)
    falls = Falls(spread(verdict.falls.after, False), spread(verdict.falls.before, False))
    past, future = filter_both_ways(
        spread(seen.z, 0.0), spread(noise, np.inf), days, TIME_SCALE_DAYS, falls
    )
    known = spread(accepted, False)
    before, after = (index[here] for index in find_neighbours(known))
    first, last = before < 0, after < 0
    since = np.where(first, np.inf, days[here][:, None] - days[before])
    until = np.where(last, np.inf, days[after] - days[here][:, None])
    with np.errstate(invalid="ignore"):  # without a neighbour on one side the other one counts
        share = since / np.maximum(since + until, 1e-9)
    share = np.where(last, 0, np.where(first, 1, share))
    gap = np.where(first | last, np.minimum(since, until) * 2, since + until)

    factor = verdict.scale * np.interp(gap, GAP_LENGTHS_DAYS, GAP_FACTORS) ** 2
    courses = [
        Course(*(getattr(side, f.name)[here] for f in fields(Course))) for side in (past, future)
    ]
    both = combine(*courses)
    lai, variance = to_lai(both.mean, both.var, seen.mean_z, factor)
    parted = find_parted(falls, known)[here]
    if parted.any():
        lai, variance = mix_fall(courses, share, seen.mean_z, factor, parted, lai, variance)
    deviation = np.sqrt(variance)

    quantile = NormalDist().inv_cdf(0.5 + level / 2)
    widths = []
    for band in ("LAI_LOWER", "LAI_UPPER"):
        stated = seen.margins.get(band, np.full(accepted.shape, np.nan))
        width = np.where(np.isfinite(stated), stated, quantile * FIELD_SD)
        width = spread(width, 0.0)
        low, high = (np.take_along_axis(width, np.maximum(i, 0), 0) for i in (before, after))
        shared = np.where(first, high, np.where(last, low, (1 - share) * low + share * high))
        widths.append(np.sqrt(shared**2 + (quantile * deviation) ** 2))
    nearest = np.minimum(since, until)
    near = (nearest <= max_gap_days) & ~((first | last) & (nearest > MAX_EXTRAPOLATION_DAYS))
    results = {
        "LAI": lai,
        "LAI_SD": deviation,
        "LAI_LOWER": np.maximum(lai - widths[0], 0),
        "LAI_UPPER": lai + widths[1],
    }
    results = {name: np.where(near, band, np.nan) for name, band in results.items()}
    results["GAP_DAYS"] = np.where(np.isfinite(nearest), nearest, np.nan)
    results[REJECTED] = np.where(seen.looks, ~accepted[seen.day_of], np.nan)
    results[FALL] = verdict.falls.after[seen.day_of]
    return results


def to_lai(
    mean: np.ndarray, var: np.ndarray, mean_z: np.ndarray, factor: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return LAI and the variance of another acquisition, from z in units of the process."""
    shifted = np.exp(mean_z + PROCESS_SD * mean)
    lai = np.maximum(shifted - LOG_SHIFT, 0)
    return lai, shifted**2 * (PROCESS_SD**2 * var + NOISE_SD**2) * factor


def find_parted(falls: Falls, known: np.ndarray) -> np.ndarray:
    """Return (t, n) bool: the time lies between the last date before a fall and the first after."""
    parted, pending = np.zeros_like(known), np.zeros(known.shape[1], dtype=bool)
    for k in range(len(known) - 1, -1, -1):
        pending &= ~falls.before[k]
        parted[k] = pending & ~known[k]
        pending = (pending & ~known[k]) | falls.after[k]
    return parted


def mix_fall(
    courses: Sequence[Course],
    share: np.ndarray,
    mean_z: np.ndarray,
    factor: np.ndarray,
    parted: np.ndarray,
    lai: np.ndarray,
    variance: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Average over the moment of a fall, which may be anywhere in its gap."""
    (above, above_var), (below, below_var) = (
        to_lai(course.mean, course.var, mean_z, factor) for course in courses
    )
    mixed = (1 - share) * above + share * below
    second = (1 - share) * (above_var + above**2) + share * (below_var + below**2)
    return np.where(parted, mixed, lai), np.where(parted, second - mixed**2, variance)


def smooth_series(
    times: Sequence[object] | np.ndarray,
    lai: Sequence[float] | np.ndarray,
    *,
    bands: Mapping[str, Sequence[float] | np.ndarray] | None = None,
    **context: Any,  # noqa: ANN401 - keys of SeriesOptions, which names and checks them
) -> dict[str, np.ndarray]:
    """Smooth one series, such as the mean LAI of a parcel.

    Args:
        times: of the values, any order; anything numpy reads as a date.
        lai: LAI, NaN = none.
        bands: what else there is of `LAI_BANDS` and `EVIDENCE_BANDS`, each as long as `lai`.
        **context: as in `SeriesOptions`: `dates`, or `step_days` with `start` and `end`.

    Returns:
        `time` (days), the bands of `OUTPUT_BANDS` and, for `dates="observed"`, `REJECTED` and
        `FALL`; one-dimensional, in the order asked for.

    Raises:
        LaiInputError: lengths differ, or the context is wrong.
    """
    settings = read_settings(context)
    columns = {"LAI": np.asarray(lai, dtype="float64")} | {
        name: np.asarray(values, dtype="float64") for name, values in (bands or {}).items()
    }
    labels = read_days(times)
    is_long = all(column.shape == labels.shape for column in columns.values())
    require(is_long, "lai", len(columns["LAI"]), "as long as times")
    targets = list_targets(labels, settings)
    names = output_names(settings)
    cube = {name: column[:, None, None] for name, column in columns.items()}
    refuse_scaled(cube, settings)
    result = smooth_arrays(labels, cube, targets, settings, names)
    curve = {name: result[:, position, 0, 0] for position, name in enumerate(names)}
    return {"time": targets.astype("datetime64[D]")} | curve


def read_days(times: Sequence[object] | np.ndarray) -> np.ndarray:
    """Return days since 1970 (t,) of times of any kind."""
    values = np.asarray(times)
    if values.size and values.dtype.kind not in "MOU":
        raise LaiInputError(f"the dates of LAI are {values.dtype}, not times")
    try:
        if values.dtype.kind in "OU":
            values = np.array([str(value)[:10] for value in values], dtype="U10")
        days = values.astype("datetime64[D]")
    except ValueError as error:
        raise LaiInputError(f"the dates of LAI are no times: {error}") from error
    if np.isnat(days).any():
        raise LaiInputError("a date of LAI is no time (NaT)")
    return days.astype("int64")


def list_targets(labels: np.ndarray, settings: SeriesOptions) -> np.ndarray:
    """Return the output days since 1970, in the order asked for.

    Raises:
        LaiInputError: a date outside the period that was loaded.
    """
    if settings.dates == OBSERVED:
        return labels
    targets = np.array(settings.list_dates(), dtype="datetime64[D]").astype("int64")
    if settings.period is not None:
        first, last = (
            np.datetime64(read_date("period", text), "D").astype("int64")
            for text in (settings.period[0], settings.period[-1])
        )
    elif len(labels):
        first, last = labels.min() - MARGIN_DAYS, labels.max() + MARGIN_DAYS
    else:
        return targets
    key = "dates" if settings.step_days is None else "start"
    outside = targets[(targets < first) | (targets > last)].astype("datetime64[D]")
    require(not len(outside), key, str(*outside[:1]), "inside the period that was loaded")
    return targets


def smooth_arrays(
    labels: np.ndarray,
    cube: Mapping[str, np.ndarray],
    targets: np.ndarray,
    settings: SeriesOptions,
    names: Sequence[str],
) -> np.ndarray:
    """Smooth bands as stored, (t, y, x) each, in blocks of rows; see `smooth_pixels`.

    `labels` (t,) and `targets` (u,) are days since 1970, in any order; returns (u, names, y, x)
    float32, see `output_names`.
    """
    order, target_order = np.argsort(labels, kind="stable"), np.argsort(targets, kind="stable")
    height, width = cube["LAI"].shape[1:]
    result = np.full((len(targets), len(names), height, width), np.nan, dtype="float32")
    if not len(labels):
        return result
    rows = max(1, BLOCK_PX // max(width, 1))
    for top in range(0, height, rows):
        block = slice(top, top + rows)
        pixels = {}
        for name, band in cube.items():
            values = band[order, block].reshape(len(order), -1)
            is_reflectance = name in EVIDENCE_BANDS
            pixels[name] = to_reflectance(values, settings) if is_reflectance else values
        limits = {"level": settings.level, "max_gap_days": settings.max_gap_days}
        smoothed = smooth_pixels(labels[order], pixels, targets[target_order], **limits)
        for position, name in enumerate(names):
            part = smoothed[name].reshape(len(targets), -1, width)
            result[target_order, position, block] = part
    return result


def refuse_scaled(cube: Mapping[str, np.ndarray], settings: SeriesOptions) -> None:
    """Refuse numbers as they lie on disk: a wrong scale must not yield a number."""
    step = max(1, int(np.sqrt(cube["LAI"].size / MAX_JUDGED)))
    sampled = {name: band[:, ::step, ::step].astype("float64") for name, band in cube.items()}
    lai = sampled["LAI"][np.isfinite(sampled["LAI"])]
    if lai.size and float(np.median(lai)) > MAX_LAI:
        raise LaiInputError(f"LAI is {np.median(lai):g} in the middle: scale it (m2 m-2) first")
    for name in EVIDENCE_BANDS:
        stored = sampled.get(name, np.zeros(0))
        values = stored[np.isfinite(stored)] * settings.reflectance_scale
        middle = float(np.median(values)) if values.size else 0.0
        rule = f"0.0001 for digital numbers: {name} is {middle:g} in the middle"
        require(middle <= MAX_REFLECTANCE, "reflectance_scale", settings.reflectance_scale, rule)


def to_reflectance(stored: np.ndarray, settings: SeriesOptions) -> np.ndarray:
    """Return reflectance float32, NaN where it is none; as in predict.py."""
    scale, offset = settings.reflectance_scale, settings.reflectance_offset or 0.0
    offset = offset * scale if abs(offset) >= 1 else offset
    reflectance = stored.astype("float32") * np.float32(scale) + np.float32(offset)
    with np.errstate(invalid="ignore"):
        possible = (reflectance >= MIN_REFLECTANCE) & (reflectance <= MAX_REFLECTANCE)
    return np.where(possible, reflectance, np.float32(np.nan))


def read_bands(cube: xarray.DataArray) -> dict[str, np.ndarray]:
    """Pick the bands by label, (t, y, x) each, as stored."""
    labels = [str(label) for label in cube["bands"].values]
    if "LAI" not in labels:
        raise LaiInputError(f"band LAI missing: the cube has {', '.join(labels)}")
    values = cube.transpose("t", "bands", "y", "x").values
    used = [name for name in (*LAI_BANDS, *EVIDENCE_BANDS) if name in labels]
    return {name: values[:, labels.index(name)] for name in used}


def apply_datacube(cube: xarray.DataArray, context: dict) -> xarray.DataArray:  # type: ignore[type-arg]
    """Smooth LAI over the dates of one chunk.

    Args:
        cube: dims (t, bands, y, x), bands labelled, see the top; dates in any order.
        context: keys and defaults as in `SeriesOptions`; others are refused.

    Returns:
        Dims (t, bands, y, x), the dates asked for, y and x uncropped, float32.

    Raises:
        LaiInputError: for cubes or contexts that would give a wrong number.
    """
    settings = read_settings(context)
    if {"t", "bands", "y", "x"} != set(cube.dims):
        raise LaiInputError(f"cube has dims {cube.dims}; needed: (t, bands, y, x)")
    if "bands" not in cube.coords or "t" not in cube.coords:
        raise LaiInputError("cube has no labels of t or bands; apply it to a labelled cube")
    if "GAP_DAYS" in cube["bands"].values:
        raise LaiInputError("the cube is a series already (GAP_DAYS): give LAI of single dates")
    labels = read_days(cube["t"].values)
    targets = list_targets(labels, settings)
    arrays, bands = read_bands(cube), output_bands(settings)
    refuse_scaled(arrays, settings)
    smoothed = smooth_arrays(labels, arrays, targets, settings, bands)
    times = targets.astype("datetime64[D]").astype("datetime64[ns]")
    times = cube["t"].values if settings.dates == OBSERVED else times
    kept = {dim: cube[dim] for dim in ("y", "x") if dim in cube.coords}
    labelled = {"t": times, "bands": list(bands), **kept}
    return xarray.DataArray(smoothed, dims=("t", "bands", "y", "x"), coords=labelled)


def output_bands(settings: SeriesOptions) -> tuple[str, ...]:
    """Return the labels of the output bands."""
    return (*OUTPUT_BANDS, REJECTED) if settings.dates == OBSERVED else OUTPUT_BANDS


def output_names(settings: SeriesOptions) -> tuple[str, ...]:
    """Return what Python gets: the output bands and, on the observed dates, `FALL`."""
    return (*output_bands(settings), FALL) if settings.dates == OBSERVED else OUTPUT_BANDS


def apply_metadata(metadata: CubeMetadata, context: dict) -> CubeMetadata:  # type: ignore[type-arg]
    """Return the metadata of the cube with the output bands and the dates of the series."""
    settings = read_settings(context)
    described = copy.deepcopy(metadata).rename_labels("bands", list(output_bands(settings)))
    days = settings.list_dates()
    if days and described.has_temporal_dimension():
        described.temporal_dimension.extent = [min(days).isoformat(), max(days).isoformat()]
    return described
