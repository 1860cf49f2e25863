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
from lai_backend.udf_runner import LocalUdf, as_float32, check_shape
from lai_backend.window_sizes import Windows, parse_windows
from lai_backend.windows import AXIS_ORDER, map_windows

PLAIN_CORE_PX = 480  # windows of the processes that have no neighbourhood
PROBE_PX = 32  # window on which the length of a changed dimension is found out


def apply_neighborhood(
    cube: xr.DataArray, call: LocalUdf, size: Json, overlap: Json
) -> xr.DataArray:
    """Apply a UDF to overlapping windows.

    Bands and dates may change, through `apply_metadata`; the new dates are those that the UDF
    gives a window without data.
    """
    windows = parse_windows(size, overlap)
    labels, new_dates = _labels(cube, call)
    if new_dates and not windows.per_date:
        probe = xr.full_like(_probe(cube), np.nan, np.float32)
        result = call.run(probe)
        if "t" not in result.dims or "t" not in result.coords:
            raise UdfError("apply_metadata announces other dates, but the UDF returns none (t).")
        labels["t"] = result["t"].values
    return map_windows(cube, call, windows, labels)


def apply_pixels(cube: xr.DataArray, call: LocalUdf) -> xr.DataArray:
    """Apply a UDF to chunks without overlap; the dimensions stay (`apply` of openEO)."""
    return map_windows(cube, call, _plain_windows(cube), _labels(cube, call)[0])


def reduce_with_udf(cube: xr.DataArray, call: LocalUdf, dimension: str) -> xr.DataArray:
    """Reduce one dimension with a UDF that returns its chunk without that dimension."""
    _check_dimension(cube, dimension)
    labels, _ = _labels(cube, call, bands_stay=dimension == "bands")
    kept = {name: values for name, values in labels.items() if name != dimension}
    return map_windows(cube, call, _plain_windows(cube), kept)


def apply_along(
    cube: xr.DataArray, call: LocalUdf, dimension: str, target: str | None
) -> xr.DataArray:
    """Apply a UDF along one dimension, whose length may change.

    Labels: those the UDF returns along the dimension; else those of the input if the length is
    the same; else 0, 1, ….
    """
    _check_dimension(cube, dimension)
    if target not in (None, dimension):
        raise ParameterError("apply_dimension with a UDF cannot name another target_dimension.")
    labels, _ = _labels(cube, call)
    before = cube[dimension].values
    if list(labels[dimension]) == list(before):
        result = call.run(_probe(cube).compute())
        if dimension not in result.dims:
            raise UdfError(f"The UDF dropped {dimension!r}; use reduce_dimension for that.")
        if dimension in result.coords:
            labels[dimension] = result[dimension].values
        elif result.sizes[dimension] != len(before):
            labels[dimension] = np.arange(result.sizes[dimension])
    return map_windows(cube, call, _plain_windows(cube), labels)


def run_on_cube(cube: xr.DataArray, call: LocalUdf) -> xr.DataArray:
    """Run a UDF once on a whole cube, in memory; bands may change through `apply_metadata`."""
    labels, _ = _labels(cube, call)
    ordered = cube.transpose(*[name for name in AXIS_ORDER if name in cube.dims])
    result = call.run(ordered.astype(np.float32).compute())
    coords = {**labels, "y": cube["y"].values, "x": cube["x"].values}
    check_shape(result, {name: len(values) for name, values in coords.items()}, "the whole cube")
    named = xr.DataArray(as_float32(result), dims=tuple(coords), coords=coords)
    return georeference_like(named, cube)


def _probe(cube: xr.DataArray) -> xr.DataArray:
    """Return a small corner of a cube, as a UDF sees it."""
    corner = cube.isel(y=slice(0, PROBE_PX), x=slice(0, PROBE_PX))
    return corner.transpose(*[name for name in AXIS_ORDER if name in corner.dims])


def _labels(
    cube: xr.DataArray, call: LocalUdf, *, bands_stay: bool = False
) -> tuple[dict[str, Any], bool]:
    """Return the labels of the result's dimensions besides y and x, bands after the UDF.

    The second value says whether the UDF announces other dates.
    """
    if not {"y", "x"} <= set(cube.dims):
        raise ParameterError(f"A UDF needs a cube with x and y; this one has {cube.dims}.")
    call.prepare()
    labels: dict[str, Any] = {
        name: list(cube[name].values) for name in AXIS_ORDER[:2] if name in cube.dims
    }
    if bands_stay or "bands" not in labels:
        return labels, False
    others = [str(name) for name in cube.dims if name != "bands"]
    labels["bands"], new_dates = call.describe([str(name) for name in labels["bands"]], others)
    return labels, new_dates


def _check_dimension(cube: xr.DataArray, dimension: str) -> None:
    if dimension not in cube.dims:
        raise ParameterError(f"There is no dimension {dimension!r}; the cube has {cube.dims}.")
    if dimension in ("y", "x"):
        raise ParameterError(f"A UDF along {dimension!r} is not possible; use apply_neighborhood.")


def _plain_windows(cube: xr.DataArray) -> Windows:
    core = (min(PLAIN_CORE_PX, cube.sizes["y"]), min(PLAIN_CORE_PX, cube.sizes["x"]))
    return Windows(core=core)
