"""Series on disk: results or a cube in, one netCDF of LAI through clouds and gaps out.

In: folders of results of `lai-udf run`, or a cube in netCDF or Zarr, of LAI or of reflectance, of
which LAI is estimated first. Out: `series.nc`, and on request COGs of each date and a picture of
the curve. Strips of rows are read, smoothed and written one after the other.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5netcdf
import numpy as np
import numpy.typing as npt
import xarray as xr
from rasterio.windows import Window

from lai_udf import series
from lai_udf.api import estimate, write_cogs
from lai_udf.atomic import disk_errors, move_finished, work_folder
from lai_udf.errors import GridError, MetadataError
from lai_udf.grid import Grid, find_crs
from lai_udf.identity import ID_TAG
from lai_udf.predict import OUTPUT_BANDS as LAI_OUTPUTS
from lai_udf.predict import VARIABLES
from lai_udf.results import find_results, require_one_scaling
from lai_udf.scenes.cubes import CUBE_SUFFIXES, as_cube, open_dataset
from lai_udf.scenes.metadata import Declared
from lai_udf.series import OBSERVED, OUTPUT_BANDS
from lai_udf.smoothing import (
    LONG_NAMES,
    find_time,
    read_level,
    refuse_series,
    renamed_errors,
    split_bands,
    unit_of,
)

SERIES_FILE = "series.nc"
PICTURE_FILE = "series.png"
STRIP_PX = 2_000_000  # pixels times dates of a strip in memory
CHUNK_PX = 256
STEP = 1e-4  # of LAI on disk: what Python and a back-end give, to half of it
NO_DATA = -(2**31)
KEPT_TAGS: tuple[str, ...] = (
    "model_id",
    "model_version",
    "model_checksum",
    "target",
    "samples",
    "seed",
)
KEPT_TAGS += ("region", "level", "calibration", "plausibility")
"""Of the results that go in: what the numbers of the series depend on."""
Bands = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class SeriesInput:
    """LAI over time, read by rows."""

    name: str  # how messages call it
    grid: Grid  # of all dates
    times: npt.NDArray[np.datetime64]  # of the dates, in order
    read: Callable[[slice], Bands]
    """Bands of `lai_udf.series` of some rows, (t, rows, x) each, reflectance scaled."""
    attributes: Mapping[str, str]
    """Of the result: model, target, settings, and ids of the results that it was made from."""


def open_series_input(source: Path, scale: float | None = None, offset: Any = None) -> SeriesInput:  # noqa: ANN401
    """Open a folder of results, or a cube in netCDF or Zarr: of reflectance LAI is estimated.

    Args:
        source: of one tile, model and settings.
        scale: reflectance per digital number, of a cube of reflectance; None: what it states.
        offset: reflectance at digital number 0.

    Raises:
        LaiUdfError: what cannot be read, or results of several grids, settings or scalings.
    """
    if source.suffix.lower() in CUBE_SUFFIXES:
        return _open_cube(source, scale, offset)
    return _open_results(source)


def _open_results(source: Path) -> SeriesInput:
    results = find_results([source])
    first = results[0]
    for other in results:
        if other.grid != first.grid:
            raise GridError(
                f"{source} holds results on several grids ({first.name}, {other.name}): give the "
                "folder of one tile"
            )
    if len({result.settings for result in results}) > 1:
        raise MetadataError(
            f"{source} holds results of several models or settings (target, draws, interval, own "
            "points): give those of one"
        )
    if any(result.is_series for result in results):
        raise MetadataError(f"{source} holds a series already: give results of single dates")
    require_one_scaling(results)
    moments = [result.datetime.replace(tzinfo=None) for result in results]
    times = np.array(moments, dtype="datetime64[ns]")
    attributes = {key: first.tags[key.upper()] for key in KEPT_TAGS if key.upper() in first.tags}
    ids = [str(result.properties.get("id") or result.tags.get(ID_TAG, "")) for result in results]
    attributes["sources"] = " ".join(sorted(filter(None, ids)))

    def read(rows: slice) -> Bands:
        window = Window(0, rows.start, first.grid.width, rows.stop - rows.start)
        names = tuple(band for band in LAI_OUTPUTS if band in series.LAI_BANDS)
        dates = [result.read(names, window) for result in results]
        shared = [name for name in names if all(name in date for date in dates)]
        return {name: np.stack([date[name] for date in dates]) for name in shared}

    return SeriesInput(str(source), first.grid, times, read, attributes)


def _open_cube(source: Path, scale: float | None, offset: Any) -> SeriesInput:  # noqa: ANN401
    dataset = open_dataset(source)
    refuse_series(dataset)
    bands = split_bands(xr.decode_cf(dataset))
    if "LAI" not in bands:
        cube = as_cube(dataset, Declared(scale, offset))
        reflectance = cube.to_array()
        # Scaled already; whether scale and offset were known decides if they are doubted.
        known = 1.0 if cube.scaling_is_known else None, 0.0 if cube.offset_is_known else None
        lai = estimate(reflectance, scale=known[0], offset=known[1])
        bands = {**split_bands(reflectance), **split_bands(lai)}
        attributes, crs = {str(k): str(v) for k, v in lai.attrs.items()}, lai.rio.crs
    else:
        attributes = {key: str(dataset.attrs[key]) for key in KEPT_TAGS if key in dataset.attrs}
        crs = find_crs(dataset, str(source))
    attributes["input"] = source.name
    find_time(bands)  # raises where there is none
    ordered = {
        str(name): (band.rename(time="t") if "time" in band.dims else band).transpose("t", "y", "x")
        for name, band in bands.items()
    }
    times = ordered["LAI"]["t"].values.astype("datetime64[ns]")
    grid = Grid.of_data_array(ordered["LAI"].rio.write_crs(crs), str(source))

    def read(rows: slice) -> Bands:
        return {name: band.isel(y=rows).values for name, band in ordered.items()}

    return SeriesInput(str(source), grid, times, read, attributes)


def write_series(
    source: SeriesInput,
    directory: Path,
    *,
    cogs: bool = False,
    picture: bool = False,
    progress: Callable[[int, int], None] | None = None,
    **context: Any,  # noqa: ANN401 - keys of `lai_udf.series.SeriesOptions`
) -> list[Path]:
    """Smooth a series and write `series.nc`; files appear when they are whole.

    Args:
        source: see `open_series_input`.
        directory: where the files go; made if missing, files of the same name are replaced.
        cogs: write a folder of COGs for each date that has a value as well, which `lai_stac`
            describes and `lai-service` publishes.
        picture: draw the mean curve of the area as well (needs matplotlib).
        progress: called as `progress(rows done, rows)`.
        **context: `dates`, or `step_days`, `start` and `end`; `max_gap_days`; `level`, by default
            that of the source.

    Raises:
        OutputNotWritableError: the folder or disk refuses.
        lai_udf.predict.LaiInputError: dates that the series does not reach, or a wrong setting.
    """
    if picture:
        from lai_udf.field.plot import draw_curve  # matplotlib: missing, it is missed at once
    context = {"level": read_level(source.attributes)} | context
    with renamed_errors():
        settings = series.read_settings(context)
        days = series.read_days(source.times)
        targets = series.list_targets(days, settings)
    observed = settings.dates == OBSERVED
    names = series.output_names(settings)
    times = source.times if observed else targets.astype("datetime64[D]").astype("datetime64[ns]")
    with work_folder(directory) as work:
        path = work / SERIES_FILE
        with disk_errors(directory):
            _describe_file(path, source, times, names, settings)
        with disk_errors(directory), h5netcdf.File(path, "a") as file:
            height, width = source.grid.shape
            step = max(1, STRIP_PX // max(1, width * (len(days) + len(targets))))
            for top in range(0, height, step):
                rows = slice(top, min(top + step, height))
                with renamed_errors():
                    bands = source.read(rows)
                    series.refuse_scaled(bands, settings)
                    smoothed = series.smooth_arrays(days, bands, targets, settings, names)
                for position, name in enumerate(names):
                    file.variables[name][:, rows, :] = _encode(name, smoothed[:, position])
                if progress is not None:
                    progress(rows.stop, height)
        finished = {path: directory / SERIES_FILE}
        if picture:
            with xr.open_dataset(path, engine="h5netcdf", decode_coords="all") as dataset:
                means = dataset[list(OUTPUT_BANDS)].mean(("y", "x")).to_dataframe()
            drawn = draw_curve(means.rename(columns=str.lower), f"Mean LAI, {source.name}")
            (work / PICTURE_FILE).write_bytes(drawn)
            finished[work / PICTURE_FILE] = directory / PICTURE_FILE
        move_finished(finished)
    written = list(finished.values())
    if cogs:
        with xr.open_dataset(written[0], engine="h5netcdf", decode_coords="all") as dataset:
            filled = dataset["LAI"].notnull().any(("y", "x")).values
            for paths in write_cogs(dataset.isel(t=filled), directory).values():
                written += paths
    return written


def _encode(name: str, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return values as stored: LAI in steps, as far as COGs reach, whole days, or flags."""
    numbers = values.astype("float64")
    if name.startswith("LAI"):
        limit = 32_767 * VARIABLES["LAI"].scale
        numbers = np.clip(numbers, -limit, limit) / STEP
    numbers = np.rint(numbers)
    return np.where(np.isnan(numbers), NO_DATA, numbers).astype("int32")


