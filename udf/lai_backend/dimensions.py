"""`apply_dimension` with processes of openEO (not UDFs), and the labels the specification wants.

openeo-processes-dask 2026.9 hides the labels of the dimension from the child process, loses them
where the number of values stays the same, and takes no process that returns one value.
"""

from collections.abc import Callable
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from lai_backend.errors import ParameterError
from lai_backend.files import Json
from lai_backend.grids import check_dimension, georeference_like


def apply_dimension(
    data: xr.DataArray,
    dimension: str,
    process: Callable[..., Any],
    target_dimension: str | None = None,
    context: Json = None,
) -> xr.DataArray:
    """Apply a process, which gets the values as its parameter `data`, along one dimension.

    Returns:
        Lazy cube. Along the dimension: the labels of the input where there are as many values as
        before and no other target is named, else 0, 1, …; no source dimension where there is
        another target.
    """
    check_dimension(data, dimension)
    final = target_dimension or dimension
    if final != dimension and data.sizes.get(final, 1) > 1:
        raise ParameterError(
            f"target_dimension {final!r} has {data.sizes[final]} labels, for each of which there "
            "are other values: reduce it first, or name a new dimension."
        )
    if final != dimension and final in data.dims:
        data = data.squeeze(final, drop=True)
    ordered = data.transpose(..., dimension)
    labels = ordered[dimension].values
    values = _call(process, da.asarray(ordered.data), labels, data.get_axis_num(dimension), context)
    if final != dimension or values.shape[-1] != len(labels):
        labels = np.arange(values.shape[-1])
    kept = {name: ordered[name] for name in ordered.dims[:-1] if name in ordered.coords}
    dims = (*ordered.dims[:-1], final)
    result = xr.DataArray(values, dims=dims, coords={**kept, final: labels})
    order = [final if name == dimension else name for name in data.dims]
    result = result.transpose(*order)
    return georeference_like(result, data)


def _call(
    process: Callable[..., Any], values: da.Array, labels: Any, source_axis: Any, context: Json
) -> da.Array:
    """Run a process along the last axis; one value without that axis counts as one label."""
    result = process(
        values,
        positional_parameters={"data": 0},
        named_parameters={"context": context or {}},
        axis=values.ndim - 1,
        keepdims=False,
        source_transposed_axis=source_axis,
        context=context or {},
        dim_labels=labels,
    )
    array: da.Array = da.asarray(result)
    if array.shape == values.shape[:-1]:
        array = array[..., np.newaxis]
    if array.shape[:-1] != values.shape[:-1]:
        raise ParameterError(
            f"The process of apply_dimension returned shape {array.shape} for values of shape "
            f"{values.shape}; it may change the length of the last axis only."
        )
    return array
