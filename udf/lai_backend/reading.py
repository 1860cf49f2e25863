"""Pixels of raster files on a grid, by nearest neighbour.

A file whose pixels are those of the grid is read as it is, any other is warped by GDAL.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.warp import reproject

from lai_backend.errors import SourceError
from lai_backend.sources import BandSource, Scene

DRIVERS = ("GTiff", "JP2OpenJPEG")
"""Formats that are read; one that names other files, as VRT, could lead out of the folders."""
ONE_THREAD = {"GDAL_NUM_THREADS": "1"}
"""Chunks are read side by side anyway; and GDAL 3.10 reads what is left of a truncated JPEG 2000
file without an error where it decodes its tiles in threads of its own."""
ALIGNED_PX = 1e-6  # two grids closer than this share their pixels
FloatArray = npt.NDArray[np.float32]


def read_grid(source: BandSource) -> GeoBox:
    """Return the pixel grid of a raster file: with a CRS, north-up, of a format in `DRIVERS`."""
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
            files[scene.bands[name].href][position] = scene.bands[name]
    for href, sources in files.items():
        try:
            with rasterio.Env(**ONE_THREAD), rasterio.open(href) as dataset:
                for position, source in sources.items():
                    _read_band(dataset, source, grid, values[position])
        except RasterioError as error:
            raise SourceError(f"Cannot read the asset {href}: {error}.") from error
        for position, source in sources.items():
            if source.factor != 1:
                values[position] *= np.float32(source.factor)
            if source.shift:
                values[position] += np.float32(source.shift)
    return values


def _read_band(dataset: Any, source: BandSource, grid: GeoBox, values: FloatArray) -> None:
    """Fill in one band; pixels beyond the file stay as they are."""
    nodata = dataset.nodata if source.nodata is None else source.nodata
    here, wanted = dataset.transform, grid.affine
    left, top = ~here * (wanted.c, wanted.f)
    apart = (left - round(left), top - round(top), wanted.a / here.a - 1, wanted.e / here.e - 1)
    if max(map(abs, apart)) > ALIGNED_PX or CRS(dataset.crs.to_wkt()) != grid.crs:
        reproject(
            rasterio.band(dataset, source.index),
            values,
            src_nodata=nodata,
            dst_transform=wanted,
            dst_crs=str(grid.crs and grid.crs.to_wkt()),
            dst_nodata=np.nan,
            resampling=Resampling.nearest,
        )
        return
    sides = zip((round(top), round(left)), grid.shape, dataset.shape, strict=True)
    window = tuple((max(start, 0), min(start + size, most)) for start, size, most in sides)
    if any(first >= last for first, last in window):
        return
    layer = dataset.read(source.index, window=window)
    rows, columns = (
        slice(first - round(start), last - round(start))
        for (first, last), start in zip(window, (top, left), strict=True)
    )
    values[rows, columns] = layer
    if nodata is not None:
        values[rows, columns][layer == nodata] = np.nan
