"""`lai_udf.estimate`: LAI of a cube from any library, as xarray.

In: a Dataset or DataArray as odc-stac, stackstac, rioxarray, openEO and others give it. Out: a
Dataset of LAI with its interval and flags, described by CF's conventions. A cube of Dask stays
lazy: blocks with a halo are what is computed, when it is computed, and the blocks of the input do
not change the numbers.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from lai_udf.bundle import open_bundle
from lai_udf.cog import ENCODINGS, describe_variable, write_lai_cogs
from lai_udf.errors import EncodingError, GridError, MetadataError, name_as_keyword
from lai_udf.guard import group_dates, judge_dates, report_wrong, thinning
from lai_udf.identity import RunOptions
from lai_udf.predict import (
    BLOCK_PX,
    HALO_PX,
    NO_DATA_NEAR,
    LaiError,
    LaiInputError,
    apply_datacube,
)
from lai_udf.scenes.cubes import Cube, as_cube
from lai_udf.scenes.labels import SCENE_CLASS_BAND, band_label
from lai_udf.scenes.metadata import Declared, Offset
from lai_udf.scenes.source import LOG
from lai_udf.tiling import ALIGN_PX

CORE_PX = BLOCK_PX - 2 * HALO_PX
"""Side of a block of Dask where the data have smaller ones: with its halo one block of the UDF."""
MIN_PX, MAX_PX = 256, 2048  # blocks of the data between these sides stay as they are
Judgement = Callable[[xr.DataArray], dict[int, LaiInputError]]
"""What is wrong with the scaling of dates of (t, bands, y, x), by number."""


def estimate(
    data: xr.Dataset | xr.DataArray,
    *,
    target: str = "sl2p",
    variables: Sequence[str] = ("LAI",),
    resolution: int | None = None,
    region: str = "known",
    level: float = 0.95,
    calibration: str | Path | None = None,
    samples: int = 0,
    seed: int = 0,
    model: str | Path | None = None,
    bands: Sequence[str] | None = None,
    scale: float | None = None,
    offset: Offset | None = None,
    mask: str | None = SCENE_CLASS_BAND,
    plausibility: str = "auto",
) -> xr.Dataset:
    """Estimate LAI of a cube of Sentinel-2 L2A reflectance.

    Args:
        data: Dataset with a variable for each band, or DataArray with a dimension of bands; bands
            named `B02`, `b02`, `blue`, …, dimensions `time` or `t`, `band` or `bands`, `y`, `x`.
            Scale, offset and no data are read from its attributes.
        target: `sl2p`, as SNAP estimates, or `field`, corrected to field measurements.
        variables: of `LAI`, `FAPAR`, `FCOVER`, `CCC`, `CWC`.
        resolution: side of a pixel, m: 20 or 10; None: that of the grid. A cube of a single pixel
            needs it, and is estimated without its surroundings (flag 64).
        region: `known`, or `new` for regions unlike those of the field data.
        level: of the interval.
        calibration: file of own field points, for `target="field"`.
        samples: Monte-Carlo draws for `LAI_SD`; 0 = single pass.
        seed: of the draws.
        model: bundle; None: the one that ships.
        bands: names of the input bands in order, where labels are missing.
        scale: reflectance = value * scale + offset; None: what the data state.
        offset: as above: one number, or one from each date on (`{"2022-01-25": -0.1}`).
        mask: band of the scene classification; None: no pixel is masked.
        plausibility: `off` switches off every judgement of values.

    Returns:
        Variables `LAI`, `LAI_SD`, `LAI_LOWER`, `LAI_UPPER`, `LAI_FLAGS` and those asked for; dims
        of the data without bands; float32 with NaN for no data, flags uint8. Lazy where the data
        are of Dask: write it, or reduce it date by date, and memory stays small. A date whose
        scaling cannot be right has no data, with a warning; if that is every date, an error.

    Raises:
        ProductError: no CRS or grid, a band missing or twice, whole numbers without a scale.
        lai_udf.predict.LaiInputError: a parameter, or the scaling, cannot be right; for cubes of
            Dask the scaling is judged when they are computed.
    """
    try:
        declared = Declared(scale, offset, bands=tuple(bands or ()))
        cube = as_cube(data, declared, pixel_m=resolution)
        options = RunOptions(
            model=None if model is None else Path(model),
            target=target,
            samples=samples,
            seed=seed,
            variables=tuple([variables] if isinstance(variables, str) else variables),
            resolution=_resolution(cube, resolution),
            region=region,
            level=level,
            calibration=None if calibration is None else Path(calibration),
            plausibility=plausibility,
        )
        bundle = open_bundle(options.model)
        context = options.context(bundle, overlap_px=HALO_PX)
        array = _choose_mask(cube, mask)
    except LaiError as error:
        raise name_as_keyword(error) from error
    judged = None
    known = cube.offset_is_known
    if plausibility != "off" and not (cube.scaling_is_known or (known and scale is not None)):
        scale = cube.scalings[0].scale
        judged = partial(judge_dates, groups=group_dates(cube), offset_is_known=known, scale=scale)
    work = _estimate_now if array.chunks is None else _estimate_lazily
    values = work(array, context, options.output_bands(), judged)
    return _describe(values, cube, options, options.provenance(bundle), data)


def _resolution(cube: Cube, asked: int | None) -> int:
    size_m = round(cube.grid.transform.a)
    if asked is not None and asked != size_m:
        raise GridError(
            f"the cube has pixels of {size_m} m",
            parameter="resolution",
            value=asked,
            expected=f"{size_m}, or resample the cube",
        )
    return size_m


def _choose_mask(cube: Cube, mask: str | None) -> xr.DataArray:
    """Return the cube as one array of reflectance, with the scene classes that are wanted."""
    label = band_label(mask) if isinstance(mask, str) else None
    if mask is not None and label != SCENE_CLASS_BAND:
        raise MetadataError(
            parameter="mask", value=mask, expected="the scene classification, SCL, or None"
        )
    array = cube.to_array()
    if mask is None:
        return array.sel(bands=[b for b in array["bands"].values if b != SCENE_CLASS_BAND])
    if SCENE_CLASS_BAND not in cube.planes:
        LOG.warning("the cube has no scene classes (SCL): clouds are not masked")
    return array


def _estimate_now(
    array: xr.DataArray,
    context: Mapping[str, Any],
    bands: tuple[str, ...],
    judged: Judgement | None,
) -> npt.NDArray[np.float32]:
    """Estimate in memory, date by date; (t, bands, y, x)."""
    wrong = judged(array) if judged is not None else {}
    report_wrong(wrong, array.sizes["t"])
    shape = (array.sizes["t"], len(bands), array.sizes["y"], array.sizes["x"])
    result = np.empty(shape, np.float32)
    untrimmed = {**context, "overlap": 0}
    for date in range(len(result)):
        if date in wrong:
            result[date] = _nothing(bands, shape[2:])
        else:
            one = array.isel(t=date, drop=True).assign_attrs(datetime=_time_of(array, date))
            result[date] = apply_datacube(one, untrimmed).values
    return result


def _time_of(array: xr.DataArray, date: int) -> str:
    """Return the time of a date, by which own points are weighed; empty where it is unknown."""
    return str(array["t"].values[date]) if array["t"].dtype.kind == "M" else ""


def _nothing(bands: Sequence[str], shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Return the output bands of no data, (bands, y, x)."""
    fill = [NO_DATA_NEAR if band.endswith("_FLAGS") else np.nan for band in bands]
    return np.broadcast_to(np.array(fill, np.float32)[:, None, None], (len(bands), *shape))


