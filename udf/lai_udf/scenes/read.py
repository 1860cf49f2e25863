"""Open a Sentinel-2 L2A scene, whatever it comes as.

Out: one `xarray.DataArray` per scene with dims (bands, y, x) at 20 m (or 10 m), boa reflectance as
float32 with NaN where there is no data, `SCL` and angle bands as further labels, CRS in `.rio`, and
the attributes `datetime`, `platform`, `product_id`, `processing_baseline` and
`reflectance_offset_applied`. `open_scene` describes without reading, for streaming by windows;
`open_scenes` does so for anything that holds several.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Unpack
from urllib.parse import urlsplit

import xarray as xr
from rasterio.windows import Window

from lai_udf.errors import GridError, UnreadableProductError
from lai_udf.scenes.cubes import CUBE_SUFFIXES, open_cube
from lai_udf.scenes.eopf import describe_eopf, is_eopf
from lai_udf.scenes.folder import describe_folder, holds_band_files
from lai_udf.scenes.geotiff import describe_geotiff
from lai_udf.scenes.metadata import Declaration, Declared
from lai_udf.scenes.safe import describe_safe
from lai_udf.scenes.source import SceneEntry, SceneSource, require_data, require_scheme
from lai_udf.scenes.stac import ITEM_SUFFIXES, describe_items, describe_stac, holds_items

RASTER_SUFFIXES = {".tif", ".tiff", ".vrt"}
REMOTE = ("http", "https", "s3")
KINDS = (
    "give a multiband GeoTIFF or VRT with band descriptions, a STAC Item (.json or an http href), "
    "a SAFE folder, a product in EOPF Zarr, or a folder with a file for each band"
)


def open_scene(href: str | Path, **given: Unpack[Declaration]) -> SceneSource:
    """Describe a scene without reading its pixels.

    Args:
        href: multiband GeoTIFF or VRT, STAC Item (all path or href), SAFE folder or the
            `MTD_MSIL2A.xml` in it, EOPF Zarr, folder with a file for each band, or a netCDF or Zarr
            cube of one date.
        **given: what goes before what the product states:

            - `reflectance_scale`: reflectance per digital number.
            - `reflectance_offset`: reflectance at digital number 0 (-0.1, or as ESA writes it,
              -1000); one number, or one from each date on.
            - `datetime`: time of acquisition, ISO 8601, for files that do not state it.
            - `bands`: names of the bands in order, for files that do not name them.
            - `resolution`: side of a pixel, m: 20, or 10 with the 20 m bands repeated.
            - `reproject`: reproject what is not in a UTM zone or of another pixel.

    Raises:
        ProductError: one of its subclasses, see `lai_udf.errors`.
    """
    scenes = list(open_scenes(href, **given))
    if len(scenes) != 1:
        raise UnreadableProductError(
            f"{href} holds {len(scenes)} scenes, not one: run `lai-udf run` or `open_scenes` over "
            "them, or give one of them"
        )
    return scenes[0].open()


def open_scenes(href: str | Path, **given: Unpack[Declaration]) -> Iterator[SceneEntry]:
    """Yield all scenes of a source, each to be described when its turn comes.

    Args:
        href: what `open_scene` takes, and: a STAC Collection, Catalog or ItemCollection, a cube, a
            folder of any of these.
        **given: see `open_scene`; `datetime` for a single scene.

    Raises:
        ProductError: one of its subclasses, see `lai_udf.errors`.
    """
    yield from describe(href, Declared(**given))


def describe(href: str | Path, declared: Declared) -> Iterator[SceneEntry]:
    """Yield all scenes of a source."""
    text = str(href).removeprefix("file://")
    suffix = Path(urlsplit(text).path.rstrip("/")).suffix.lower()
    if urlsplit(text).scheme in REMOTE or text.startswith("/vsi"):
        yield from _describe_remote(text, suffix, declared)
        return
    require_scheme(text, "a scene", *REMOTE)
    path = Path(text).expanduser()
    if not path.exists():
        raise UnreadableProductError(f"{path} does not exist; {KINDS}")
    if suffix in CUBE_SUFFIXES:
        yield from _describe_cube(str(path), declared)
    elif path.is_dir():
        yield from _describe_folder(path, declared)
    elif path.name.upper() == "MTD_MSIL2A.XML":
        yield _entry(describe_safe, path.parent, declared)
    elif suffix in ITEM_SUFFIXES and holds_items(str(path)):
        yield from describe_items(str(path), declared)
    elif suffix in ITEM_SUFFIXES:
        yield _entry(describe_stac, str(path.resolve()), declared)
    elif suffix in RASTER_SUFFIXES:
        yield _entry(describe_geotiff, str(path), declared)
    elif suffix == ".zip":
        raise UnreadableProductError(f"{path} is packed: unzip it and give the .SAFE folder")
    else:
        raise UnreadableProductError(f"{path} is of a kind that is not read ({suffix}); {KINDS}")


def _describe_remote(text: str, suffix: str, declared: Declared) -> Iterator[SceneEntry]:
    if suffix in CUBE_SUFFIXES:
        yield from _describe_cube(text, declared)
    elif suffix in RASTER_SUFFIXES:
        path = text.replace("s3://", "/vsis3/", 1) if text.startswith("s3://") else text
        yield _entry(describe_geotiff, path, declared)
    elif holds_items(text):
        yield from describe_items(text, declared)
    else:
        yield _entry(describe_stac, text, declared)


def _describe_cube(href: str, declared: Declared) -> Iterator[SceneEntry]:
    if href.rstrip("/").endswith(".zarr") and is_eopf(href):
        yield _entry(describe_eopf, href, declared)
    else:
        yield from open_cube(href, declared).scenes()


def _describe_folder(folder: Path, declared: Declared) -> Iterator[SceneEntry]:
    """Yield a SAFE product, the acquisitions of single-band files, or the products in a folder."""
    if any(folder.glob("MTD_MSIL*.xml")) or (folder / "GRANULE").is_dir():
        yield _entry(describe_safe, folder, declared)
        return
    listed = sorted(folder.iterdir())
    wholes = {".safe", *CUBE_SUFFIXES}
    inside = [p for p in listed if p.suffix.lower() in wholes and not p.name.startswith(".")]
    if not inside and holds_band_files(folder):
        yield from describe_folder(folder, declared)
        return
    inside += [
        path
        for path in listed
        if path.suffix.lower() in RASTER_SUFFIXES | ITEM_SUFFIXES
        or (path.is_dir() and path not in inside and holds_band_files(path))
    ]
    if not inside:
        yield _entry(describe_safe, folder, declared)  # its error names what is missing
    for path in inside:
        yield from describe(path, declared)


def _entry(
    describe_one: Callable[[Any, Declared], SceneSource], href: str | Path, declared: Declared
) -> SceneEntry:
    name = Path(urlsplit(str(href)).path.rstrip("/")).name
    return SceneEntry(name, partial(describe_one, href, declared))


def read_scene(
    href: str | Path,
    *,
    window: Window | None = None,
    bbox: Sequence[float] | None = None,
    **given: Unpack[Declaration],
) -> xr.DataArray:
    """Read a scene, or the part of it in a window or bounding box.

    Args:
        href: see `open_scene`.
        window: part of the grid, in pixels.
        bbox: west, south, east, north in degrees (WGS 84); not together with `window`.
        **given: see `open_scene`.

    Returns:
        Dims (bands, y, x), float32. Reflectance (unit 1) and angles (degrees): NaN is no data.
        SCL: class number, 0 is no data.

    Raises:
        EmptySceneError: no pixel holds data in every band.
        ProductError: another of its subclasses, see `lai_udf.errors`.
    """
    if window is not None and bbox is not None:
        raise GridError("give a window or a bbox, not both")
    source = open_scene(href, **given)
    scene = source.read(source.window(bbox) if bbox is not None else window)
    require_data(scene, str(href))
    return scene
