"""What openeo-processes-dask 2026.9 does wrongly or not at all, mended in one place.

Each function names the upstream issue that it stands in for; where none is named, none was found. A
function here can go when upstream passes `tests/backend/test_upstream.py`.
"""

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from openeo_pg_parser_networkx.pg_schema import Date, DateTime, ParameterReference, Year
from openeo_processes_dask import process_implementations
from openeo_processes_dask.process_implementations.core import process

from lai_backend.errors import ParameterError
from lai_backend.files import Json
from lai_backend.grids import check_dimension, georeference_like, on_grid_of

Process = Callable[..., Any]
FREQUENCIES = {
    **{"hour": "h", "day": "D", "week": "W-SAT"},
    **{"month": "M", "season": "Q-NOV", "year": "Y"},
}
"""Of pandas."""
DECADES = {"decade": 0, "decade-ad": 1}  # last digit of the first year
IN_LISTS = (ParameterReference, da.Array, np.ndarray)
"""What makes a list more than plain values: parameters, and results of other nodes."""
TEXTS = {Year: "%Y", Date: "%Y-%m-%d", DateTime: "%Y-%m-%dT%H:%M:%SZ"}
"""What the graph library makes of texts that look like dates, and how they looked."""
SEPARATE = "__cubes__"
"""Dimension of two cubes that are merged without a resolver although all their labels are equal."""


def resolve_lists(function: Process) -> Process:
    """Wrap a process so that parameters and arrays inside a list count, and texts are texts.

    Upstream resolves an argument that is a parameter, not a list of them
    (Open-EO/openeo-processes-dask#42 is the same fault in `merge_cubes`), and takes a list of
    arrays, such as elements of an array, for one whose first axis is the list: with as many of
    them as dates it reduced over the dates. Here the list, as in `max([x, y])`, lies along the
    axis of its parent. Texts that look like dates come as objects, which no process takes.
    """
    resolved = process(function)
    takes_axis = "axis" in inspect.signature(function).parameters

    @functools.wraps(function)
    def call(*args: Any, named_parameters: Json = None, **kwargs: Any) -> Any:
        known = dict(named_parameters or {})
        for name, index in (kwargs.get("positional_parameters") or {}).items():
            known[name] = args[index]
        for name, value in list(kwargs.items()):
            if type(value) in TEXTS:
                kwargs[name] = format(value.root, TEXTS[type(value)])
            if isinstance(value, list) and any(isinstance(v, IN_LISTS) for v in value):
                parts: Any = [
                    known.get(v.from_parameter) if isinstance(v, ParameterReference) else v
                    for v in value
                ]
                if any(np.ndim(part) for part in parts):
                    given = kwargs.get("axis")
                    axis = given if isinstance(given, int) else -1
                    parts = da.stack(da.broadcast_arrays(*map(da.asarray, parts)), axis=axis)
                    kwargs |= {"axis": axis} if takes_axis else {}
                kwargs[name] = parts
        return resolved(*args, named_parameters=named_parameters, **kwargs)

    return call


def add_dimension(data: xr.DataArray, name: str, label: Json, type: str = "other") -> xr.DataArray:
    """Add a dimension of one label; upstream makes a text of that of a temporal one."""
    if type == "temporal":
        label = _instant(label)
    added = process_implementations.add_dimension(data, name, label, type)
    return georeference_like(added, data)


def array_interpolate_linear(
    data: Json, axis: int | None = None, dim_labels: Json = None
) -> npt.NDArray[Any]:
    """Fill the gaps between values along an axis, linear in the labels; upstream takes no cube."""
    values, axis = da.asarray(data), axis or 0
    labels = np.arange(values.shape[axis]) if dim_labels is None else np.asarray(dim_labels)
    if labels.dtype.kind == "M":
        labels = labels.astype("datetime64[ns]").astype(float)
    positions = labels.astype(float) if labels.dtype.kind in "iuf" else np.arange(len(labels))

    def fill(line: npt.NDArray[Any]) -> npt.NDArray[Any]:
        known = np.isfinite(line)
        if known.all() or known.sum() < 2:
            return line
        inner = np.interp(positions, positions[known], line[known], left=np.nan, right=np.nan)
        return np.asarray(inner, line.dtype)

    whole = values.rechunk({axis: -1})
    filled: npt.NDArray[Any] = whole.map_blocks(
        lambda block: np.apply_along_axis(fill, axis, block), dtype=values.dtype
    )
    return filled


