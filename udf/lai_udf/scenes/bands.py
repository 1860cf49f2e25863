"""One band of a scene: where it lies, what its numbers mean, and how a window of it is read."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import xarray as xr
from rasterio.enums import MaskFlags, Resampling
from rasterio.errors import RasterioError, RasterioIOError
from rasterio.io import DatasetReader
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from lai_udf.errors import UndeclaredScaleError, UnreadableProductError
from lai_udf.grid import Grid
from lai_udf.predict import to_reflectance
from lai_udf.scenes.jpeg2000 import require_whole
from lai_udf.scenes.labels import SCENE_CLASS_BAND

STRIP_ROWS = 512
"""Rows of the grid that are averaged at once: a row of JPEG 2000 tiles is 1024 px of 10 m."""

REMOTE_OPTIONS = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_HTTP_CONNECTTIMEOUT": "10",
    "GDAL_HTTP_TIMEOUT": "60",
    "GDAL_HTTP_MAX_RETRY": "3",
    "GDAL_HTTP_RETRY_DELAY": "1",
}

HASHED_PX = 2048 * 2048
"""Largest window whose values are what an input in an array is known by."""

SATURATED_DN = 65535
"""Special value SATURATED of the product metadata of L2A; 0 is NODATA."""

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Scaling:
    """How stored numbers become reflectance: `number * scale + offset` (GDAL's convention)."""

    scale: float = 1.0
    """Reflectance per digital number, 0.0001 for L2A."""

    offset: float = 0.0
    """Reflectance at digital number 0: -0.1 from processing baseline 04.00 on, 0 before."""

    is_known: bool = True
    """Whether somebody states the offset; else it is taken as 0 and may be judged."""

    found: str = ""
    """Where it was found, such as `MTD_MSIL2A.xml`."""

    def __post_init__(self) -> None:
        """Refuse what can be no scaling."""
        for parameter, value, fits in (
            ("scale", self.scale, self.scale > 0),
            ("offset", self.offset, True),
        ):
            if not (np.isfinite(value) and fits):
                raise UndeclaredScaleError(
                    parameter=f"reflectance_{parameter}",
                    value=value,
                    expected="a finite number" + (" above 0" if parameter == "scale" else ""),
                )

    def __str__(self) -> str:
        """Return scale, offset and where they were found."""
        known = "" if self.is_known else ", offset not stated"
        return f"scale {self.scale:g}, offset {self.offset:g}{known} ({self.found or 'as stored'})"


@dataclass(frozen=True)
class BandSource:
    """One band of a scene: a file, the band in it, and what its numbers mean."""

    label: str
    """Band label of the scene, for example `B8A`."""

    path: str
    """What rasterio opens: a path, an http href, a `/vsi` path."""

    index: int = 1
    """Number of the band in the file, from 1."""

    scaling: Scaling = Scaling()
    """From stored numbers to reflectance (or degrees); SCL has none."""

    nodata: tuple[float, ...] = (0.0,)
    """Stored numbers of no data. NaN is always no data."""

    has_mask: bool = False
    """Whether the file holds a mask band, which is honoured."""

    decimation: int = 1
    """2 where the file has half the pixel of the scene: 2 by 2 are averaged (SCL: upper left)."""

    repetition: int = 1
    """2 where the file has twice the pixel of the scene: each value is taken four times."""

    warp: Grid | None = None
    """Grid to reproject to while reading; None: the file's own."""

    def read(self, window: Window) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]:
        """Return stored numbers of a window of the file, and where its mask band hides them."""
        with open_raster(self.path, self.label) as dataset, self._warped(dataset) as raster:
            stored = raster.read(self.index, window=window)
            hidden = raster.read_masks(self.index, window=window) == 0 if self.has_mask else None
        return stored, hidden

    def digest(self, window: Window) -> list[object]:
        """Return what distinguishes a window of it from another input: description, size, time."""
        path = Path(self.path)
        status = path.stat() if path.is_file() else None
        return [repr(self), (status.st_size, status.st_mtime_ns) if status else None]

    def find_block(self) -> tuple[int, int]:
        """Return rows and columns of a block of the file, in pixels of the scene."""
        with open_raster(self.path, self.label) as dataset:
            rows, columns = dataset.block_shapes[self.index - 1]
        scale = self.repetition / self.decimation
        return max(1, int(rows * scale)), max(1, int(columns * scale))

    @contextmanager
    def _warped(self, dataset: DatasetReader) -> Iterator[DatasetReader]:
        if self.warp is None:
            yield dataset
            return
        whole = self.label == SCENE_CLASS_BAND
        options: dict[str, Any] = {"nodata": self.nodata[0]} if self.nodata else {}
        with WarpedVRT(
            dataset,
            crs=self.warp.crs,
            transform=self.warp.transform,
            width=self.warp.width,
            height=self.warp.height,
            resampling=Resampling.nearest if whole else Resampling.bilinear,
            **options,
        ) as warped:
            yield warped


