"""LAI on disk: one COG per output band, written by windows and moved into place when whole.

Output bands are described by CF's conventions: names, units, meaning of the flags.

In: cubes with dims (bands, y, x), float32, NaN = no data, bands of `lai_udf.predict.OUTPUT_BANDS`.
Out: `lai.tif`, `lai_sd.tif`, `lai_lower.tif`, `lai_upper.tif` (int16, scale 0.001, no data -32768)
and `lai_flags.tif` (uint8, no no-data value), DEFLATE; and the way back to the cube.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import rasterio
import rasterio.shutil
import xarray as xr
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader, DatasetWriter
from rasterio.windows import Window
from rio_cogeo.cogeo import cog_validate

from lai_udf import predict
from lai_udf.atomic import disk_errors, move_finished, work_folder
from lai_udf.errors import EncodingError, RasterError
from lai_udf.grid import Grid
from lai_udf.predict import ALL_OUTPUT_BANDS, NO_DATA_NEAR, NO_DATA_ON_DISK, OUTPUT_BANDS, VARIABLES

BLOCK_PX = 256  # side of a tile of the COGs
FILES_AT_A_TIME = 2  # COGs made at the same time
LONG_NAMES = {
    "LAI": "leaf area index",
    "FAPAR": "fraction of absorbed photosynthetically active radiation",
    "FCOVER": "fraction of vegetation cover",
    "CCC": "canopy chlorophyll content",
    "CWC": "canopy water content",
}
STANDARD_NAMES = {
    "LAI": "leaf_area_index",
    "FAPAR": "fraction_of_surface_downwelling_photosynthetic_radiative_flux_absorbed_by_vegetation",
    "FCOVER": "vegetation_area_fraction",
}
"""Of CF's table, where it has the quantity."""
FLAG_MEANINGS = {
    predict.INPUT_OUT_OF_DOMAIN: "input_out_of_domain",
    predict.CLIPPED_TO_MIN: "clipped_to_minimum",
    predict.CLIPPED_TO_MAX: "clipped_to_maximum",
    predict.OUTPUT_TOO_LOW: "output_too_low",
    predict.OUTPUT_TOO_HIGH: "output_too_high",
    predict.CLOUD_NEAR: "cloud_near",
    predict.NO_DATA_NEAR: "no_data_near",
    predict.RESIDUAL_CLOUD: "residual_cloud_haze_or_shadow",
}