def _estimate_lazily(
    array: xr.DataArray,
    context: Mapping[str, Any],
    bands: tuple[str, ...],
    judged: Judgement | None,
) -> Any:  # noqa: ANN401 (of Dask)
    """Estimate block by block with a halo; (t, bands, y, x)."""
    import dask.array as da

    labels = [str(label) for label in array["bands"].values]
    times = [_time_of(array, date) for date in range(array.sizes["t"])]
    rows, columns = (choose_blocks(array.chunksizes[axis]) for axis in ("y", "x"))
    values = array.data.rechunk({0: 1, 1: -1, 2: rows, 3: columns})
    verdicts = None if judged is None else _judge_lazily(array, judged)
    depth = {axis: HALO_PX if values.numblocks[axis] > 1 else 0 for axis in (2, 3)}
    # The edges of the cube get their halo in `work`: Dask would make it before the first block.
    shared = da.overlap.overlap(values, depth=depth, boundary="none", allow_rechunk=False)

    def work(
        block: npt.NDArray[np.float32],
        verdict: npt.NDArray[np.bool_] | None = None,
        block_info: Any = None,  # noqa: ANN401 (of Dask)
    ) -> npt.NDArray[np.float32]:
        place, count = block_info[0]["chunk-location"], block_info[0]["num-chunks"]
        sides = [
            (HALO_PX * (place[axis] == 0), HALO_PX * (place[axis] == count[axis] - 1))
            for axis in (2, 3)
        ]
        padded = np.pad(block[0], [(0, 0), *sides], constant_values=np.nan)
        inside = tuple(side - 2 * HALO_PX for side in padded.shape[1:])
        if verdict is not None and bool(verdict.all()):
            return _nothing(bands, inside)[None]
        window = xr.DataArray(
            padded,
            dims=("bands", "y", "x"),
            coords={"bands": labels},
            attrs={"datetime": times[place[0]]},
        )
        lai = apply_datacube(window, dict(context)).values
        return lai[None, :, HALO_PX:-HALO_PX, HALO_PX:-HALO_PX]

    arguments = [shared] if verdicts is None else [shared, verdicts]
    return da.map_blocks(
        work,
        *arguments,
        dtype=np.float32,
        chunks=(values.chunks[0], (len(bands),), *values.chunks[2:]),
        meta=np.empty((0, 0, 0, 0), np.float32),
    )


