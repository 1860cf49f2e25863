"""Pixels of a published raster: its grid, and the values of a window.

GDAL takes half a millisecond to open a file, most of it for the CRS, and unpacks every tile whole.
A parcel of 10 ha over five years is 1,825 openings, and as many tiles of 256 x 256 pixels of which
some hundred pixels are wanted. Read by their tags, and tiles as far down as the window goes, it
takes a third of the time, and less where the tags are known from another parcel.

Only the layout of our COGs is read like this: classic, little-endian, one band of int16 or uint8 in
tiles packed by DEFLATE, predictor 1 or 2. Everything else is an `UnsupportedTiffLayout`, damaged
and missing files too: then GDAL is asked, for the same values, and its answer counts. A
tile that is not unpacked to its end is not compared with its checksum.

Sources: TIFF 6.0 and its technical notes (tags, tiles, predictor, DEFLATE), OGC GeoTIFF 1.1 (tags
of the grid), GDAL's GTiff driver (tags 42112 and 42113: scale, offset, no data).
"""

import math
import os
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from threading import Lock
from typing import Any

import cachetools
import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window

from lai_service.files.storage import GDAL_ENVIRONMENT
from lai_udf.grid import Grid
from lai_udf.results import SCALING_TAGS

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _SAMPLES, _PREDICTOR = 256, 257, 258, 259, 277, 317
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_SIZES, _SAMPLE_FORMAT = 322, 323, 324, 325, 339
_GDAL_METADATA, _GDAL_NODATA = 42112, 42113
_GRID = (_WIDTH, _HEIGHT, 33550, 33922, 34264, 34735, 34736, 34737)
"""Size, pixel scale, tie points, transformation, and the keys of the CRS with their values."""
_DTYPES: dict[tuple[int, int], np.dtype[Any]] = {
    (8, 1): np.dtype("u1"),  # of BitsPerSample and SampleFormat
    (16, 2): np.dtype("<i2"),
}
_ASCII = 2
_TYPE_BYTES = {_ASCII: 1, 3: 2, 4: 4, 12: 8}  # and SHORT, LONG, DOUBLE
_DEFLATE, _DIFFERENCES = 8, 2
_LARGEST = 2**26  # more bytes than that are no tag and no tile of ours
_ROLE = re.compile(rb'sample="0" role="(scale|offset)">([^<]+)<')
SETTING_TAGS = ("REGION", "CALIBRATION", "PLAUSIBILITY", "PRODUCT_ID", *SCALING_TAGS)
"""Settings of a run, and its product, that stand in its rasters alone; where not at a default."""
_TAG = re.compile(f'<Item name="({"|".join(SETTING_TAGS)})">([^<]*)<'.encode())


class UnsupportedTiffLayout(Exception):
    """The file has another layout, or cannot be read: ask GDAL."""


@dataclass(frozen=True, slots=True)
class Stored:
    """Numbers as they are stored, and what they mean."""

    values: NDArray[np.integer]  # shape (y, x)
    scale: float  # the physical value is the number times this
    offset: float  # plus this
    nodata: float | None  # the number that stands for no data


def grid_of(path: Path) -> Grid:
    """Return the grid of a raster; GDAL reads that of a tile once, not for every date.

    Raises:
        RasterioError: the file is gone or damaged.
    """
    try:
        return _known_grid(path, tiff_grid(path))
    except UnsupportedTiffLayout:
        return _open_grid(path)


@cachetools.cached(cachetools.LRUCache(maxsize=256), key=lambda path, tags: tags, lock=Lock())
def _known_grid(path: Path, tags: bytes) -> Grid:
    return _open_grid(path)


def _open_grid(path: Path) -> Grid:
    with rasterio.Env(**GDAL_ENVIRONMENT), rasterio.open(path, driver="GTiff") as raster:
        return Grid.of_dataset(raster)