def array_modify(
    data: Json, values: Json, index: int, length: int | None = 1, axis: int | None = None
) -> Json:
    """Replace elements along an axis; upstream computes `values` of arrays for every pixel anew."""
    if not isinstance(data, da.Array) or axis is None:
        return process_implementations.array_modify(data, values, index, length, axis)
    size = data.shape[axis]
    if index > size:
        raise ParameterError(f"array_modify: index {index} is beyond the {size} elements.")
    new = da.asarray(values)
    if new.ndim < data.ndim:  # plain numbers
        new = new.reshape([-1 if place == axis else 1 for place in range(data.ndim)])
    shape = [new.shape[axis] if place == axis else side for place, side in enumerate(data.shape)]
    ahead = (slice(None),) * axis
    before, after = data[(*ahead, slice(index))], data[(*ahead, slice(index + (length or 0), None))]
    return da.concatenate([before, da.broadcast_to(new, shape), after], axis=axis)


def _null_of_nothing(reduce_known: Process, reduce_all: Process) -> Process:
    """Return a reducer that makes no data of no data; upstream makes 0 of them, or 1."""

    def call(
        data: Json, ignore_nodata: bool = True, axis: int | None = None, keepdims: bool = False
    ) -> Json:
        values = data if hasattr(data, "dtype") else np.asarray(list(data), float)
        along = {"axis": axis, "keepdims": keepdims}
        empty = np.isnan(values).all(**along)
        reduced = (reduce_known if ignore_nodata else reduce_all)(values, **along)
        return np.where(empty, np.nan, reduced)

    return call


def is_met(condition: Json) -> bool:
    """Return whether a condition holds; no data do not."""
    return condition is not None and bool(np.nan_to_num(condition))


def choose(value: Json, accept: Json, reject: Json = None) -> Json:
    """Return one of two values by a condition, which no data do not meet; upstream: they do."""
    accept, reject = (np.nan if one is None else one for one in (accept, reject))
    return np.where(False if value is None else np.nan_to_num(value), accept, reject)


def apply_kernel(
    data: xr.DataArray,
    kernel: Json,
    factor: float = 1.0,
    border: Json = 0,
    replace_invalid: float | None = 0,
) -> xr.DataArray:
    """Convolve every layer; rows of the kernel lie along y (Open-EO/openeo-processes#165).

    Upstream takes them along x (its rewrite is Open-EO/openeo-processes-dask#222).
    """
    weights = np.atleast_2d(np.asarray(kernel, float)).T
    convolved = process_implementations.apply_kernel(data, weights, factor, border, replace_invalid)
    return georeference_like(convolved.astype(np.float32), data)


def dimension_labels(data: xr.DataArray, dimension: str) -> list[Any]:
    """Return the labels of a dimension, dates as RFC 3339 has them; upstream gives nanoseconds."""
    check_dimension(data, dimension)
    labels = data[dimension].values
    if labels.dtype.kind == "M":
        return [f"{label}Z" for label in np.datetime_as_string(labels, unit="s")]
    return list(labels.tolist())


def filter_labels(
    data: xr.DataArray, condition: Process, dimension: str, context: Json = None
) -> xr.DataArray:
    """Keep the labels that meet a condition; upstream keeps the first, and takes no dates."""
    kept = [
        index
        for index, label in enumerate(dimension_labels(data, dimension))
        if is_met(condition(named_parameters={"value": label, "context": context}))
    ]
    return data.isel({dimension: kept})


def ndvi(
    data: xr.DataArray, nir: str = "nir", red: str = "red", target_band: str | None = None
) -> xr.DataArray:
    """Compute the index from two bands by name; upstream looks for common names, which none has."""
    check_dimension(data, "bands")
    names = data["bands"].values.tolist()
    for code, name in (("NirBandAmbiguous", nir), ("RedBandAmbiguous", red)):
        if name not in names:
            raise ParameterError(f"{code}: there is no band {name!r} for ndvi in {names}.")
    return georeference_like(process_implementations.ndvi(data, nir, red, target_band), data)


