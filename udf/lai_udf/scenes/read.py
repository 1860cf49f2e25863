"""Read a Sentinel-2 L2A scene, whatever it comes as: multiband GeoTIFF, STAC Item, SAFE folder.

Out: one `xarray.DataArray` per scene with dims (bands, y, x) at 20 m, boa reflectance as float32
with NaN where there is no data, `SCL` and angle bands as further labels, CRS in `.rio`, and the
attributes `datetime`, `platform`, `product_id`, `processing_baseline` and
`reflectance_offset_applied`. `open_scene` describes without reading, for streaming by windows.
"""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import xarray as xr
from rasterio.windows import Window

from lai_udf.errors import GridError, UnreadableProductError
from lai_udf.scenes.geotiff import Declared, describe_geotiff
from lai_udf.scenes.safe import describe_safe
from lai_udf.scenes.source import Progress, SceneSource, require_data, require_scheme
from lai_udf.scenes.stac import describe_stac

GEOTIFF_SUFFIXES = {".tif", ".tiff"}
ITEM_SUFFIXES = {".json", ".geojson"}
KINDS = (
    "give a multiband GeoTIFF with band descriptions (.tif), a STAC Item (.json or an http href) "
    "or a SAFE folder"
)


def open_scene(
    href: str | Path,
    *,
    reflectance_scale: float | None = None,
    reflectance_offset: float | None = None,
    datetime: str | None = None,
) -> SceneSource:
    """Describe a scene without reading its pixels.

    Args:
        href: multiband GeoTIFF, STAC Item (both path or http href), SAFE folder or the
            `MTD_MSIL2A.xml` in it.
        reflectance_scale: reflectance per digital number; goes before what the product says.
        reflectance_offset: reflectance at digital number 0 (-0.1, or as ESA says it, -1000).
        datetime: time of acquisition, ISO 8601, for files that do not know it.

    Raises:
        ProductError: one of its subclasses, see `lai_udf.errors`.
    """
    declared = Declared(reflectance_scale, reflectance_offset, datetime)
    text = str(href).removeprefix("file://")
    if urlsplit(text).scheme in ("http", "https", "s3") or text.startswith("/vsi"):
        suffix = Path(urlsplit(text).path).suffix.lower()
        return (describe_geotiff if suffix in GEOTIFF_SUFFIXES else describe_stac)(text, declared)
    require_scheme(text, "a scene", "http", "https", "s3")
    path = Path(text).expanduser()
    if not path.exists():
        raise UnreadableProductError(f"{path} does not exist; {KINDS}")
    if path.is_dir():
        return describe_safe(path, declared)
    if path.name.upper() == "MTD_MSIL2A.XML":
        return describe_safe(path.parent, declared)
    suffix = path.suffix.lower()
    if suffix in ITEM_SUFFIXES:
        return describe_stac(str(path.resolve()), declared)
    if suffix in GEOTIFF_SUFFIXES:
        return describe_geotiff(str(path), declared)
    if suffix == ".zip":
        raise UnreadableProductError(f"{path} is packed: unzip it and give the .SAFE folder")
    raise UnreadableProductError(f"{path} is of a kind that is not read ({suffix}); {KINDS}")


def read_scene(
    href: str | Path,
    *,
    reflectance_scale: float | None = None,
    reflectance_offset: float | None = None,
    datetime: str | None = None,
    window: Window | None = None,
    bbox: Sequence[float] | None = None,
    progress: Progress | None = None,
) -> xr.DataArray:
    """Read a scene, or the part of it in a window or bounding box.

    Args:
        href: see `open_scene`.
        reflectance_scale: see `open_scene`.
        reflectance_offset: see `open_scene`.
        datetime: see `open_scene`.
        window: part of the 20 m grid, in pixels.
        bbox: west, south, east, north in degrees (WGS 84); not together with `window`.
        progress: called as `progress(done, total)` after each band.

    Returns:
        Dims (bands, y, x), float32. Reflectance (unit 1) and angles (degrees): NaN is no data.
        SCL: class number, 0 is no data.

    Raises:
        EmptySceneError: no pixel holds data in every band.
        ProductError: another of its subclasses, see `lai_udf.errors`.
    """
    if window is not None and bbox is not None:
        raise GridError("give a window or a bbox, not both")
    source = open_scene(
        href,
        reflectance_scale=reflectance_scale,
        reflectance_offset=reflectance_offset,
        datetime=datetime,
    )
    scene = source.read(source.window(bbox) if bbox is not None else window, progress)
    require_data(scene, str(href))
    return scene
