"""The processes that run a UDF over a cube, with the labels of openEO.

`apply_neighborhood`, `apply`, `apply_dimension`, `reduce_dimension` and `run_udf` itself. Each
decides which labels the result has, and leaves the cutting to `windows`.
"""

from typing import Any

import numpy as np
import xarray as xr

from lai_backend.errors import ParameterError, UdfError
from lai_backend.files import Json
from lai_backend.georeference import georeference_like
from lai_backend.udf_runner import UdfCall, as_float32, check_shape
from lai_backend.window_sizes import Windows, parse_windows
from lai_backend.windows import AXIS_ORDER, Quirks, map_windows

PLAIN_CORE_PX = 480
"""Windows of the processes that have no neighbourhood."""
PROBE_PX = 32
"""Window on which the length of a changed dimension is found out."""


def apply_neighborhood(
    cube: xr.DataArray,
    call: UdfCall,
    size: Json,
    overlap: Json,
    quirks: Quirks | None,
) -> xr.DataArray:
    """Apply a UDF to overlapping windows.

    Bands and dates may change, through `apply_metadata`; the new dates are those that the UDF
    gives a window without data.
    """
    call.prepare()
    windows, labels = parse_windows(size, overlap), _labels(cube, call)
    if "t" in labels and not windows.per_date and "bands" in labels:
        bands, others = list(map(str, cube["bands"].values)), [n for n in cube.dims if n != "bands"]
        if call.changes_dates(bands, list(map(str, others))):
            labels["t"] = _new_dates(cube, call)
    return map_windows(cube, call, windows, labels, quirks)


def _new_dates(cube: xr.DataArray, call: UdfCall) -> Any:  # noqa: ANN401 - labels
    """Return the dates that a UDF gives a small window, known to be of other dates."""
    named = [name for name in AXIS_ORDER if name in cube.dims]
    small = {name: min(cube.sizes[name], PROBE_PX) for name in ("y", "x")}
    shape = [small.get(name, cube.sizes[name]) for name in named]
    coords = {name: cube[name].values[: small.get(name)] for name in named}
    empty = xr.DataArray(np.full(shape, np.nan, np.float32), dims=named, coords=coords)
    result = call.run(empty)
    if "t" not in result.dims or "t" not in result.coords:
        raise UdfError("apply_metadata announces other dates, but the UDF returns none (t).")
    return result["t"].values


def apply_pixels(cube: xr.DataArray, call: UdfCall) -> xr.DataArray:
    """Apply a UDF to chunks without overlap; the dimensions stay (`apply` of openEO)."""
    call.prepare()
    return map_windows(cube, call, _plain_windows(cube), _labels(cube, call))


def reduce_with_udf(cube: xr.DataArray, call: UdfCall, dimension: str) -> xr.DataArray:
    """Reduce one dimension with a UDF that returns its chunk without that dimension.

    Raises:
        ParameterError: the dimension does not exist or is spatial.
    """
    _check_dimension(cube, dimension)
    call.prepare()
    labels = _labels(cube, call) if dimension != "bands" else _labels(cube, None)
    kept = {name: values for name, values in labels.items() if name != dimension}
    return map_windows(cube, call, _plain_windows(cube), kept)


def apply_along(
    cube: xr.DataArray, call: UdfCall, dimension: str, target: str | None
) -> xr.DataArray:
    """Apply a UDF along one dimension, whose length may change.

    Labels: those the UDF returns along the dimension; else those of the input if the length is
    the same; else 0, 1, ….

    Raises:
        ParameterError: the dimension does not exist or is spatial, or another target is named.
    """
    _check_dimension(cube, dimension)
    if target not in (None, dimension):
        raise ParameterError("apply_dimension with a UDF cannot name another target_dimension.")
    call.prepare()
    labels = dict(_labels(cube, call))
    before = cube[dimension].values
    if len(labels[dimension]) == len(before) and list(labels[dimension]) == list(before):
        probe = cube.isel(y=slice(0, PROBE_PX), x=slice(0, PROBE_PX)).compute()
        result = call.run(probe.transpose(*[name for name in AXIS_ORDER if name in probe.dims]))
        if dimension not in result.dims:
            raise UdfError(f"The UDF dropped {dimension!r}; use reduce_dimension for that.")
        if dimension in result.coords:
            labels[dimension] = result[dimension].values
        elif result.sizes[dimension] != len(before):
            labels[dimension] = np.arange(result.sizes[dimension])
    return map_windows(cube, call, _plain_windows(cube), labels)


def run_on_cube(cube: xr.DataArray, call: UdfCall) -> xr.DataArray:
    """Run a UDF once on a whole cube, in memory; bands may change through `apply_metadata`."""
    call.prepare()
    ordered = cube.transpose(*[name for name in AXIS_ORDER if name in cube.dims])
    result = call.run(ordered.astype(np.float32).compute())
    labels = _labels(cube, call)
    sizes = {name: len(values) for name, values in labels.items()}
    check_shape(result, {**sizes, "y": cube.sizes["y"], "x": cube.sizes["x"]}, "the whole cube")
    coords = {**labels, "y": cube["y"].values, "x": cube["x"].values}
    named = xr.DataArray(as_float32(result), dims=tuple(coords), coords=coords)
    return georeference_like(named, cube)


def _labels(cube: xr.DataArray, call: UdfCall | None) -> dict[str, Any]:
    """Return the labels of the result's dimensions besides y and x, bands after the UDF."""
    for axis in ("y", "x"):
        if axis not in cube.dims:
            raise ParameterError(f"A UDF needs a cube with x and y; this one has {cube.dims}.")
    labels: dict[str, Any] = {
        name: list(cube[name].values) for name in AXIS_ORDER[:2] if name in cube.dims
    }
    if call is not None and "bands" in labels:
        others = [str(name) for name in cube.dims if name != "bands"]
        labels["bands"] = call.output_bands([str(name) for name in labels["bands"]], others)
    return labels


def _check_dimension(cube: xr.DataArray, dimension: str) -> None:
    if dimension not in cube.dims:
        raise ParameterError(f"There is no dimension {dimension!r}; the cube has {cube.dims}.")
    if dimension in ("y", "x"):
        raise ParameterError(f"A UDF along {dimension!r} is not possible; use apply_neighborhood.")


def _plain_windows(cube: xr.DataArray) -> Windows:
    core = (min(PLAIN_CORE_PX, cube.sizes["y"]), min(PLAIN_CORE_PX, cube.sizes["x"]))
    return Windows(core=core)
