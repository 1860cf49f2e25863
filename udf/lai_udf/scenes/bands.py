"""One band of a scene: where it is stored, what its numbers mean, how a window of it is read.

A band is a file (`BandSource`), an array of xarray (`ArrayBand`), or an angle on a coarse grid
(`AngleGrid`).
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import rasterio
import xarray as xr
from rasterio.enums import MaskFlags, Resampling
from rasterio.errors import RasterioError, RasterioIOError
from rasterio.io import DatasetReader
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from lai_udf.errors import UnreadableProductError
from lai_udf.grid import Grid
from lai_udf.predict import ANGLES, to_reflectance
from lai_udf.scenes.labels import SCENE_CLASS_BAND
from lai_udf.scenes.metadata import Scaling

STRIP_ROWS = 512
"""Rows of the grid that are averaged at once: a row of JPEG 2000 tiles is 1024 px of 10 m."""
REMOTE_OPTIONS = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_HTTP_CONNECTTIMEOUT": "10",
    "GDAL_HTTP_TIMEOUT": "60",
    "GDAL_HTTP_MAX_RETRY": "3",
    "GDAL_HTTP_RETRY_DELAY": "1",
}
HASHED_PX = 2048 * 2048  # largest window whose values are what an input in an array is known by
SUN_ZENITH, SUN_AZIMUTH, VIEW_ZENITH, VIEW_AZIMUTH = ANGLES
FloatArray = npt.NDArray[np.float32]
Nodes = npt.NDArray[np.float64]


@dataclass(frozen=True)
class BandSource:
    """One band of a scene: a file, the band in it, and what its numbers mean."""

    label: str  # band label of the scene, for example `B8A`
    path: str  # what rasterio opens: a path, an http href, a `/vsi` path
    index: int = 1  # number of the band in the file, from 1
    scaling: Scaling = field(default_factory=Scaling)
    """From stored numbers to reflectance (or degrees); SCL has none."""
    nodata: tuple[float, ...] = (0.0,)  # stored numbers of no data. NaN is always no data.
    has_mask: bool = False  # whether the file holds a mask band, which is honoured
    decimation: int = 1
    """2 where the file has half the pixel of the scene: 2 by 2 are averaged (SCL: upper left)."""
    repetition: int = 1
    """2 where the file has twice the pixel of the scene: each value is taken four times."""
    warp: Grid | None = None  # grid to reproject to while reading; None: the file's own

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
        classes = self.label == SCENE_CLASS_BAND
        options = {"resampling": Resampling.nearest if classes else Resampling.bilinear}
        options |= {"nodata": self.nodata[0]} if self.nodata else {}
        with WarpedVRT(dataset, **self.warp.profile, **options) as warped:
            yield warped


@dataclass(frozen=True)
class ArrayBand(BandSource):
    """One band that xarray holds, in memory or on disk: netCDF, Zarr."""

    array: xr.DataArray = field(default_factory=xr.DataArray, repr=False, compare=False)
    """Dims (y, x), or fewer: one number for the scene."""

    def read(self, window: Window) -> tuple[npt.NDArray[Any], None]:
        """Return stored numbers of a window."""
        inside = dict(zip(("y", "x"), window.toslices(), strict=True))
        try:
            values = self.array.isel(inside, missing_dims="ignore").values
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
            files = [Path(self.path), *Path(self.path).rglob("*")]
            states = [file.stat() for file in files if file.is_file()]
            size, latest = sum(s.st_size for s in states), max(s.st_mtime_ns for s in states)
            return [repr(self), [len(states), size, latest]]
        values = np.ascontiguousarray(self.read(_in_file(self, window))[0])
        return [self.label, repr(self.scaling), hashlib.sha256(values.data).hexdigest()]

    def find_block(self) -> tuple[int, int]:
        """Return rows and columns of a chunk on disk, in pixels of the scene."""
        chunks = self.array.encoding.get("preferred_chunks") or {}
        scale = self.repetition / self.decimation
        return tuple(max(1, int(chunks.get(dim, 1) * scale)) for dim in ("y", "x"))  # type: ignore[return-value]


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


def require_whole(path: str, label: str) -> None:
    """Raise `UnreadableProductError` where a local JPEG 2000 file ends too early.

    GDAL does not: its OpenJPEG driver decodes the tiles of an image in threads, and what fails
    there is lost. The end of a truncated band reads as no data, or as numbers that were never
    measured.

    Source: ISO/IEC 15444-1, annex I (boxes) and A.4.4 (end of codestream); tried with GDAL 3.10.
    """
    if Path(path).suffix.lower() != ".jp2" or not os.path.isfile(path):
        return
    with open(path, "rb") as file:
        size = os.path.getsize(path)
        missing = _missing_bytes(file, size)
    if missing:
        raise UnreadableProductError(
            f"{label}: cannot read {path} (truncated: {missing}); fetch it again"
        )


def _missing_bytes(file: BinaryIO, size: int) -> str:
    """Walk the boxes to the codestream; return what is missing after it, empty if nothing is."""
    start = 0
    while start + 8 <= size:
        file.seek(start)
        head = file.read(16)
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 1:  # the length stands in eight bytes behind the kind
            length = int.from_bytes(head[8:16], "big")
        if length == 0:  # the last box, up to the end of the file
            file.seek(max(size - 2, 0))
            return "" if file.read(2) == b"\xff\xd9" else "no end of codestream"
        if start + length > size:
            return f"{start + length - size} bytes are missing"
        if kind == b"jp2c":
            return ""
        start += max(length, 8)
    return "it holds no image" if size else "it is empty"


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
    stored: npt.NDArray[np.generic], band: BandSource, hidden: npt.NDArray[np.bool_] | None = None
) -> FloatArray:
    """Turn stored numbers, shape (y, x), into float32 values with NaN where there is no data."""
    values: FloatArray = to_reflectance(stored, band.scaling.scale, band.scaling.offset)
    missing = np.isin(stored, [number for number in band.nodata if not np.isnan(number)])
    values[missing if hidden is None else missing | hidden] = np.nan
    return values


def average_2x2(values: FloatArray, decimation: int) -> FloatArray:
    """Average blocks of `decimation`×`decimation` pixels, over those that hold data, else NaN."""
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


@dataclass(frozen=True)
class AngleGrid:
    """An angle, in degrees, on the nodes of a coarse grid."""

    nodes: Nodes
    """Shape (rows, columns), north first, finite; (1, 1) where one angle holds everywhere."""
    left: float = 0.0  # x of the first column of nodes
    top: float = 0.0  # y of the first row of nodes
    step_m: float = 5000.0  # distance of the nodes
    is_azimuth: bool = False  # whether 0 and 360 are the same

    def interpolate(
        self, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float32]:
        """Interpolate bilinearly at coordinates x (columns,) and y (rows,) in the CRS of the grid.

        Returns degrees, float32, (rows, columns); azimuths in 0 to 360. Beyond the nodes the
        nearest edge holds.
        """
        if self.nodes.size == 1:
            return np.full((len(y), len(x)), self.nodes.item(), np.float32)
        rows = _weights((self.top - y) / self.step_m, self.nodes.shape[0])
        columns = _weights((x - self.left) / self.step_m, self.nodes.shape[1])
        if not self.is_azimuth:
            return rows @ self.nodes.astype(np.float32) @ columns.T
        radians = np.deg2rad(self.nodes)  # through the unit vector: 359 and 1 meet at 0, not 180
        east = rows @ np.sin(radians).astype(np.float32) @ columns.T
        north = rows @ np.cos(radians).astype(np.float32) @ columns.T
        degrees: npt.NDArray[np.float32] = np.rad2deg(np.arctan2(east, north)) % np.float32(360)
        return degrees


def _weights(position: npt.NDArray[np.float64], size: int) -> npt.NDArray[np.float32]:
    """Return the matrix (positions, nodes) of linear interpolation, held at the ends."""
    held = np.clip(position, 0, size - 1)
    distance = np.abs(held[:, np.newaxis] - np.arange(size, dtype=np.float64))
    weights: npt.NDArray[np.float32] = np.maximum(0, 1 - distance).astype(np.float32)
    return weights
