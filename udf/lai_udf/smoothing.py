"""Series of a dataset in Python: `lai_udf.smooth`, the function of `lai_udf.series`.

In: LAI over time as `lai_udf.estimate`, openEO or a file give it. Out: LAI on the dates asked for,
through clouds and gaps. Lazy where the data are of Dask: blocks of y and x, all dates together.
"""

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from lai_udf import series
from lai_udf.errors import MissingBandError, name_as_keyword
from lai_udf.predict import BANDS, VARIABLES, LaiError, LaiInputError
from lai_udf.scenes.metadata import Declared, Offset
from lai_udf.series import EVIDENCE_BANDS, FALL, LAI_BANDS, OBSERVED, REJECTED

TIME_NAMES = ("t", "time")
NEW_TIME = "new_time"
PARCEL_BANDS = {"lai": "LAI", "lower": "LAI_LOWER", "upper": "LAI_UPPER", "flags": "LAI_FLAGS"}
"""Band of a series by column of a table of parcels."""
LONG_NAMES = {
    "LAI": "leaf area index",
    "LAI_SD": "standard deviation of another acquisition about the series",
    "LAI_LOWER": "lower bound of the prediction interval of leaf area index in the field",
    "LAI_UPPER": "upper bound of the prediction interval of leaf area index in the field",
    "GAP_DAYS": "time to the nearest usable date",
    REJECTED: "date is rejected as cloud, haze or shadow",
    FALL: "first date after an abrupt fall: mowing, harvest, ploughing or fast senescence",
}


def smooth(
    lai: xr.Dataset | xr.DataArray,
    *,
    dates: Sequence[object] | str | None = None,
    step_days: int | None = None,
    start: object = None,
    end: object = None,
    evidence: xr.Dataset | xr.DataArray | None = None,
    scale: float | None = None,
    offset: Offset | None = None,
    level: float | None = None,
    max_gap_days: float = series.MAX_GAP_DAYS,
) -> xr.Dataset:
    """Smooth LAI over time, pixel by pixel, and give it on a grid of dates.

    Residual cloud, haze and shadow are rejected, by spectra if there are any; mowing, harvest and
    ploughing stay; gaps are filled up to `max_gap_days` from a usable date.

    Args:
        lai: `LAI`, better with `LAI_FLAGS`, `LAI_LOWER`, `LAI_UPPER`; dims `t` or `time`, and any
            others; variables, or a dimension `bands`. Of dates of one day the usable pixels least
            suspected of cloud by their flags are averaged: two products of one acquisition
            count as one.
        dates: output dates, or `observed`: those of the data.
        step_days: instead: one date every so many days from `start` to `end`, by default from the
            first to the last date of the data.
        start: first date of the grid.
        end: last date that it may reach.
        evidence: the cube that LAI was estimated from, as `lai_udf.estimate` takes it; or `B02`,
            `B04`, `B8A`, `B11` and `SCL` (other names in use are known), on the pixels and dates
            of `lai`, which may hold them, too.
        scale: reflectance = value * scale + offset; None: what the evidence states, or 1.
        offset: as above, or None: what it states, or 0.
        level: of the incoming and outgoing bounds; None: what `lai` states (attribute `level`), or
            0.95.
        max_gap_days: no value where the nearest usable date is further away.

    Returns:
        `LAI`, `LAI_SD` (what another acquisition would differ by), `LAI_LOWER`, `LAI_UPPER` (of
        LAI in the field: the error that all dates share included) and `GAP_DAYS`; on observed
        dates also `REJECTED` and `FALL`. float32, NaN = no data.

    Raises:
        MissingBandError: no LAI, or no time.
        lai_udf.predict.LaiInputError: dates outside the data, evidence of other dates or pixels,
            or another value that cannot be.
    """
    bands = split_bands(lai)
    refuse_series(lai)
    time = find_time(bands)
    if evidence is not None:
        try:
            of_evidence, scale, offset = read_evidence(evidence, bands["LAI"], scale, offset)
        except LaiError as error:
            raise name_as_keyword(error) from error
        bands = of_evidence | bands
    if isinstance(offset, Mapping):
        raise LaiInputError(
            parameter="offset", value=offset, expected="one number where not all bands are given"
        )
    labels = bands["LAI"][time].values
    level = read_level(lai.attrs) if level is None else level
    context: dict[str, Any] = {
        "level": level,
        "max_gap_days": max_gap_days,
        "reflectance_scale": 1.0 if scale is None else float(scale),
        "reflectance_offset": offset,
        "step_days": step_days,
        "dates": dates,
    }
    if dates is not None and not isinstance(dates, str):
        held = getattr(dates, "values", dates)  # of xarray or pandas
        context["dates"] = [str(day) for day in np.atleast_1d(np.asarray(held))]
    context |= {
        key: value.item() for key, value in context.items() if isinstance(value, np.generic)
    }
    with renamed_errors():
        days = series.read_days(labels)  # first: the grid is made of them
        if step_days is not None:
            if not len(days) and (start is None or end is None):
                raise series.LaiInputError(
                    "LAI has no date, which step_days needs as start and end"
                )
            for key, day, choose in (("start", start, np.min), ("end", end, np.max)):
                day = choose(days).astype("datetime64[D]") if day is None else day
                context[key] = str(getattr(day, "values", day))
        settings = series.read_settings(context)
        targets = series.list_targets(days, settings)
    observed, names = settings.dates == OBSERVED, series.output_names(settings)
    results = xr.apply_ufunc(
        _smoother(list(bands), names, days, targets, settings),
        *(band.chunk({time: -1}) if band.chunks else band for band in bands.values()),
        input_core_dims=[[time]] * len(bands),
        output_core_dims=[[NEW_TIME]] * len(names),
        dask="parallelized",
        dask_gufunc_kwargs={"output_sizes": {NEW_TIME: len(targets)}},
        output_dtypes=[np.float32] * len(names),
        join="exact",
    )
    smoothed = xr.Dataset(dict(zip(names, results, strict=True))).rename({NEW_TIME: time})
    new = labels if observed else targets.astype("datetime64[D]").astype("datetime64[ns]")
    smoothed = smoothed.transpose(time, ...).assign_coords({time: new})
    for name in names:
        smoothed[name].attrs = {"long_name": LONG_NAMES[name], "units": unit_of(name)}
    smoothed.attrs = dict(lai.attrs) | {"series_level": level}
    return smoothed


