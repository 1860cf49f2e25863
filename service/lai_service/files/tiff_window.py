"""What a small window of a raster needs: the tags of its TIFF, and tiles as far down as it goes.

GDAL takes half a millisecond to open a file, most of it for the CRS, and unpacks every tile whole.
A parcel of 10 ha over five years is 1,825 openings, and as many tiles of 256 x 256 pixels of which
some hundred pixels are wanted. Read like this it takes a third of the time.

Only the layout of our COGs is read: classic, little-endian, one band of int16 or uint8 in tiles
packed by DEFLATE, predictor 1 or 2. Everything else is an `UnsupportedTiffLayout`,
damaged and missing files too: the caller asks GDAL, and what GDAL says of them counts. A tile that
is not unpacked to its end is not compared with its checksum.

Sources: TIFF 6.0 and its technical notes (tags, tiles, predictor, DEFLATE), OGC GeoTIFF 1.1 (tags
of the grid), GDAL's GTiff driver (tags 42112 and 42113: scale, offset, no data).
"""

import os
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

__all__ = ["Stored", "UnsupportedTiffLayout", "read_tiff_window", "tiff_grid"]

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _SAMPLES, _PREDICTOR = 256, 257, 258, 259, 277, 317
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_SIZES, _SAMPLE_FORMAT = 322, 323, 324, 325, 339
_GDAL_METADATA, _GDAL_NODATA = 42112, 42113
_GRID = (_WIDTH, _HEIGHT, 33550, 33922, 34264, 34735, 34736, 34737)
"""Size, pixel scale, tie points, transformation, and the keys of the CRS with their values."""
_DEFAULTS = {_SAMPLES: 1, _PREDICTOR: 1, _SAMPLE_FORMAT: 1}
_DTYPES: dict[tuple[int, int], np.dtype[Any]] = {
    (8, 1): np.dtype("u1"),  # of BitsPerSample and SampleFormat
    (16, 2): np.dtype("<i2"),
}
_ASCII = 2
_TYPE_BYTES = {_ASCII: 1, 3: 2, 4: 4, 12: 8}  # and SHORT, LONG, DOUBLE
_DEFLATE, _DIFFERENCES = 8, 2
_LARGEST = 2**26
"""More bytes than that are no tag and no tile of ours."""
_ROLE = re.compile(rb'sample="0" role="(scale|offset)">([^<]+)<')


class UnsupportedTiffLayout(Exception):
    """The file has another layout, or cannot be read: ask GDAL."""


@dataclass(frozen=True)
class Stored:
    """Numbers as they are stored, and what they mean."""

    values: NDArray[np.integer]
    """Shape (y, x)."""
    scale: float
    """The physical value is the number times this ..."""
    offset: float
    """... plus this."""
    nodata: float | None
    """The number that stands for no data."""


def tiff_grid(path: Path) -> bytes:
    """Return what fixes size, place and CRS of a raster: the same bytes, the same grid.

    Raises:
        UnsupportedTiffLayout: the file cannot be read here.
    """
    with _opened(path) as tiff:
        return b"|".join(b"%d:%b" % (tag, tiff.tag(tag)) for tag in _GRID)


def read_tiff_window(path: Path, window: Window) -> Stored:
    """Return the stored numbers of a window that lies in the raster.

    Raises:
        UnsupportedTiffLayout: the file cannot be read here.
    """
    with _opened(path) as tiff:
        roles = dict(_ROLE.findall(tiff.tag(_GDAL_METADATA)))
        nodata = tiff.tag(_GDAL_NODATA)
        return Stored(
            values=tiff.read(window),
            scale=float(roles.get(b"scale", 1)),
            offset=float(roles.get(b"offset", 0)),
            nodata=float(nodata.rstrip(b"\0 ")) if nodata else None,
        )


@contextmanager
def _opened(path: Path) -> Iterator["_Tiff"]:
    """Open a TIFF; whatever goes wrong with it is a UnsupportedTiffLayout."""
    try:
        handle = os.open(path, os.O_RDONLY)
        try:
            yield _Tiff(handle)
        finally:
            os.close(handle)
    except (OSError, LookupError, ValueError, ArithmeticError, struct.error, zlib.error) as error:
        raise UnsupportedTiffLayout(f"{path.name}: {error}") from error


class _Tiff:
    """An open file and the tags of its first image."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        magic, place = struct.unpack("<4sI", self._bytes(0, 8))
        if magic != b"II*\0":
            raise ValueError("not a classic TIFF in little-endian order")
        (count,) = struct.unpack("<H", self._bytes(place, 2))
        entries = struct.iter_unpack("<HHI4s", self._bytes(place + 2, 12 * count))
        self._entries = {tag: (kind, count, last) for tag, kind, count, last in entries}

    def _bytes(self, place: int, size: int) -> bytes:
        found = os.pread(self._handle, size, place) if size <= _LARGEST else b""
        if len(found) != size:
            raise ValueError(f"no {size} bytes at {place}")
        return found

    def tag(self, tag: int) -> bytes:
        """Return the values of a tag as they are stored; nothing where it is missing."""
        kind, count, last = self._entries.get(tag, (_ASCII, 0, b""))
        size = _TYPE_BYTES[kind] * count  # beyond four bytes the entry tells where they are
        return last[:size] if size <= len(last) else self._bytes(struct.unpack("<I", last)[0], size)

    def _numbers(self, tag: int) -> NDArray[np.unsignedinteger]:
        kind, _, _ = self._entries[tag]
        return np.frombuffer(self.tag(tag), f"<u{_TYPE_BYTES[kind]}")

    def _number(self, tag: int) -> int:
        return int(self._numbers(tag)[0]) if tag in self._entries else _DEFAULTS[tag]

    def read(self, window: Window) -> NDArray[np.integer]:
        """Return the stored numbers of a window, shape (y, x)."""
        dtype = _DTYPES[self._number(_BITS), self._number(_SAMPLE_FORMAT)]
        predictor = self._number(_PREDICTOR)
        packing = self._number(_COMPRESSION), self._number(_SAMPLES)
        if packing != (_DEFLATE, 1) or predictor not in (1, _DIFFERENCES):
            raise ValueError("another layout")
        tile_y, tile_x = self._number(_TILE_HEIGHT), self._number(_TILE_WIDTH)
        across = -(-self._number(_WIDTH) // tile_x)
        places, sizes = self._numbers(_TILE_OFFSETS), self._numbers(_TILE_SIZES)
        (top, bottom), (left, right) = window.toranges()
        if bottom > self._number(_HEIGHT) or right > self._number(_WIDTH):
            raise ValueError(f"{window} leaves the raster")
        stored = np.empty((bottom - top, right - left), dtype)
        for row, in_y, out_y in _cut(top, bottom, tile_y):
            for column, in_x, out_x in _cut(left, right, tile_x):
                tile = row * across + column
                packed = self._bytes(int(places[tile]), int(sizes[tile]))
                numbers = _unpack(packed, in_y.stop, tile_x, dtype)[in_y]
                if predictor == _DIFFERENCES:  # from the left neighbour
                    numbers = np.cumsum(numbers[:, : in_x.stop], axis=1, dtype=dtype)
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