@dataclass(frozen=True)
class Encoding:
    """How one output band lies on disk."""

    band: str  # band of the cube, for example `LAI_SD`
    title: str  # description of the band in the file
    dtype: str = "int16"  # type of the numbers on disk
    scale: float = VARIABLES["LAI"].scale  # value = number * scale
    nodata: int | None = NO_DATA_ON_DISK  # number of no data; None where every number is data
    unit: str = VARIABLES["LAI"].unit  # unit of the values; empty for flags
    overview: str = "AVERAGE"
    """Resampling of the overviews. The overview of a spread is the mean spread of its pixels."""

    @property
    def key(self) -> str:
        """STAC asset key, and stem of the file name."""
        return self.band.lower()

    def encode(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Turn values of the cube into numbers on disk; NaN becomes no data.

        Raises:
            EncodingError: a value that the type cannot hold, or a flag without a value.
        """
        numbers = np.rint(values * np.float32(1 / self.scale))
        gaps = np.isnan(numbers)
        if self.nodata is None and gaps.any():
            raise EncodingError(
                f"{self.band} has no value at {int(gaps.sum())} pixels: flags are finite "
                f"everywhere, {NO_DATA_NEAR} where there is no data"
            )
        info = np.iinfo(self.dtype)
        low = info.min if self.nodata is None else self.nodata + 1
        least, most = np.fmin.reduce(numbers, axis=None), np.fmax.reduce(numbers, axis=None)
        if least < low or most > info.max:
            found = (least if least < low else most) * self.scale
            raise EncodingError(
                f"{self.band} holds {found:g}; on disk it must lie "
                f"between {low * self.scale:g} and {info.max * self.scale:g} {self.unit}".rstrip()
            )
        np.copyto(numbers, self.nodata or 0, where=gaps)
        return numbers.astype(self.dtype)


def describe_variable(
    band: str, *, level: float | None = 0.95, samples: int | None = 0
) -> dict[str, Any]:
    """Return the CF attributes of an output band; None is any level, any number of draws."""
    variable, _, part = band.partition("_")
    long_name, unit = LONG_NAMES[variable], VARIABLES[variable].unit
    if part == "FLAGS":
        return {
            "long_name": f"quality flags of {long_name}",
            "standard_name": "quality_flag",
            "flag_masks": np.array(list(FLAG_MEANINGS), np.uint8),
            "flag_meanings": " ".join(FLAG_MEANINGS.values()),
        }
    spread = "Monte-Carlo dropout standard deviation"
    if samples is not None:
        spread = (
            f"standard deviation of {samples} Monte-Carlo draws"
            if samples
            else f"single-pass {spread}"
        )
    interval = "prediction interval" if level is None else f"{100 * level:g} % prediction interval"
    names = {
        "": long_name,
        "SD": f"{spread} of {long_name}",
        "LOWER": f"lower bound of the {interval} of {long_name}",
        "UPPER": f"upper bound of the {interval} of {long_name}",
    }
    described = {"long_name": names[part], "units": unit}
    if not part and variable in STANDARD_NAMES:
        described["standard_name"] = STANDARD_NAMES[variable]
        if variable == "LAI":
            described["ancillary_variables"] = "LAI_FLAGS"
    return described


def _encoding(band: str) -> Encoding:
    variable, _, part = band.partition("_")
    title, described = str(describe_variable(band)["long_name"]), VARIABLES[variable]
    if part == "FLAGS":
        return Encoding(band, title, "uint8", 1.0, None, "", "MODE")
    return Encoding(band, title, scale=described.scale, unit=described.unit)


GAP_DAYS = "GAP_DAYS"
ENCODINGS = {band: _encoding(band) for band in ALL_OUTPUT_BANDS} | {
    GAP_DAYS: Encoding(GAP_DAYS, "Days to the nearest usable date", scale=1.0, unit="d")
}
"""Encoding of each output band, in the order of the cube; the last is of series alone."""


class LaiCogWriter:
    """Writes LAI window by window, in a `with` block; the COGs appear if all of it went well."""

    def __init__(
        self,
        directory: Path,
        grid: Grid,
        *,
        bands: tuple[str, ...] = OUTPUT_BANDS,
        tags: Mapping[str, str] | None = None,
        titles: Mapping[str, str] | None = None,
    ) -> None:
        """Plan the files; nothing is touched before `with`.

        Args:
            directory: where the COGs will lie; made if missing.
            grid: of the whole raster.
            bands: output bands to write.
            tags: GDAL metadata of each file, for example the model and the time.
            titles: descriptions of bands, where they add to their names.
        """
        unknown = [band for band in bands if band not in ENCODINGS]
        if unknown or not bands:
            raise EncodingError(f"unknown bands {unknown}: write some of {', '.join(ENCODINGS)}")
        self.directory, self.grid, self._bands = directory, grid, bands
        self.paths = {ENCODINGS[b].key: directory / f"{ENCODINGS[b].key}.tif" for b in bands}
        """Files by asset key, there once the `with` block has ended."""
        self._tags, self._titles = dict(tags or {}), dict(titles or {})
        self._stack, self._pixels = ExitStack(), 0

    def __enter__(self) -> Self:
        """Open one uncompressed working raster per band beside the target."""
        with ExitStack() as stack:
            self._work = stack.enter_context(work_folder(self.directory))
            with disk_errors(self.directory):
                self._open = {b: stack.enter_context(self._working_raster(b)) for b in self._bands}
            self._stack = stack.pop_all()
        return self

    def write(self, block: xr.DataArray, window: Window | None = None) -> None:
        """Write one window (None: the whole grid); every pixel of the grid is to be written once.

        Args:
            block: dims (bands, y, x), float; at least the bands of this writer.
            window: where in the grid it belongs.

        Raises:
            EncodingError: a band is missing, the shape differs, or a value does not fit the type.
        """
        window = window or Window(0, 0, self.grid.width, self.grid.height)
        missing = [band for band in self._bands if band not in block.coords["bands"].values]
        if missing:
            raise EncodingError(f"the cube lacks {', '.join(missing)}")
        shape = (int(window.height), int(window.width))
        for band in self._bands:
            values = block.sel(bands=band).transpose("y", "x").values
            if values.shape != shape:
                raise EncodingError(f"block of {values.shape} pixels for a window of {shape}")
            numbers = ENCODINGS[band].encode(values)
            with disk_errors(self.directory):
                self._open[band].write(numbers, 1, window=window)
        self._pixels += shape[0] * shape[1]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Turn the working rasters into COGs and move them into place, or leave nothing."""
        with self._stack:  # closes the working rasters and removes their folder
            if error is None:
                self._complete()

    def _complete(self) -> None:
        expected = self.grid.height * self.grid.width
        if self._pixels != expected:
            raise RasterError(
                f"{self._pixels} pixels were written to {self.directory}, the grid has {expected}: "
                "write every window once"
            )
        with disk_errors(self.directory):
            for dataset in self._open.values():
                dataset.close()
            encodings = [ENCODINGS[band] for band in self._bands]
            with ThreadPoolExecutor(FILES_AT_A_TIME) as pool:  # overviews take one thread a file
                finished = list(pool.map(self._finish, encodings))
            targets = [self.paths[encoding.key] for encoding in encodings]
            move_finished(dict(zip(finished, targets, strict=True)))

    def _working_raster(self, band: str) -> DatasetWriter:
        encoding = ENCODINGS[band]
        held = {"count": 1, "dtype": encoding.dtype, "nodata": encoding.nodata}
        tiles = {"tiled": True, "blockxsize": BLOCK_PX, "blockysize": BLOCK_PX}
        path = self._work / f"{encoding.key}.raw.tif"
        profile = {**self.grid.profile, **held, **tiles, "BIGTIFF": "IF_SAFER"}
        dataset = rasterio.open(path, "w", driver="GTiff", **profile)
        dataset.descriptions = (self._titles.get(band, encoding.title),)
        dataset.scales, dataset.offsets = (encoding.scale,), (0.0,)
        dataset.units = (encoding.unit,)
        dataset.update_tags(**self._tags)
        return dataset

    def _finish(self, encoding: Encoding) -> Path:
        """Copy a working raster into a COG, and check that the COG is one and holds the same."""
        raw = self._work / f"{encoding.key}.raw.tif"
        cog = self._work / f"{encoding.key}.tif"
        rasterio.shutil.copy(
            raw,
            cog,
            driver="COG",
            compress="DEFLATE",  # 7 % larger than ZSTD, and every client reads it
            predictor="YES",
            blocksize=BLOCK_PX,
            overviews="IGNORE_EXISTING",
            overview_resampling=encoding.overview,
            num_threads="ALL_CPUS",
            bigtiff="IF_SAFER",
        )
        valid, errors, warnings = cog_validate(cog, strict=True, quiet=True)
        if not valid:
            raise RasterError(f"{cog.name} is no valid COG ({'; '.join([*errors, *warnings])})")
        with rasterio.open(raw) as before, rasterio.open(cog) as after:
            if before.checksum(1) != after.checksum(1):
                raise OSError(f"{cog.name} differs from what was computed; is the disk full?")
        return cog


def write_lai_cogs(
    lai: xr.DataArray,
    directory: Path,
    *,
    tags: Mapping[str, str] | None = None,
    titles: Mapping[str, str] | None = None,
) -> dict[str, Path]:
    """Write a cube as one COG per band; all of them appear, or none.

    Args:
        lai: dims (bands, y, x), float32, NaN = no data (flags finite), with coordinates and CRS.
        directory: where the files go; made if missing, existing files are replaced.
        tags: GDAL metadata of each file.
        titles: descriptions of bands, where they add to their names.

    Returns:
        Paths by asset key (`lai`, `lai_sd`, `lai_lower`, `lai_upper`, `lai_flags`).

    Raises:
        EncodingError: a foreign band, or values outside what the type on disk holds.
        GridError: no CRS or no coordinates.
        OutputNotWritableError: the folder or disk refuses.
    """
    grid = Grid.of_data_array(lai, "the LAI cube")
    bands = tuple(str(band) for band in lai.coords["bands"].values)
    with LaiCogWriter(directory, grid, bands=bands, tags=tags, titles=titles) as writer:
        writer.write(lai)
    return writer.paths


def read_bands(
    places: Mapping[str, tuple[Path, int]], window: Window | None = None, dtype: type = np.float32
) -> tuple[dict[str, npt.NDArray[Any]], Grid | None, dict[str, str]]:
    """Read bands of one grid: values (y, x) by band, NaN = no data; grid; tags of the first file.

    Args:
        places: GeoTIFF of each band, and its number in it from 1; without any, grid is None.
        window: of the grid; None: all of it.
        dtype: of the values, a float.

    Raises:
        RasterError: a file cannot be read.
        GridError: the files lie on different grids.
    """
    layers: dict[str, npt.NDArray[Any]] = {}
    grid: Grid | None = None
    tags: dict[str, str] = {}
    for band, (path, index) in places.items():
        with open_geotiff(path) as dataset:
            grid, tags = grid or Grid.of_dataset(dataset), tags or dataset.tags()
            grid.require_same(Grid.of_dataset(dataset), str(path))
            try:
                layers[band] = decode_band(dataset, index, window, dtype)
            except RasterioError as error:
                raise RasterError(f"cannot read {path} ({error})") from error
    return layers, grid, tags


def open_geotiff(path: Path) -> DatasetReader:
    """Open a GeoTIFF by that driver alone, as another could name files elsewhere.

    Raises:
        RasterError: it cannot be opened.
    """
    try:
        return rasterio.open(path, driver="GTiff")
    except RasterioError as error:
        raise RasterError(f"cannot read {path} ({error})") from error


def decode_band(
    dataset: DatasetReader, index: int, window: Window | None = None, dtype: type = np.float32
) -> npt.NDArray[Any]:
    """Return the values (y, x) of a band by its scale, offset and no data; NaN = no data.

    Args:
        dataset: an open raster.
        index: number of the band, from 1.
        window: part of the raster; None: all of it.
        dtype: of the values, a float.
    """
    raw = dataset.read(index, window=window)
    values: npt.NDArray[Any] = raw.astype(dtype)
    values *= dtype(dataset.scales[index - 1])
    values += dtype(dataset.offsets[index - 1])
    nodata = dataset.nodatavals[index - 1]
    if nodata is not None and not np.isnan(nodata):
        values[raw == nodata] = np.nan
    return values