def smooth_parcel(
    times: Sequence[object] | np.ndarray,
    means: Mapping[str, Any],
    step_days: int,
    level: float = 0.95,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Smooth the means of a parcel, from its first date with a mean to its last.

    Args:
        times: of the means, (t,); anything numpy reads as a date.
        means: `lai` and what there is of `lower`, `upper` (m2 m-2, NaN = none) and `flags` (those
            of most of the parcel), (t,) each, as `lai_udf.zonal.observe_zones` gives them with
            `exclude_flags=series.IMPOSSIBLE_FLAGS`: pixels count here as in a series of their own.
        step_days: of the grid of dates.
        level: of the bounds.

    Returns:
        `time` and the bands of `series.OUTPUT_BANDS`, of no date where there is no mean; and
        `REJECTED` of the means, (t,): 1, 0, or NaN where there is none.
    """
    bands = {PARCEL_BANDS[name]: np.asarray(values, float) for name, values in means.items()}
    lai = bands.pop("LAI")
    seen = series.read_days(times)[np.isfinite(lai)].astype("datetime64[D]")
    if not len(seen):
        empty = {name: np.zeros(0) for name in ("time", *series.OUTPUT_BANDS)}
        return empty, np.full(len(lai), np.nan)
    start, end = str(seen.min()), str(seen.max())
    with renamed_errors():
        smoothed = partial(series.smooth_series, times, lai, bands=bands, level=level)
        curve = smoothed(step_days=step_days, start=start, end=end)
        return curve, smoothed(dates=OBSERVED)[REJECTED]


def split_bands(
    data: xr.Dataset | xr.DataArray,
    label: Callable[[str], str] = str,
    wanted: Sequence[str] = (*LAI_BANDS, *EVIDENCE_BANDS),
) -> dict[Hashable, xr.DataArray]:
    """Return bands, by name, of variables or of a dimension of bands.

    `label` returns `B02` for `b02`, `blue` and other names; a band's own name goes first.
    """
    axis = next((name for name in ("bands", "band") if name in data.dims), None)
    if isinstance(data, xr.DataArray) and axis is None:
        return {data.name if data.name in wanted else "LAI": data}
    names = list(data.data_vars) if isinstance(data, xr.Dataset) else list(data[axis].values)
    names_by_label = {label(str(name)): name for name in names} | {
        str(name): name for name in names
    }
    found = {band: names_by_label[band] for band in wanted if band in names_by_label}
    if isinstance(data, xr.Dataset):
        return {band: data[name] for band, name in found.items()}
    return {band: data.sel({axis: name}, drop=True) for band, name in found.items()}


def read_evidence(
    evidence: xr.Dataset | xr.DataArray,
    lai: xr.DataArray,
    scale: float | None,
    offset: Offset | None,
) -> tuple[dict[Hashable, xr.DataArray], float | None, Offset | None]:
    """Return the bands of the evidence on the labels of LAI, and the scaling still to be applied.

    A cube of all ten bands is read as `lai_udf.estimate` reads it, whatever its names and scaling.
    """
    from lai_udf.scenes.cubes import as_cube  # readers of files: not for LAI alone
    from lai_udf.scenes.labels import band_label

    def label(name: str) -> str:
        return band_label(name) or name

    plain = split_bands(evidence, label)
    if plain and len(split_bands(evidence, label, BANDS)) < len(BANDS):
        return {name: align(band, lai) for name, band in plain.items()}, scale, offset
    array = as_cube(evidence, Declared(scale, offset)).to_array()
    return split_bands(align(array, lai)), None, None


def align(band: xr.DataArray, lai: xr.DataArray) -> xr.DataArray:
    """Return evidence in the order of LAI's dates and pixels, with the labels of LAI.

    Raises:
        LaiInputError: they are not the same dates or pixels.
    """
    time = find_time({"LAI": lai})
    own = next((name for name in TIME_NAMES if name in band.dims), time)
    band = band.rename({own: time}) if own != time else band
    for dim in lai.dims:
        if dim not in band.dims:
            continue
        order = np.arange(lai.sizes[dim])
        same = band.sizes[dim] == len(order)
        if same and dim in lai.coords and dim in band.coords:
            same, order = _match(band[dim].values, lai[dim].values)
        if not same:
            raise LaiInputError(
                f"the evidence is of another {dim} than LAI",
                parameter="evidence",
                expected="the dates and pixels that LAI was estimated from",
            )
        if (np.diff(order) != 1).any():
            band = band.isel({dim: order})
        if dim in lai.coords:
            band = band.assign_coords({dim: lai[dim]})
    return band


def _match(found: np.ndarray, wanted: np.ndarray) -> tuple[bool, np.ndarray]:
    """Return whether labels are the same but for their order, and where each wanted one is.

    Times are the same on the same day: labels of composites and of openEO hold no more.
    """
    timed = wanted.dtype.kind == "M" or found.dtype.kind == "M"
    if timed:
        found, wanted = (part.astype("datetime64[s]").astype("int64") for part in (found, wanted))
    ours, theirs = np.argsort(wanted, kind="stable"), np.argsort(found, kind="stable")
    one, other = wanted[ours], found[theirs]
    if timed:
        same = bool((one // 86_400 == other // 86_400).all())
    elif one.dtype.kind in "iuf" and other.dtype.kind in "iuf":
        steps = np.diff(one.astype("float64"))
        near = 0.1 * steps[steps > 0].min() if (steps > 0).any() else 0.1
        same = bool((np.abs(one.astype("float64") - other) <= near).all())
    else:
        same = bool((one == other).all())
    order = np.empty_like(ours)
    order[ours] = theirs
    return same, order


def read_level(attributes: Mapping[Any, Any]) -> float:
    """Return the level of the bounds that attributes state, by default 0.95."""
    stated = attributes.get("level", 0.95)
    try:
        return float(stated)
    except (TypeError, ValueError) as error:
        raise LaiInputError(
            "the attribute level of LAI is no number",
            parameter="level",
            value=stated,
            expected="a number, or no such attribute",
        ) from error


def refuse_series(data: xr.Dataset | xr.DataArray) -> None:
    """Raise `LaiInputError` for a series: what fills a gap would count as observed there."""
    if "GAP_DAYS" in split_bands(data, wanted=("GAP_DAYS",)):
        raise LaiInputError("the data are a series already (GAP_DAYS): give LAI of single dates")


def find_time(bands: Mapping[Hashable, xr.DataArray]) -> str:
    """Return the name of the dimension of time of LAI."""
    if "LAI" not in bands:
        raise MissingBandError("the data hold no LAI: estimate it first")
    time = next((name for name in TIME_NAMES if name in bands["LAI"].dims), None)
    if time is None:
        raise MissingBandError(f"LAI has no dimension t or time: {bands['LAI'].dims}")
    return time


@contextmanager
def renamed_errors() -> Iterator[None]:
    """Raise errors of the UDF, which ships alone, as those of the project."""
    try:
        yield
    except series.LaiInputError as error:
        fields = {name: getattr(error, name) for name in ("parameter", "value", "expected")}
        raise name_as_keyword(LaiInputError(error.problem, **fields)) from error


def unit_of(name: str) -> str:
    """Return the unit of an output."""
    if name == "GAP_DAYS":
        return "d"
    return "1" if name in (REJECTED, FALL) else VARIABLES["LAI"].unit


def _smoother(
    inputs: Sequence[Hashable],
    outputs: Sequence[str],
    days: np.ndarray,
    targets: np.ndarray,
    settings: series.SeriesOptions,
) -> Callable[..., tuple[np.ndarray, ...]]:
    """Return the function of one block: arrays (..., t) in and out."""

    def work(*arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        *shape, dates = np.broadcast_shapes(*(array.shape for array in arrays))
        cube = {
            str(name): np.moveaxis(array.reshape(math.prod(shape), dates), -1, 0)[..., None]
            for name, array in zip(inputs, np.broadcast_arrays(*arrays), strict=True)
        }
        with renamed_errors():
            series.refuse_scaled(cube, settings)
            result = series.smooth_arrays(days, cube, targets, settings, outputs)[..., 0]
        return tuple(np.moveaxis(band, 0, -1).reshape(*shape, -1) for band in result.swapaxes(0, 1))

    return work
