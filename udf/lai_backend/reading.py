"""Pixels of raster files on a grid, by nearest neighbour, as odc-loader reads them."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import rasterio
from odc.geo.geobox import GeoBox
from odc.loader import RasterLoadParams, RasterSource, RioReader
from rasterio.errors import RasterioError

from lai_backend.access import check_redirects
from lai_backend.errors import SourceError
from lai_backend.sources import BandSource, Scene

DRIVERS = ("GTiff", "JP2OpenJPEG")
"""Formats that are read; one that names other files, as VRT, could lead out of the folders."""
ONE_THREAD = {"GDAL_NUM_THREADS": "1"}
"""Chunks are read side by side anyway; and GDAL 3.10 reads what is left of a truncated JPEG 2000
file without an error where it decodes its tiles in threads of its own."""
FloatArray = npt.NDArray[np.float32]


def read_grid(source: BandSource) -> GeoBox:
    """Return the pixel grid of a raster file: with a CRS, north-up, of a format in `DRIVERS`."""
    check_redirects(source.href)
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
        raise SourceError(f"The asset {source.href} has {count} bands, its item lists more.")
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
    for layer, name in zip(values, bands, strict=True):
        if source := scene.bands.get(name):
            try:
                with rasterio.Env(**ONE_THREAD):
                    _read_band(source, grid, layer)
            except RasterioError as error:
                raise SourceError(f"Cannot read the asset {source.href}: {error}.") from error
            if source.factor != 1:
                layer *= np.float32(source.factor)
            if source.shift:
                layer += np.float32(source.shift)
    return values


def _read_band(source: BandSource, grid: GeoBox, values: FloatArray) -> None:
    """Fill in one band; pixels beyond the file stay as they are."""
    how = RasterLoadParams("float32", src_nodata_override=source.nodata, use_overviews=False)
    file = RasterSource(source.href, source.index)
    reader = RioReader(file, None)  # type: ignore[arg-type] # its context holds nothing
    reader.read(how, grid, dst=values)