def rename_labels(
    data: xr.DataArray, dimension: str, target: list[Any], source: list[Any] | None = None
) -> xr.DataArray:
    """Rename labels; giving a cube the labels it has already changes nothing.

    The specification's `LabelExists` is meant for real clashes; a graph that also runs on
    back-ends without `apply_metadata` names the bands of a UDF once more after it.
    """
    if not source and dimension in data.dims and data[dimension].values.tolist() == target:
        return data
    renamed: xr.DataArray = process_implementations.rename_labels(
        data=data, dimension=dimension, target=target, source=source or []
    )
    return renamed


def aggregate_temporal(
    data: xr.DataArray,
    intervals: Json,
    reducer: Process,
    labels: Sequence[Any] | None = None,
    dimension: str | None = None,
    context: Json = None,
) -> xr.DataArray:
    """Reduce the dates of each half-open interval; by default, labels are the starts.

    Upstream makes texts of the labels and refuses intervals that overlap.
    """
    axis = dimension or "t"
    check_dimension(data, axis)
    spans = [[_instant(edge) for edge in interval] for interval in intervals]
    try:
        names = [_instant(label) for label in labels or [start for start, _ in spans]]
    except ParameterError:  # the specification takes any numbers and texts
        names = list(labels or [])
    if len(names) != len(spans):
        raise ParameterError(f"There are {len(spans)} intervals and {len(names)} labels.")
    if len(set(names)) < len(names):
        raise ParameterError("DistinctDimensionLabelsRequired: give each interval its own label.")
    dates = data[axis].values
    groups = [np.flatnonzero((dates >= start) & (dates < end)) for start, end in spans]
    return _reduce_groups(data, axis, groups, names, reducer, context)


def _instant(value: Json) -> np.datetime64:
    try:
        date = pd.to_datetime(str(getattr(value, "root", value)), utc=True)
    except (TypeError, ValueError):
        raise ParameterError(f"{value!r} is no date.") from None
    return np.datetime64(date.tz_localize(None), "ns")


def aggregate_temporal_period(
    data: xr.DataArray,
    period: str,
    reducer: Process,
    dimension: str | None = None,
    context: Json = None,
) -> xr.DataArray:
    """Reduce the dates of each period that holds some; labels are the starts, as on the CDSE.

    Upstream labels months by their last day and dekads by texts
    (Open-EO/openeo-processes-dask#27).
    """
    axis = dimension or "t"
    check_dimension(data, axis)
    starts = np.array([period_start(date, period) for date in pd.DatetimeIndex(data[axis].values)])
    labels = np.unique(starts)
    groups = [np.flatnonzero(starts == label) for label in labels]
    return _reduce_groups(data, axis, groups, list(labels), reducer, context)


