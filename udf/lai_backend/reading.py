"""Pixels of raster files on a grid.

Nearest neighbours: the pixels of a file in the CRS of the grid are picked out as they are read,
whole tiles of the file at a time; a file in another CRS is warped.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.warp import reproject
from rasterio.windows import Window

from lai_backend.errors import SourceError
from lai_backend.sources import BandSource, Scene

DRIVERS = ("GTiff", "JP2OpenJPEG")
"""Formats that are read; one that names other files, as VRT, could lead out of the folders."""
ONE_THREAD = {"GDAL_NUM_THREADS": "1"}
"""Chunks are read side by side anyway; and GDAL 3.10 reads what is left of a truncated JPEG 2000
file without an error where it decodes its tiles in threads of its own."""
MEASURED_ZERO = -np.finfo(np.float32).tiny
"""What a number that its offset makes 0 is read as: UDFs take the 0 of digital numbers for no data,
and those that are none are NaN already. Below 0, as 1000 * 0.0001 - 0.1 is in float32."""
EDGE_PX = 1e-10
"""A centre this close to an edge lies in the pixel after it, as in GDAL's warper."""
FloatArray = npt.NDArray[np.float32]


def read_grid(source: BandSource) -> GeoBox:
    """Return the pixel grid of a raster file.

    Raises:
        SourceError: the file cannot be opened, has no CRS, or is rotated.
    """
    try:
        with rasterio.open(source.href) as dataset:
            crs, transform, shape = dataset.crs, dataset.transform, dataset.shape
            count, driver = dataset.count, dataset.driver
    except RasterioError as error:
        raise SourceError(f"Cannot open the asset {source.href}: {error}.") from error
    if driver not in DRIVERS:
        raise SourceError(f"The asset {source.href} is {driver}; GeoTIFF or JPEG 2000 is needed.")
    if crs is None:
        raise SourceError(f"The asset {source.href} has no coordinate reference system.")
    if transform.b or transform.d:
        raise SourceError(f"The asset {source.href} is rotated; north-up rasters are needed.")
    if source.index > count:
        raise SourceError(f"The asset {source.href} has {count} bands, its item says more.")
    return GeoBox(shape, transform, crs.to_wkt())


def read_day(scenes: Sequence[Scene], bands: Sequence[str], grid: GeoBox) -> FloatArray:
    """Read some bands of the scenes of one day onto a grid.

    Args:
        scenes: scenes in order of preference: where the first has no data, the next is taken.
        bands: band names.
        grid: pixels to fill.

    Returns:
        Values on one scale (`BandSource.factor`, `shift`), shape (bands, y, x), float32, NaN where
        no scene has data.

    Raises:
        SourceError: a file cannot be read.
    """
    values = _read_scene(scenes[0], bands, grid)
    for scene in scenes[1:]:
        gaps = np.isnan(values)
        if not gaps.any():
            break
        np.copyto(values, _read_scene(scene, bands, grid), where=gaps)
    return values


def _read_scene(scene: Scene, bands: Sequence[str], grid: GeoBox) -> FloatArray:
    values = np.full((len(bands), grid.height, grid.width), np.nan, np.float32)
    files: dict[str, dict[int, BandSource]] = defaultdict(dict)
    for position, name in enumerate(bands):
        if name in scene.bands:
            source = scene.bands[name]
            files[source.href][position] = source
    for href, sources in files.items():
        try:
            with rasterio.Env(**ONE_THREAD), rasterio.open(href) as dataset:
                if CRS(dataset.crs.to_wkt()) == grid.crs:
                    _pick(dataset, sources, grid, values)
                else:
                    _warp(dataset, sources, grid, values)
        except RasterioError as error:
            raise SourceError(f"Cannot read the asset {href}: {error}.") from error
        for position, source in sources.items():
            if source.factor != 1:
                values[position] *= np.float32(source.factor)
            if source.shift:
                values[position] += np.float32(source.shift)
                values[position][values[position] == 0] = MEASURED_ZERO
    return values


def _pick(
    dataset: Any,  # noqa: ANN401 - an open file
    sources: dict[int, BandSource],
    grid: GeoBox,
    values: FloatArray,
) -> None:
    """Fill in bands, by position, from a file whose CRS is that of the grid."""
    place, wanted = dataset.transform, grid.affine
    rows = _nearest(wanted.f - place.f, wanted.e, place.e, grid.height, dataset.height)
    columns = _nearest(wanted.c - place.c, wanted.a, place.a, grid.width, dataset.width)
    if rows is None or columns is None:
        return
    window = Window(columns.start, rows.start, columns.length, rows.length)
    layers = dataset.read([source.index for source in sources.values()], window=window)
    for (position, source), layer in zip(sources.items(), layers, strict=True):
        picked = layer[rows.picked][:, columns.picked]
        target = values[position, rows.filled, columns.filled]
        target[:] = picked
        nodata = _nodata(dataset, source)
        if nodata is not None:
            np.copyto(target, np.float32(np.nan), where=picked == nodata)


@dataclass(frozen=True)
class _Axis:
    """Rows or columns of a grid, and where their values lie in a file."""

    filled: slice
    """Pixels of the grid whose centres lie in the file."""
    start: int
    """First pixel to read."""
    length: int
    """How many to read."""
    picked: slice | npt.NDArray[np.intp]
    """For each pixel filled in, which of those read."""


def _nearest(
    offset: float, step: float, file_step: float, count: int, file_count: int
) -> _Axis | None:
    """Find the pixels of a file that hold the centres of a grid, along one axis; None: none does.

    Args:
        offset: from the edge of the file to that of the grid, in units of the CRS.
        step: signed size of a pixel of the grid.
        file_step: signed size of a pixel of the file.
        count: pixels of the grid.
        file_count: pixels of the file.
    """
    centres = (offset + step * (np.arange(count) + 0.5)) / file_step
    index = np.floor(centres + EDGE_PX).astype(np.intp)
    inside = np.flatnonzero((index >= 0) & (index < file_count))
    if not inside.size:
        return None
    index = index[inside]
    start, length = int(index.min()), int(np.ptp(index)) + 1
    one_by_one = length == index.size and bool(index[0] == start)
    return _Axis(
        filled=slice(int(inside[0]), int(inside[-1]) + 1),
        start=start,
        length=length,
        picked=slice(None) if one_by_one else index - start,
    )


def _warp(
    dataset: Any,  # noqa: ANN401 - an open file
    sources: dict[int, BandSource],
    grid: GeoBox,
    values: FloatArray,
) -> None:
    """Fill in bands, by position, from a file in another CRS."""
    assert grid.crs is not None  # read_grid refuses files without one
    for position, source in sources.items():
        reproject(
            rasterio.band(dataset, source.index),
            values[position],
            src_nodata=_nodata(dataset, source),
            dst_transform=grid.affine,
            dst_crs=str(grid.crs.to_wkt()),
            dst_nodata=np.nan,
            resampling=Resampling.nearest,
        )


def _nodata(dataset: Any, source: BandSource) -> float | None:  # noqa: ANN401 - an open file
    declared: float | None = dataset.nodata if source.nodata is None else source.nodata
    return declared
