"""`apply_dimension` with processes of openEO (not UDFs), and the labels of the specification.

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
    before = da.asarray(ordered.data)
    values = da.asarray(
        process(
            before,
            positional_parameters={"data": 0},
            named_parameters={"context": context or {}},
            axis=before.ndim - 1,
            keepdims=False,
            source_transposed_axis=data.get_axis_num(dimension),
            context=context or {},
            dim_labels=labels,
        )
    )
    if values.shape == before.shape[:-1]:  # one value, without the axis, counts as one label
        values = values[..., np.newaxis]
    if values.shape[:-1] != before.shape[:-1]:
        raise ParameterError(
            f"The process of apply_dimension returned shape {values.shape} for values of shape "
            f"{before.shape}; it may change the length of the last axis only."
        )
    if final != dimension or values.shape[-1] != len(labels):
        labels = np.arange(values.shape[-1])
    kept = {name: ordered[name] for name in ordered.dims[:-1] if name in ordered.coords}
    dims = (*ordered.dims[:-1], final)
    result = xr.DataArray(values, dims=dims, coords={**kept, final: labels})
    order = [final if name == dimension else name for name in data.dims]
    result = result.transpose(*order)
    return georeference_like(result, data)