def period_start(date: pd.Timestamp, period: str) -> np.datetime64:
    """Return the first instant of the period that a date lies in; weeks start on Sunday."""
    day = date.normalize()
    if period in FREQUENCIES:
        start = date.to_period(FREQUENCIES[period]).start_time
    elif period == "dekad":
        start = day.replace(day=min((day.day - 1) // 10, 2) * 10 + 1)
    elif period == "tropical-season":  # of May to October, and of November to April
        start = day.replace(day=1) - pd.DateOffset(months=(day.month - 11) % 6)
    else:
        start = pd.Timestamp(day.year - (day.year - DECADES[period]) % 10, 1, 1)
    return np.datetime64(start, "ns")


def _reduce_groups(
    data: xr.DataArray,
    axis: str,
    groups: Sequence[npt.NDArray[np.intp]],
    labels: Sequence[Any],
    reducer: Process,
    context: Json,
) -> xr.DataArray:
    """Reduce some positions along an axis each, NaN where there are none."""
    given: dict[str, Any] = {
        "positional_parameters": {"data": 0},
        "named_parameters": {"context": context},
    }
    parts = [
        data.isel({axis: group}).reduce(reducer, dim=axis, keep_attrs=True, **given)
        if group.size
        else xr.full_like(data.isel({axis: 0}, drop=True), np.nan)
        for group in groups
    ]
    result: xr.DataArray = xr.concat(
        parts, pd.Index(labels, name=axis), coords="minimal", compat="override"
    )
    return georeference_like(result.transpose(*data.dims), data)


def mask(data: xr.DataArray, mask: xr.DataArray, replacement: Json = None) -> xr.DataArray:
    """Replace the pixels where a mask is neither zero nor NaN; the mask is brought to their grid.

    A mask of one band counts for all. Upstream keeps what has the same labels only.
    """
    mask = on_grid_of(mask, data, what="mask")
    if "bands" in mask.dims and mask.sizes["bands"] == 1:
        mask = mask.isel(bands=0, drop=True)
    for name in mask.dims:
        if name not in data.dims or not np.array_equal(mask[name].values, data[name].values):
            raise ParameterError(f"mask has other labels in {name!r} than the cube has.")
    hidden = mask.notnull() & (mask != 0)
    masked = data.where(~hidden, np.nan if replacement is None else replacement)
    return georeference_like(masked.transpose(*data.dims), data)


def merge_cubes(
    cube1: xr.DataArray,
    cube2: xr.DataArray,
    overlap_resolver: Process | None = None,
    context: Json = None,
) -> xr.DataArray:
    """Merge two cubes on the grid of the first.

    Upstream joins the pixels of different grids into one with gaps, and its calls of a resolver
    fail (Open-EO/openeo-processes-dask#42, #109).
    """
    cube2 = on_grid_of(cube2, cube1, what="cube2 of merge_cubes")
    shared = [name for name in cube1.dims if name in cube2.dims]
    same_dims = set(cube1.dims) == set(cube2.dims)
    apart = [name for name in shared if not np.isin(cube1[name].values, cube2[name].values).any()]
    if same_dims and apart:
        name = str(apart[0])  # other dates become NaN
        pair = xr.align(cube1, cube2.transpose(*cube1.dims), join="outer", exclude=[name])
        merged = xr.concat(pair, name, coords="minimal", compat="override")
    elif overlap_resolver is not None:
        merged = _resolve(cube1, cube2, overlap_resolver, context)
    elif same_dims and all(cube1.indexes[name].equals(cube2.indexes[name]) for name in shared):
        merged = xr.concat([cube1, cube2], pd.Index(["cube1", "cube2"], name=SEPARATE))
    else:
        raise ParameterError(
            "OverlapResolverMissing: the cubes of merge_cubes overlap; give an overlap_resolver "
            "for the two values."
        )
    dates = merged.indexes.get("t")
    if isinstance(dates, pd.DatetimeIndex) and not dates.is_monotonic_increasing:
        merged = merged.sortby("t")
    return georeference_like(merged, cube1)


def _resolve(
    cube1: xr.DataArray, cube2: xr.DataArray, resolver: Process, context: Json
) -> xr.DataArray:
    """Combine the values of common labels, and keep those of the others."""
    dims = cube1.dims if cube1.ndim >= cube2.ndim else cube2.dims
    bands = [cube["bands"].values.tolist() for cube in (cube1, cube2) if "bands" in cube.dims]
    members = [xr.ones_like(cube.isel(x=0, y=0, drop=True), dtype=bool) for cube in (cube1, cube2)]
    pair = [part.transpose(*dims) for part in xr.broadcast(*xr.align(cube1, cube2, join="outer"))]
    inside = xr.broadcast(*xr.align(*members, join="outer", fill_value=False))
    named = {"x": da.asarray(pair[0].data), "y": da.asarray(pair[1].data), "context": context}
    both = pair[0].copy(data=da.broadcast_to(resolver(named_parameters=named), pair[0].shape))
    merged = both.where(inside[0] & inside[1], pair[0].where(inside[0], pair[1])).transpose(*dims)
    if len(bands) == 2:  # the outer join has sorted them
        merged = merged.sel(bands=list(dict.fromkeys(bands[0] + bands[1])))
    return merged


REPLACEMENTS: dict[str, Process] = {
    "e": lambda: math.e,  # upstream lists it only
    "exp": lambda p: np.exp(p),  # upstream takes its argument by another name
    "if": choose,
    "sum": _null_of_nothing(np.nansum, np.sum),
    "product": _null_of_nothing(np.nanprod, np.prod),
    # upstream answers with one value for a whole array
    "is_nodata": lambda x: x is None if x is None or isinstance(x, str) else np.isnan(x),
    **{
        function.__name__: function
        for function in (
            *(add_dimension, aggregate_temporal, aggregate_temporal_period, apply_kernel),
            *(array_interpolate_linear, array_modify, dimension_labels, filter_labels, mask),
            *(merge_cubes, ndvi, rename_labels),
        )
    },
}
"""By identifier of the process."""