@dataclass(frozen=True)
class ArrayBand(BandSource):
    """One band that xarray holds, in memory or on disk: netCDF, Zarr."""

    array: xr.DataArray = field(default_factory=xr.DataArray, repr=False, compare=False)
    """Dims (y, x), or fewer: one number for the scene."""

    def read(self, window: Window) -> tuple[npt.NDArray[Any], None]:
        """Return stored numbers of a window."""
        rows = slice(int(window.row_off), int(window.row_off + window.height))
        columns = slice(int(window.col_off), int(window.col_off + window.width))
        inside = {d: s for d, s in (("y", rows), ("x", columns)) if d in self.array.dims}
        part = self.array.isel(inside)
        try:
            values = np.asarray(part.values)
        except (OSError, ValueError, RuntimeError) as error:
            raise UnreadableProductError(
                f"{self.label}: cannot read {self.path} ({error}); fetch it again"
            ) from error
        return np.broadcast_to(values, (int(window.height), int(window.width))), None

    def digest(self, window: Window) -> list[object]:
        """Return what distinguishes a window of it from another input: its values.

        A series in a file grows, and its old dates stay what they were. Of a whole tile the files
        are asked instead, not to read it twice.
        """
        if window.width * window.height > HASHED_PX and Path(self.path).exists():
            return [repr(self), _state_of(Path(self.path))]
        hashed = hashlib.sha256()
        for part in _iterate_parts(self, window):
            hashed.update(np.ascontiguousarray(part).tobytes())
        return [self.label, repr(self.scaling), hashed.hexdigest()]

    def find_block(self) -> tuple[int, int]:
        """Return rows and columns of a chunk on disk, in pixels of the scene."""
        chunks = self.array.encoding.get("preferred_chunks") or {}
        scale = self.repetition / self.decimation
        return tuple(max(1, int(chunks.get(dim, 1) * scale)) for dim in ("y", "x"))  # type: ignore[return-value]


def _iterate_parts(band: ArrayBand, window: Window) -> Iterator[npt.NDArray[Any]]:
    """Yield the stored numbers of a window of the scene, strip by strip."""
    for start in range(0, int(window.height), STRIP_ROWS):
        rows = min(STRIP_ROWS, int(window.height) - start)
        part = Window(window.col_off, window.row_off + start, window.width, rows)
        yield band.read(_in_file(band, part))[0]


