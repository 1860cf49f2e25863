"""Is this file the raster that the item promises? A cloud-optimised GeoTIFF in the right place."""

from pathlib import Path

import rasterio
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.warp import transform_bounds
from rio_cogeo.cogeo import cog_validate

from lai_service.catalogue.port import Document
from lai_service.errors import InvalidItemError
from lai_udf.grid import Grid
from lai_udf.longitudes import box_holds

__all__ = ["GDAL_ENVIRONMENT", "check_cog", "check_size", "is_tiff"]

MAX_RASTER_PIXELS = 150_000_000
"""Most pixels of a raster: a tile of Sentinel-2 at 10 m has 121 million."""
MAX_BANDS = 64

GDAL_ENVIRONMENT = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".none",
    "VRT_VIRTUAL_OVERVIEWS": "NO",
    "GDAL_CACHEMAX": 64 * 1024 * 1024,
}
"""GDAL looks at the one file it is given: no side files, no network; it keeps 64 MB of blocks."""

_MAGIC = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_TOLERANCE_DEG = 0.01


def is_tiff(path: Path) -> bool:
    """Return whether a file starts as a TIFF; a VRT or a text never reaches GDAL."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) in _MAGIC


def check_size(path: Path, what: str) -> None:
    """Check that a raster is not larger than anything that this product has.

    Raises:
        InvalidItemError: it has more than `MAX_RASTER_PIXELS` pixels, or is no GeoTIFF.
    """
    if not is_tiff(path):
        raise InvalidItemError(f"{what} is not a GeoTIFF")
    try:
        with rasterio.Env(**GDAL_ENVIRONMENT), rasterio.open(path, driver="GTiff") as raster:
            width, height, bands = raster.width, raster.height, raster.count
    except RasterioError as error:
        raise InvalidItemError(f"{what} cannot be read as a GeoTIFF: {error}") from error
    if width * height > MAX_RASTER_PIXELS or bands > MAX_BANDS:
        raise InvalidItemError(
            f"{what} has {bands} bands of {width} x {height} pixels; at most {MAX_BANDS} of "
            f"{MAX_RASTER_PIXELS} pixels are taken: publish it in parts"
        )


def check_cog(path: Path, item: Document, what: str) -> Grid:
    """Check that a file is a cloud-optimised GeoTIFF that lies where its item says; return where.

    Args:
        path: the file.
        item: its item; `bbox` (degrees) and `proj:code` are compared where present.
        what: name of the asset, for the message.

    Raises:
        InvalidItemError: not a GeoTIFF, not cloud-optimised, no CRS, another CRS, another place.
    """
    check_size(path, what)
    try:
        with rasterio.Env(**GDAL_ENVIRONMENT):
            valid, errors, warnings = cog_validate(path, strict=True, quiet=True)
            if not valid:
                reason = "; ".join([*errors, *warnings])
                raise InvalidItemError(f"{what} is not a cloud-optimised GeoTIFF: {reason}")
            with rasterio.open(path, driver="GTiff") as raster:
                _check_place(raster, item, what)
                return Grid.of_dataset(raster)
    except RasterioError as error:
        raise InvalidItemError(f"{what} cannot be read as a GeoTIFF: {error}") from error


def _check_place(raster: rasterio.DatasetReader, item: Document, what: str) -> None:
    if raster.crs is None:
        raise InvalidItemError(f"{what} has no coordinate reference system")
    code = item.get("properties", {}).get("proj:code")
    if code and CRS.from_user_input(code) != raster.crs:
        raise InvalidItemError(f"{what} is in {raster.crs.to_string()}, its item says {code}")
    bbox = item.get("bbox")
    if not bbox:
        return
    covered = transform_bounds(raster.crs, "EPSG:4326", *raster.bounds)
    half = len(bbox) // 2
    if not box_holds(covered, (*bbox[:2], *bbox[half : half + 2]), _TOLERANCE_DEG):
        box = [round(number, 4) for number in covered]
        raise InvalidItemError(f"{what} covers {box}, the item's bbox {bbox} is not inside that")