def choose_blocks(chunks: Sequence[int]) -> tuple[int, ...]:
    """Return the blocks along an axis: those of the data where they are in phase, else near them.

    Blocks that cut across those of the data would hold many of these in memory at a time.
    """
    whole = list(chunks)
    if not (all(size % ALIGN_PX == 0 for size in whole[:-1]) and MIN_PX <= whole[0] <= MAX_PX):
        size = min(max(-(-max(whole) // ALIGN_PX) * ALIGN_PX, CORE_PX), MAX_PX)
        full, rest = divmod(sum(whole), size)
        whole = [size] * full + ([rest] if rest else [])
    if len(whole) > 1 and whole[-1] < HALO_PX:  # less than the halo of its neighbour
        whole[-2:] = [whole[-2] + whole[-1]]
    return tuple(whole)


def _judge_lazily(array: xr.DataArray, judged: Judgement) -> Any:  # noqa: ANN401 (of Dask)
    """Return whether each date is refused, (t, 1, 1, 1) bool, judged when it is computed.

    All pixels are read for it before the first is estimated, and read again then: holding them
    would take the memory of the cube. So the task computes a graph of its own.
    """
    import dask.array as da
    from dask.delayed import delayed

    count = array.sizes["t"]
    step = thinning(array.sizes["y"], array.sizes["x"])  # of the whole date, whatever its blocks
    thin = array[:, :, ::step, ::step]

    def decide() -> npt.NDArray[np.bool_]:
        wrong = judged(thin.compute(scheduler="threads"))
        report_wrong(wrong, count)
        return np.isin(np.arange(count), list(wrong)).reshape(-1, 1, 1, 1)

    refused = da.from_delayed(delayed(decide, pure=False)(), (count, 1, 1, 1), dtype=bool)
    return refused.rechunk({0: 1})


def _describe(
    values: Any,  # noqa: ANN401 (of numpy or Dask)
    cube: Cube,
    options: RunOptions,
    provenance: Mapping[str, Any],
    data: xr.Dataset | xr.DataArray,
) -> xr.Dataset:
    """Return the variables with names, coordinates, CRS and attributes."""
    dims = (cube.time_dimension or "t", "y", "x")
    result = {}
    for number, band in enumerate(options.output_bands()):
        plane = values[:, number]
        plane = plane.astype(np.uint8) if band.endswith("_FLAGS") else plane
        about = describe_variable(band, level=options.level, samples=options.samples)
        result[band] = (dims, plane, about)
    coordinates: dict[str, Any] = {"y": cube.grid.y, "x": cube.grid.x}
    if cube.times is not None:
        coordinates[dims[0]] = cube.times
    dataset = xr.Dataset(result, coords=coordinates)
    for axis in ("y", "x"):
        name = f"projection_{axis}_coordinate"
        dataset[axis].attrs = {"standard_name": name, "units": "m", "axis": axis.upper()}
    kept = {
        name: coordinate.variable
        for name, coordinate in data.coords.items()
        if coordinate.dims == (cube.time_dimension,) and name not in dataset.coords
    }
    dataset = dataset.assign_coords(kept)
    if cube.time_dimension is None:
        dataset = dataset.isel({dims[0]: 0})
    located: xr.Dataset = dataset.rio.write_crs(cube.grid.crs)
    located = located.rio.write_transform(cube.grid.transform)
    located.attrs = {
        "Conventions": "CF-1.11",
        "title": "Leaf area index from Sentinel-2",
        "source": f"{provenance['model_id']} {provenance['model_version']}",
        "scaling": cube.scaling_text,
        "scene_classes": "used" if SCENE_CLASS_BAND in cube.planes else "none: cloud is unknown",
        **provenance,
    }
    return located


def write_cogs(lai: xr.Dataset, directory: str | Path) -> dict[str, list[Path]]:
    """Write what `lai_udf.estimate` returns: a folder for each date, a COG for each variable.

    Args:
        lai: dims ([time,] y, x), with coordinates and CRS; one of Dask is computed date by date.
        directory: where the folders go, named by the time (`20240601T103629`); files of a single
            date without a time go there themselves. Existing files of the same date are replaced.

    Returns:
        Paths by asset key (`lai`, `lai_sd`, …), in the order of the dates.

    Raises:
        RasterError: values outside what the type on disk holds, or the folder or disk refuses.
        GridError: no CRS or no coordinates.
    """
    bands = [band for band in ENCODINGS if band in lai.data_vars]
    if not bands:
        raise EncodingError(f"no variable of {', '.join(ENCODINGS)} in the Dataset")
    time = next((dim for dim in lai[bands[0]].dims if dim not in ("y", "x")), None)
    dates = [lai] if time is None else [lai.isel({time: i}) for i in range(lai.sizes[time])]
    tags = {str(key).upper(): str(value) for key, value in lai.attrs.items()}
    named = {band: lai[band].attrs.get("long_name") for band in bands}
    titles = {band: str(name) for band, name in named.items() if name}
    written: dict[str, list[Path]] = {}
    for date in dates:
        folder, dated = Path(directory), dict(tags)
        if time is not None and time in date.coords:
            moment = np.datetime_as_string(date[time].values, unit="s")
            folder /= str(moment).replace("-", "").replace(":", "")
            dated["DATETIME"] = f"{moment}Z"
        held = date[bands].compute()
        array = xr.DataArray(
            np.stack([held[band].values.astype("float32") for band in bands]),
            dims=("bands", "y", "x"),
            coords={"bands": bands, "y": lai["y"].values, "x": lai["x"].values},
        )
        placed = array.rio.write_crs(lai.rio.crs)
        for key, path in write_lai_cogs(placed, folder, tags=dated, titles=titles).items():
            written.setdefault(key, []).append(path)
    return written