def setting_tags(path: Path) -> dict[str, str]:
    """Return those of `SETTING_TAGS` that a raster has.

    Raises:
        RasterioError: the file is gone or damaged.
    """
    try:
        with _opened(path) as (_, layout):
            return dict(layout.tags)
    except UnsupportedTiffLayout:
        with rasterio.Env(**GDAL_ENVIRONMENT), rasterio.open(path, driver="GTiff") as raster:
            return {name: text for name, text in raster.tags().items() if name in SETTING_TAGS}


def stored(path: Path, window: Window) -> Stored:
    """Return the stored numbers of a window that lies in the raster, and what they mean.

    Raises:
        RasterioError: the file is gone or damaged.
    """
    try:
        return read_tiff_window(path, window)
    except UnsupportedTiffLayout:
        with rasterio.Env(**GDAL_ENVIRONMENT), rasterio.open(path, driver="GTiff") as raster:
            values = raster.read(1, window=window)
            return Stored(values, raster.scales[0], raster.offsets[0], raster.nodata)


def physical(path: Path, window: Window) -> NDArray[np.float64]:
    """Return the values of a window in physical units, NaN where there is no data.

    Raises:
        RasterioError: the file is gone or damaged.
    """
    found = stored(path, window)
    values = found.values.astype(np.float64) * found.scale + found.offset
    if found.nodata is not None and not math.isnan(found.nodata):
        values[found.values == found.nodata] = np.nan
    return values


def tiff_grid(path: Path) -> bytes:
    """Return what fixes size, place and CRS of a raster: the same bytes, the same grid.

    Raises:
        UnsupportedTiffLayout: the file cannot be read here.
    """
    with _opened(path) as (_, layout):
        return layout.grid


def read_tiff_window(path: Path, window: Window) -> Stored:
    """Return the stored numbers of a window that lies in the raster.

    Raises:
        UnsupportedTiffLayout: the file cannot be read here.
    """
    with _opened(path) as (handle, layout):
        values = _read(handle, layout, window)
        return Stored(values, layout.scale, layout.offset, layout.nodata)


@dataclass(frozen=True, slots=True)
class _Layout:
    """Tags of the first image of a file."""

    grid: bytes
    shape: tuple[int, int]
    tile: tuple[int, int]
    dtype: np.dtype[Any]
    predictor: int
    places: NDArray[np.unsignedinteger]  # offset of each tile in the file
    sizes: NDArray[np.unsignedinteger]  # how many bytes it takes
    scale: float
    offset: float
    nodata: float | None
    tags: tuple[tuple[str, str], ...]  # of `SETTING_TAGS`


@contextmanager
def _opened(path: Path) -> Iterator[tuple[int, _Layout]]:
    """Open a TIFF; whatever goes wrong with it is a UnsupportedTiffLayout."""
    try:
        handle = os.open(path, os.O_RDONLY)
        try:
            state = os.fstat(handle)
            yield handle, _layout(handle, str(path), state.st_size, state.st_mtime_ns)
        finally:
            os.close(handle)
    except (OSError, LookupError, ValueError, ArithmeticError, struct.error, zlib.error) as error:
        raise UnsupportedTiffLayout(f"{path.name}: {error}") from error