def _state_of(path: Path) -> list[object]:
    """Return number, size and latest time of the files of a path."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    states = [file.stat() for file in files]
    return [len(states), sum(s.st_size for s in states), max(s.st_mtime_ns for s in states)]


def _in_file(band: BandSource, part: Window) -> Window:
    """Return the pixels of the file that a window of the scene needs."""
    d, r = band.decimation, band.repetition
    first_row, first_column = int(part.row_off) // r, int(part.col_off) // r
    height = -(-int(part.row_off + part.height) // r) - first_row
    width = -(-int(part.col_off + part.width) // r) - first_column
    return Window(first_column * d, first_row * d, width * d, height * d)


@contextmanager
def open_raster(path: str, label: str) -> Iterator[DatasetReader]:
    """Open a raster, and turn what rasterio raises in the meantime into one clear error.

    Raises:
        UnreadableProductError: the file is missing, foreign, truncated or not served.
    """
    options = REMOTE_OPTIONS if "://" in path or path.startswith("/vsi") else {}
    require_whole(path, label)
    try:
        with rasterio.Env(GDAL_NUM_THREADS="ALL_CPUS", **options), rasterio.open(path) as dataset:
            yield dataset
    except (RasterioIOError, RasterioError) as error:
        reason = str(error.__cause__ or error)
        raise UnreadableProductError(
            f"{label}: cannot read {path} ({reason}); the file may be missing, truncated or "
            "behind a login: fetch it again or sign its href"
        ) from error


def holds_mask(dataset: DatasetReader, index: int) -> bool:
    """Return whether a band has a mask of its own, beyond a no-data value."""
    flags = dataset.mask_flag_enums[index - 1]
    return MaskFlags.per_dataset in flags or MaskFlags.alpha in flags


def read_band(band: BandSource, window: Window, *, out: FloatArray) -> None:
    """Read one band of a window into `out`, shape (y, x) of the grid, float32."""
    height, width = int(window.height), int(window.width)
    step = STRIP_ROWS if band.decimation > 1 else max(height, 1)
    for start in range(0, height, step):
        rows = min(step, height - start)
        part = Window(window.col_off, window.row_off + start, width, rows)
        out[start : start + rows] = _read_part(band, part)


def _read_part(band: BandSource, part: Window) -> FloatArray:
    d, r = band.decimation, band.repetition
    stored, hidden = band.read(_in_file(band, part))
    if band.label == SCENE_CLASS_BAND:
        values = stored[::d, ::d].astype(np.float32)
    else:
        values = average_2x2(decode(stored, band, hidden), d)
    if r > 1:
        top, left = int(part.row_off) % r, int(part.col_off) % r
        values = values.repeat(r, axis=0).repeat(r, axis=1)
        values = values[top : top + int(part.height), left : left + int(part.width)]
    return values


def decode(
    stored: npt.NDArray[np.generic],
    band: BandSource,
    hidden: npt.NDArray[np.bool_] | None = None,
) -> FloatArray:
    """Turn stored numbers, shape (y, x), into float32 values with NaN where there is no data.

    Source: Sentinel-2 L2A product metadata (BOA_ADD_OFFSET, BOA_QUANTIFICATION_VALUE).
    """
    values: FloatArray = to_reflectance(stored, band.scaling.scale, band.scaling.offset)
    numbers = [number for number in band.nodata if not np.isnan(number)]
    missing = np.isin(stored, numbers) if numbers else np.zeros(stored.shape, bool)
    if hidden is not None:
        missing |= hidden
    np.copyto(values, np.float32(np.nan), where=missing)
    return values


def average_2x2(values: FloatArray, decimation: int) -> FloatArray:
    """Average blocks of `decimation`×`decimation` pixels, over those that hold data.

    Shape (y·d, x·d) -> (y, x); a block without data is NaN.
    """
    if decimation == 1:
        return values
    rows, columns = (size // decimation for size in values.shape)
    blocks = values.reshape(rows, decimation, columns, decimation)
    valid = np.isfinite(blocks)
    count = valid.sum(axis=(1, 3), dtype=np.float32)
    total = np.where(valid, blocks, np.float32(0)).sum(axis=(1, 3), dtype=np.float32)
    mean: FloatArray = np.full((rows, columns), np.nan, np.float32)
    np.divide(total, count, out=mean, where=count > 0)
    return mean
