"""The processes that run a UDF over a cube, with the labels of openEO.

`apply_neighborhood`, `apply`, `apply_dimension`, `reduce_dimension` and `run_udf` itself. Each
decides which labels the result has; `map_windows` cuts the cube for all of them.
"""

from dataclasses import replace
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.delayed import delayed

from lai_backend.errors import ParameterError, UdfError
from lai_backend.files import Json
from lai_backend.grids import check_dimension, georeference_like
from lai_backend.udf_runner import LocalUdf, as_float32, check_shape
from lai_backend.windows import Block, Windows, parse_windows

AXIS_ORDER = ("t", "bands", "y", "x")
BLOCK_PX = 480
"""Side of a task, at least one window: small enough to keep all threads busy to the end, and for
the allocator to use the memory of one for the next; large enough for windows of 96 px."""
PROBE_PX = 32  # window on which the length of a changed dimension is found out


def apply_neighborhood(
    data: xr.DataArray, udf: LocalUdf, size: Json, overlap: Json = None
) -> xr.DataArray:
    """Apply a UDF to overlapping windows.

    Bands and dates may change, through `apply_metadata`; the new dates are those that the UDF
    gives a window without data.
    """
    windows = parse_windows(size, overlap)
    labels, new_dates = _labels(data, udf)
    if new_dates and not windows.per_date:
        result = udf.run(xr.full_like(_probe(data), np.nan, np.float32))
        if "t" not in result.dims or "t" not in result.coords:
            raise UdfError("apply_metadata announces other dates, but the UDF returns none (t).")
        labels["t"] = result["t"].values
    return map_windows(data, udf, labels, windows)


def apply_pixels(data: xr.DataArray, udf: LocalUdf) -> xr.DataArray:
    """Apply a UDF to chunks without overlap; the dimensions stay (`apply` of openEO)."""
    return map_windows(data, udf, _labels(data, udf)[0])


def reduce_with_udf(data: xr.DataArray, udf: LocalUdf, dimension: str) -> xr.DataArray:
    """Reduce one dimension with a UDF that returns its chunk without that dimension."""
    _check_dimension(data, dimension)
    labels, _ = _labels(data, udf, bands_stay=dimension == "bands")
    labels.pop(dimension)
    return map_windows(data, udf, labels)


def apply_along(
    data: xr.DataArray, udf: LocalUdf, dimension: str, target_dimension: str | None = None
) -> xr.DataArray:
    """Apply a UDF along one dimension, whose length may change.

    Labels: those the UDF returns along the dimension; else those of the input if the length is
    the same; else 0, 1, ….
    """
    _check_dimension(data, dimension)
    if target_dimension not in (None, dimension):
        raise ParameterError("apply_dimension with a UDF cannot name another target_dimension.")
    labels, _ = _labels(data, udf)
    before = data[dimension].values
    if list(labels[dimension]) == list(before):
        result = udf.run(_probe(data).compute())
        if dimension not in result.dims:
            raise UdfError(f"The UDF dropped {dimension!r}; use reduce_dimension for that.")
        if dimension in result.coords:
            labels[dimension] = result[dimension].values
        elif result.sizes[dimension] != len(before):
            labels[dimension] = np.arange(result.sizes[dimension])
    return map_windows(data, udf, labels)


def run_on_cube(data: xr.DataArray, udf: LocalUdf) -> xr.DataArray:
    """Run a UDF once on a whole cube, in memory; bands may change through `apply_metadata`."""
    labels, _ = _labels(data, udf)
    ordered = data.transpose(*AXIS_ORDER, missing_dims="ignore")
    result = udf.run(ordered.astype(np.float32).compute())
    coords = {**labels, "y": data["y"].values, "x": data["x"].values}
    check_shape(result, {name: len(values) for name, values in coords.items()}, "the whole cube")
    named = xr.DataArray(as_float32(result), dims=tuple(coords), coords=coords)
    return georeference_like(named, data)