@cachetools.cached(
    cachetools.LRUCache(
        maxsize=32 * 2**20,  # bytes: five years of a tile of Sentinel-2 are 10 MB
        getsizeof=lambda layout: 1500 + layout.places.nbytes + layout.sizes.nbytes,
    ),
    key=lambda handle, *version: version,
    lock=Lock(),
)
def _layout(handle: int, path: str, size: int, changed_ns: int) -> _Layout:
    """Read the tags of an open file, once for every version of it."""
    magic, place = struct.unpack("<4sI", _bytes(handle, 0, 8))
    if magic != b"II*\0":
        raise ValueError("not a classic TIFF in little-endian order")
    (count,) = struct.unpack("<H", _bytes(handle, place, 2))
    entries = struct.iter_unpack("<HHI4s", _bytes(handle, place + 2, 12 * count))
    kinds = {tag: (kind, count, last) for tag, kind, count, last in entries}

    def tag(number: int) -> bytes:
        """Return the values of a tag as they are stored; nothing where it is missing."""
        kind, count, last = kinds.get(number, (_ASCII, 0, b""))
        size = _TYPE_BYTES[kind] * count  # beyond four bytes the entry holds their offset
        at = struct.unpack("<I", last)[0] if size > 4 else 0
        return _bytes(handle, at, size) if size > 4 else last[:size]

    def numbers(number: int) -> NDArray[np.unsignedinteger]:
        return np.frombuffer(tag(number), f"<u{_TYPE_BYTES[kinds[number][0]]}")

    def one(number: int, default: int | None = None) -> int:
        known = number in kinds or default is None
        return int(numbers(number)[0]) if known else int(default or 0)

    predictor = one(_PREDICTOR, 1)
    packing = one(_COMPRESSION), one(_SAMPLES, 1)
    if packing != (_DEFLATE, 1) or predictor not in (1, _DIFFERENCES):
        raise ValueError("another layout")
    metadata = tag(_GDAL_METADATA)
    roles = dict(_ROLE.findall(metadata))
    nodata = tag(_GDAL_NODATA)
    return _Layout(
        grid=b"|".join(b"%d:%b" % (number, tag(number)) for number in _GRID),
        shape=(one(_HEIGHT), one(_WIDTH)),
        tile=(one(_TILE_HEIGHT), one(_TILE_WIDTH)),
        dtype=_DTYPES[one(_BITS), one(_SAMPLE_FORMAT, 1)],
        predictor=predictor,
        places=numbers(_TILE_OFFSETS),
        sizes=numbers(_TILE_SIZES),
        scale=float(roles.get(b"scale", 1)),
        offset=float(roles.get(b"offset", 0)),
        nodata=float(nodata.rstrip(b"\0 ")) if nodata else None,
        tags=tuple(
            (name.decode(), unescape(unescape(text.decode())))
            for name, text in _TAG.findall(metadata)
        ),
    )


def _bytes(handle: int, place: int, size: int) -> bytes:
    found = os.pread(handle, size, place) if size <= _LARGEST else b""
    if len(found) != size:
        raise ValueError(f"no {size} bytes at {place}")
    return found


def _read(handle: int, layout: _Layout, window: Window) -> NDArray[np.integer]:
    """Return the stored numbers of a window, shape (y, x)."""
    tile_y, tile_x = layout.tile
    across = -(-layout.shape[1] // tile_x)
    (top, bottom), (left, right) = window.toranges()
    if bottom > layout.shape[0] or right > layout.shape[1]:
        raise ValueError(f"{window} leaves the raster")
    stored = np.empty((bottom - top, right - left), layout.dtype)
    for row, in_y, out_y in _cut(top, bottom, tile_y):
        for column, in_x, out_x in _cut(left, right, tile_x):
            tile = row * across + column
            packed = _bytes(handle, int(layout.places[tile]), int(layout.sizes[tile]))
            numbers = _unpack(packed, in_y.stop, tile_x, layout.dtype)[in_y]
            if layout.predictor == _DIFFERENCES:  # from the left neighbour
                numbers = np.cumsum(numbers[:, : in_x.stop], axis=1, dtype=layout.dtype)
            stored[out_y, out_x] = numbers[:, in_x]
    return stored


def _cut(start: int, stop: int, step: int) -> Iterator[tuple[int, slice, slice]]:
    """Yield the tiles along one axis: number, its part of the tile, its part of the window."""
    for tile in range(start // step, -(-stop // step)):
        first, last = max(start, tile * step), min(stop, (tile + 1) * step)
        yield (
            tile,
            slice(first - tile * step, last - tile * step),
            slice(first - start, last - start),
        )


def _unpack(packed: bytes, rows: int, columns: int, dtype: np.dtype[Any]) -> NDArray[np.integer]:
    """Return the first rows of a tile, shape (rows, columns)."""
    size = rows * columns * dtype.itemsize
    numbers = zlib.decompressobj().decompress(packed, size)
    return np.frombuffer(numbers, dtype).reshape(rows, columns)