def _describe_file(
    path: Path,
    source: SeriesInput,
    times: npt.NDArray[np.datetime64],
    names: Sequence[str],
    settings: series.SeriesOptions,
) -> None:
    """Create dimensions, coordinates and variables after the CF conventions."""
    grid = source.grid
    first, last = (str(moment)[:10] for moment in (source.times.min(), source.times.max()))
    attributes = {
        "Conventions": "CF-1.11",
        **source.attributes,
        "level": f"{settings.level:g}",
        "series": f"{len(source.times)} dates from {first} to {last}",
        "max_gap_days": f"{settings.max_gap_days:g}",
    }
    frame = xr.Dataset(coords={"t": times, "y": grid.y, "x": grid.x}, attrs=attributes)
    frame = frame.rio.write_crs(grid.crs).rio.write_transform(grid.transform)
    unfilled = {axis: {"_FillValue": None} for axis in ("y", "x")}
    seconds = {"units": "seconds since 1970-01-01", "dtype": "int64"}
    frame.rio.write_coordinate_system().to_netcdf(
        path, engine="h5netcdf", encoding={"t": seconds, **unfilled}
    )
    chunks = (1, min(CHUNK_PX, grid.height), min(CHUNK_PX, grid.width))
    with h5netcdf.File(path, "a") as file:
        for name in names:
            packed = {"compression": "gzip", "compression_opts": 4, "shuffle": True}
            packed |= {"fillvalue": np.int32(NO_DATA), "chunks": chunks}
            variable = file.create_variable(name, ("t", "y", "x"), "int32", **packed)
            variable.attrs["long_name"], variable.attrs["units"] = LONG_NAMES[name], unit_of(name)
            variable.attrs["grid_mapping"] = "spatial_ref"
            if name.startswith("LAI"):
                variable.attrs["scale_factor"] = STEP