def map_windows(
    cube: xr.DataArray, udf: LocalUdf, labels: dict[str, Any], windows: Windows | None = None
) -> xr.DataArray:
    """Apply a UDF to every window of a cube, lazily.

    A Dask block holds many windows, because one task per window is too fine for a whole tile
    (13,225 windows of 96 px in a 10,980 px granule).

    Args:
        cube: dims out of t, bands, y, x; y and x are needed.
        udf: the UDF.
        labels: of the result's dimensions other than y and x, in order.
        windows: how to cut; None: as is best where there is no neighbourhood.

    Returns:
        Lazy cube, float32, on the same pixels; the CRS is kept.
    """
    ordered = cube.transpose(*AXIS_ORDER, missing_dims="ignore")
    values = da.asarray(ordered.data).astype(np.float32)
    plain = Windows((min(BLOCK_PX, cube.sizes["y"]), min(BLOCK_PX, cube.sizes["x"])))
    coords = {str(name): ordered[name].values for name in ordered.dims}
    y, x = coords.pop("y"), coords.pop("x")
    step_y, step_x = (float(axis[1] - axis[0]) if len(axis) > 1 else 1.0 for axis in (y, x))
    first = (float(y[0]), float(x[0]))
    whole = Block(windows or plain, coords, labels, first, (step_y, step_x))
    if whole.windows.per_date and "t" in coords:
        inner = {name: labels[name] for name in labels if name != "t"}
        layers = [
            _map_array(layer, udf, replace(whole, labels_out=inner, date=date))
            for layer, date in zip(values, coords.pop("t"), strict=True)
        ]
        result = da.stack(layers)
    else:
        result = _map_array(values, udf, whole)
    named = xr.DataArray(result, {**labels, "y": y, "x": x}, (*labels, "y", "x"))
    return georeference_like(named.rename(None), cube)


def _map_array(values: da.Array, udf: LocalUdf, whole: Block) -> da.Array:
    """Apply a UDF to the windows of an array, (leading dimensions..., y, x) as in `whole`."""
    core, (above, left) = whole.windows.core, whole.windows.overlap
    height, width = values.shape[-2:]
    around = [(above, above + -height % core[0]), (left, left + -width % core[1])]
    padded = da.pad(values, [(0, 0)] * (values.ndim - 2) + around, constant_values=np.nan)
    run = delayed(udf.run_block, pure=False, traverse=False)
    sizes = tuple(len(names) for names in whole.labels_out.values())

    def lazy_block(top: int, bottom: int, start: int, end: int) -> da.Array:
        seen = padded[..., top : bottom + 2 * above, start : end + 2 * left]
        (first_y, first_x), (step_y, step_x) = whole.first, whole.step
        first = (first_y + (top - above) * step_y, first_x + (start - left) * step_x)
        task = run(_as_one_task(seen), replace(whole, first=first))
        shape = (*sizes, bottom - top, end - start)
        lazy: da.Array = da.from_delayed(task, shape, np.float32)
        return lazy

    rows, columns = _cut(height, core[0]), _cut(width, core[1])
    blocks = da.block([[lazy_block(*row, *column) for column in columns] for row in rows])
    inside: da.Array = blocks[..., :height, :width]
    return inside


def _cut(length: int, core: int) -> list[tuple[int, int]]:
    """Cut one axis into blocks of whole windows, the last of which may end beyond the axis."""
    side, end = core * max(1, BLOCK_PX // core), length + -length % core
    return [(start, min(start + side, end)) for start in range(0, end, side)]


def _as_one_task(values: da.Array) -> Any:
    """Return an array as one task that shares its chunks with other such tasks.

    Handed to a task as an array it would be optimized by itself: chunks that several windows
    touch would be read anew for each of them.
    """
    return values.rechunk(-1).to_delayed(optimize_graph=False).item()


def _probe(cube: xr.DataArray) -> xr.DataArray:
    """Return a small corner of a cube, as passed to a UDF."""
    corner = cube.isel(y=slice(0, PROBE_PX), x=slice(0, PROBE_PX))
    return corner.transpose(*AXIS_ORDER, missing_dims="ignore")


def _labels(
    cube: xr.DataArray, udf: LocalUdf, *, bands_stay: bool = False
) -> tuple[dict[str, Any], bool]:
    """Return the labels of the result's dimensions besides y and x, bands after the UDF.

    The second value is whether the UDF announces other dates.
    """
    if not {"y", "x"} <= set(cube.dims):
        raise ParameterError(f"A UDF needs a cube with x and y; this one has {cube.dims}.")
    udf.prepare()
    labels: dict[str, Any] = {
        name: list(cube[name].values) for name in AXIS_ORDER[:2] if name in cube.dims
    }
    if bands_stay or "bands" not in labels:
        return labels, False
    others = [str(name) for name in cube.dims if name != "bands"]
    labels["bands"], new_dates = udf.describe([str(name) for name in labels["bands"]], others)
    return labels, new_dates


def _check_dimension(cube: xr.DataArray, dimension: str) -> None:
    check_dimension(cube, dimension)
    if dimension in ("y", "x"):
        raise ParameterError(f"A UDF along {dimension!r} is not possible; use apply_neighborhood.")
