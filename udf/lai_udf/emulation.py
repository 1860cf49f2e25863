"""Cut a cube as a cloud back-end does and run a UDF on each window, before a job is paid.

It reproduces `apply_neighborhood` of the GeoTrellis back-ends as far as a UDF can see it: float32
chunks of full size, NaN beyond the cube, a tile grid that need not start at its corner, 3-D chunks
for "P1D" with the date in the attributes, dates that are absent where they hold no data, and an
overlap that comes back and is thrown away. In: a cube in memory. Out: a cube in memory.

Source: Open-EO/openeo-geopyspark-driver, geopysparkdatacube.py, read at 9baf2e10.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from openeo.udf.run_code import run_udf_code
from openeo.udf.udf_data import UdfData
from openeo.udf.xarraydatacube import XarrayDataCube

from lai_udf.errors import ContractError


@dataclass(frozen=True)
class Cutting:
    """How a back-end cuts a cube."""

    size_px: int = 224  # core of a window; the UDF gets size + 2 overlap
    overlap_px: int = 16  # border on every side
    by_date: bool = False
    """True: `"dimension": "t", "value": "P1D"`, one 3-D chunk per date; False: all dates."""
    origin_px: tuple[int, int] = (0, 0)
    """How far (y, x) the tile grid starts above and left of the cube, below `size_px`."""
    drop_empty_dates: bool = True
    """Leave out dates that hold no data in a window, as the spatio-temporal path does."""


def run_udf_in_windows(
    code: str, cube: xr.DataArray, context: dict[str, Any], cutting: Cutting | None = None
) -> xr.DataArray:
    """Run the text of a UDF on every window of a cube and put the cores together.

    Args:
        code: text of the UDF.
        cube: dims (t, bands, y, x) or (bands, y, x), any numeric type; cast to float32.
        context: of the UDF.
        cutting: how the cube is cut.

    Returns:
        Same y and x, the bands that the UDF returns, float32. Same t, NaN for dates that a window
        did not hold; or the dates of a function over time, one grid in all windows.

    Raises:
        ContractError: the UDF returns another shape, or other bands or dates than in the first
            window.
    """
    cutting = cutting or Cutting()
    timed = "t" in cube.dims
    whole = cube.transpose("t", "bands", "y", "x") if timed else cube.expand_dims("t")
    padded, cores = _pad(whole.astype("float32"), cutting)
    result: npt.NDArray[np.float32] | None = None
    labels: list[str] = []
    new_dates: npt.NDArray[Any] | None = None
    for top, left in cores:
        side = cutting.size_px + 2 * cutting.overlap_px
        chunk = padded.isel(y=slice(top, top + side), x=slice(left, left + side))
        for dates, predicted in _predict(code, chunk, context, cutting, timed=timed):
            if result is None:
                labels = [str(label) for label in predicted["bands"].values]
                if timed and not cutting.by_date and "t" in predicted.indexes:
                    own = predicted["t"].values  # None where they are those of the window
                    new_dates = None if np.array_equal(own, chunk["t"].values[dates]) else own
                count = padded.sizes["t"] if new_dates is None else len(new_dates)
                result = np.full((count, len(labels), *padded.shape[2:]), np.nan, dtype="float32")
            if new_dates is not None:
                if not np.array_equal(predicted["t"].values, new_dates):
                    raise ContractError(
                        "the function returned other dates in one window than in another: the "
                        "dates of a window differ from its neighbours', so take the grid from the "
                        "context"
                    )
                dates = list(range(len(new_dates)))
            values = _require_window(predicted, labels, (len(dates), len(labels), side, side))
            rows, columns = (
                slice(start + cutting.overlap_px, start + side - cutting.overlap_px)
                for start in (top, left)
            )
            inside = slice(cutting.overlap_px, side - cutting.overlap_px)
            result[dates, :, rows, columns] = values[:, :, inside, inside]
    if result is None:
        raise ContractError("no window of the cube holds data, so the function was never called")
    top, left = (origin + cutting.overlap_px for origin in cutting.origin_px)
    inner = result[..., top : top + whole.sizes["y"], left : left + whole.sizes["x"]]
    kept: dict[str, Any] = {dim: whole[dim] for dim in ("t", "y", "x") if dim in whole.coords}
    kept |= {"bands": labels} | ({} if new_dates is None else {"t": new_dates})
    cropped = xr.DataArray(inner, dims=("t", "bands", "y", "x"), coords=kept)
    return cropped if timed else cropped.isel(t=0, drop=True)


def run_graph_in_windows(
    graph: Mapping[str, Any], cube: xr.DataArray, *, origin_px: tuple[int, int] = (0, 0)
) -> xr.DataArray:
    """Run each `apply_neighborhood` of a flat process graph on a cube, cut as the graph states.

    Raises:
        ContractError: the graph has no such node, or one whose process is not one `run_udf`.
    """
    nodes = [node for node in graph.values() if node["process_id"] == "apply_neighborhood"]
    if not nodes:
        raise ContractError("the graph has no node apply_neighborhood; give one")
    for node in nodes:
        cube = _run_node(node["arguments"], cube, origin_px)
    return cube


def _run_node(
    arguments: Mapping[str, Any], cube: xr.DataArray, origin_px: tuple[int, int]
) -> xr.DataArray:
    udfs = list(arguments["process"]["process_graph"].values())
    if len(udfs) != 1 or udfs[0]["process_id"] != "run_udf":
        raise ContractError("the process of apply_neighborhood must be one run_udf")
    context = udfs[0]["arguments"].get("context") or {}
    if context == {"from_parameter": "context"}:
        context = arguments.get("context") or {}
    cutting = _read_cutting(arguments, origin_px)
    return run_udf_in_windows(udfs[0]["arguments"]["udf"], cube, context, cutting)


def _read_cutting(arguments: Mapping[str, Any], origin_px: tuple[int, int]) -> Cutting:
    """Read `size` and `overlap` of an `apply_neighborhood`; both the same in x and y."""
    sides: dict[str, set[int]] = {}
    for name in ("size", "overlap"):
        entries = [entry for entry in arguments.get(name) or [] if entry["dimension"] in ("x", "y")]
        if any(entry.get("unit") != "px" for entry in entries):
            raise ContractError(f"{name} must be in px: back-ends take nothing else")
        sides[name] = {int(entry["value"]) for entry in entries} or {0}
    if any(len(values) > 1 for values in sides.values()):
        raise ContractError("the emulation cuts squares only: give x and y the same size")
    by_date = any(entry["dimension"] == "t" for entry in arguments["size"])
    return Cutting(sides["size"].pop(), sides["overlap"].pop(), by_date, origin_px)


def _pad(cube: xr.DataArray, cutting: Cutting) -> tuple[xr.DataArray, list[tuple[int, int]]]:
    """Surround a cube with NaN up to whole windows; return it and the corners of the windows."""
    before = [origin + cutting.overlap_px for origin in cutting.origin_px]
    counts = [
        -(-(origin + cube.sizes[dim]) // cutting.size_px)
        for origin, dim in zip(cutting.origin_px, ("y", "x"), strict=True)
    ]
    sides = {
        dim: (first, count * cutting.size_px + 2 * cutting.overlap_px - first - cube.sizes[dim])
        for dim, first, count in zip(("y", "x"), before, counts, strict=True)
    }
    tops, lefts = ([number * cutting.size_px for number in range(count)] for count in counts)
    return cube.pad(sides, constant_values=np.nan), list(product(tops, lefts))


def _predict(
    code: str, chunk: xr.DataArray, context: dict[str, Any], cutting: Cutting, *, timed: bool
) -> Iterator[tuple[list[int], xr.DataArray]]:
    """Yield (positions of the dates, result (t, bands, y, x)) of a window."""
    present = [
        date
        for date in range(chunk.sizes["t"])
        if not cutting.drop_empty_dates or bool(chunk.isel(t=date).notnull().any())
    ]
    if timed and not cutting.by_date:
        if present:
            yield present, _call(code, chunk.isel(t=present), context)
        return
    for date in present:
        flat = chunk.isel(t=date, drop=True)
        if timed:
            flat.attrs["t"] = str(chunk["t"].values[date])
        yield [date], _call(code, flat, context).expand_dims("t")


def _call(code: str, chunk: xr.DataArray, context: dict[str, Any]) -> xr.DataArray:
    data = UdfData(datacube_list=[XarrayDataCube(chunk)], user_context=context)
    cubes = run_udf_code(code, data).get_datacube_list() or []
    if len(cubes) != 1:
        raise ContractError(f"the function returned {len(cubes)} cubes; one is expected")
    array: xr.DataArray = cubes[0].get_array()
    return array


def _require_window(
    predicted: xr.DataArray, labels: list[str], shape: tuple[int, ...]
) -> npt.NDArray[np.float32]:
    """Return the values of a window as (t, bands, y, x), or raise what is wrong with it."""
    if [str(label) for label in predicted["bands"].values] != labels:
        raise ContractError(
            f"the function returned bands {list(predicted['bands'].values)} in one window and "
            f"{labels} in another"
        )
    values = predicted.transpose("t", "bands", "y", "x").values
    if values.shape != shape:
        raise ContractError(
            f"the function returned shape {values.shape} for a window of {shape}: return y and x "
            "with the overlap, the back-end trims it"
        )
    return values.astype("float32")
