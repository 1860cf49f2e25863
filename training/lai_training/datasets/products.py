"""Which products there are, and what names each: paths and hrefs in, opened scenes out.

Input: sources of a `PrepareConfig`. Output: hrefs that `lai_udf.scenes.read.open_scene` reads,
and for each product its tile, its angles' origin and its checksum.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from rasterio.warp import transform

from lai_training.datasets.config import Choice, Split, StacSearch
from lai_training.datasets.manifest import Origin
from lai_training.errors import PrepareError
from lai_udf.grid import Grid
from lai_udf.scenes.bands import SUN_AZIMUTH, SUN_ZENITH, VIEW_AZIMUTH, VIEW_ZENITH
from lai_udf.scenes.read import RASTER_SUFFIXES
from lai_udf.scenes.source import SceneSource
from lai_udf.scenes.stac import ITEM_SUFFIXES, read_item

TILE_IN_NAME = re.compile(r"_T(\d{2}[C-HJ-NP-X][A-HJ-NP-Z][A-HJ-NP-V])(?=_|$)")
"""MGRS tile in names of products, tiles and items."""

LATITUDE_BANDS = "CDEFGHJKLMNPQRSTUVWXX"
"""From 80 degrees south, 8 degrees each; the last has 12."""
COLUMN_LETTERS = ("ABCDEFGH", "JKLMNPQR", "STUVWXYZ")
ROW_LETTERS = "ABCDEFGHJKLMNPQRSTUV"
SQUARE_M = 100_000
ORIGINS: tuple[Origin, ...] = ("nominal", "scene", "grid")
"""From the poorest to the best."""


def list_products(sources: Sequence[str | StacSearch]) -> list[str]:
    """Return the hrefs of all products of all sources, each once, sorted within a source.

    Raises:
        PrepareError: there is no source, a path does not exist, or a search fails.
    """
    if not sources:
        raise PrepareError(
            "no source of products: name some under sources in the config, or give "
            "--source with a SAFE folder, a STAC Item or a folder of such"
        )
    hrefs: list[str] = []
    for source in sources:
        if isinstance(source, StacSearch):
            hrefs += search_items(source)
        elif source.startswith(("http://", "https://", "s3://", "/vsi")):
            hrefs.append(source)
        else:
            hrefs += walk(Path(source).expanduser())
    return list(dict.fromkeys(hrefs))


def walk(path: Path) -> list[str]:
    """Return the products in a folder and below, or the product that the path is.

    A folder with `MTD_MSIL2A.xml`, or whose name ends in `.SAFE`, is a product. So are STAC Items,
    and GeoTIFFs unless they are stored beside an Item: those are its assets.
    """
    if not path.exists():
        raise PrepareError(f"source {path} does not exist")
    if not path.is_dir() or _is_safe(path):
        return [str(path)]
    products: list[str] = []
    for folder, below, files in os.walk(path):
        here = Path(folder)
        safe = [name for name in below if _is_safe(here / name)]
        items = [name for name in files if _is_item(here / name)]
        images = [name for name in files if Path(name).suffix.lower() in RASTER_SUFFIXES]
        products += [str(here / name) for name in (*safe, *(items or images))]
        below[:] = [name for name in below if name not in safe and not name.startswith(".")]
    return sorted(products)


def _is_safe(folder: Path) -> bool:
    return folder.suffix.upper() == ".SAFE" or (folder / "MTD_MSIL2A.xml").exists()


def _is_item(path: Path) -> bool:
    if path.suffix.lower() not in ITEM_SUFFIXES:
        return False
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return True  # opening it raises the reason, which the manifest records
    return isinstance(document, dict) and document.get("type") == "Feature"


def search_items(search: StacSearch) -> list[str]:
    """Return the hrefs of the Items that a STAC API finds, sorted.

    Raises:
        PrepareError: the API does not answer, or answers with an error.
    """
    from pystac_client import Client
    from pystac_client.exceptions import APIError

    try:
        items = Client.open(search.api).search(
            collections=[search.collection],
            datetime=search.datetime,
            bbox=search.bbox,
            query=search.query or None,
            max_items=search.most,
        )
        return sorted(filter(None, (item.get_self_href() for item in items.items())))
    except (APIError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise PrepareError(f"search of {search.api} failed ({reason})") from error


def tile_of(source: SceneSource) -> str:
    """Return the MGRS tile of a scene: by its names, else the 100 km square of its centre."""
    for name in (source.metadata.product_id, source.name):
        if match := TILE_IN_NAME.search(name.removesuffix("/").removesuffix(".SAFE")):
            return match[1]
    return mgrs_square(source.grid)


def mgrs_square(grid: Grid) -> str:
    """Return the MGRS square (such as 31TCJ) of the centre of a grid in a UTM zone.

    Where the CRS is no UTM zone, a name made of CRS and coordinates in units of 100 km.

    Source: NGA.STND.0037, the Universal Grids: letters repeat after three zones in east, and
    after 2000 km, moved by five letters in even zones, in north.
    """
    west, south, east, north = grid.bounds
    x, y = (west + east) / 2, (south + north) / 2
    code = grid.crs.to_epsg() or 0
    column, row = int(x // SQUARE_M), int(y // SQUARE_M)
    if code // 100 not in (326, 327) or not 1 <= column <= 8:
        return f"EPSG{code}E{column}N{row}"
    zone = code % 100
    _, (latitude,) = transform(grid.crs, "EPSG:4326", [x], [y])
    band = LATITUDE_BANDS[int((latitude + 80) // 8)]
    letters = COLUMN_LETTERS[(zone - 1) % 3][column - 1]
    return f"{zone:02d}{band}{letters}{ROW_LETTERS[(row + 5 * (zone % 2 == 0)) % 20]}"


def choose(
    tile: str, date: str, select: Sequence[Choice], *, others: bool
) -> tuple[bool, Split | None]:
    """Return whether a product is wanted, and the split that `select` puts it in (or None)."""
    for choice in select:
        days = [day.isoformat() for day in choice.dates]
        if choice.tile == tile and (not days or date in days):
            return True, choice.split
    return others or not select, None


def describe_angles(source: SceneSource) -> dict[str, Origin]:
    """Return of each angle where it comes from: `grid`, `scene` (one value) or `nominal`."""

    def origin_of(band: str) -> Origin:
        if band in source.angles:
            return "scene" if source.angles[band].nodes.size == 1 else "grid"
        return "grid" if band in source.labels else "nominal"

    def origin(*bands: str) -> Origin:
        return min(map(origin_of, bands), key=ORIGINS.index)

    return {
        "view_zenith": origin(VIEW_ZENITH),
        "sun_zenith": origin(SUN_ZENITH),
        "relative_azimuth": origin(SUN_AZIMUTH, VIEW_AZIMUTH),
    }


def checksum(source: SceneSource) -> str:
    """Return the sha256 of a product: of its metadata and its local band files, in sorted order.

    Of an Item whose bands lie elsewhere, that of its JSON.

    Raises:
        PrepareError: a file cannot be read.
    """
    total = hashlib.sha256()
    try:
        for path in sorted(_local_files(source)):
            with path.open("rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
    except OSError as error:
        raise PrepareError(f"{source.name}: {error}") from error
    if source.name.startswith(("http://", "https://")) and not _is_image(source.name):
        document = read_item(source.name).to_dict(transform_hrefs=False)
        total.update(json.dumps(document, sort_keys=True).encode())
    return total.hexdigest()


def _local_files(source: SceneSource) -> Iterator[Path]:
    place = Path(source.name)
    yield from {Path(band.path) for band in source.bands if Path(band.path).is_file()}
    if place.is_dir():
        yield from (*place.glob("MTD_MSIL2A.xml"), *place.glob("GRANULE/*/MTD_TL.xml"))
    elif place.is_file() and not _is_image(source.name):
        yield place


def _is_image(name: str) -> bool:
    return Path(name.partition("?")[0]).suffix.lower() in RASTER_SUFFIXES
