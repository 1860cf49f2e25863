"""Mosaics of a day or month: the rasters of all items of one collection as one layer of tiles.

A tile asks the catalogue for the items that meet it; where several have a pixel the latest wins.
Beside the tiles a TileJSON and WMTS capabilities, by which QGIS and other clients read them.
"""

import datetime as dt
import re
from calendar import monthrange
from functools import partial
from typing import Annotated
from xml.sax.saxutils import escape

import morecantile
import numpy as np
import rasterio
from fastapi import Depends, FastAPI, Query
from rio_tiler.errors import EmptyMosaicError, TileOutsideBounds
from rio_tiler.io import Reader
from rio_tiler.models import ImageData
from rio_tiler.mosaic import mosaic_reader
from stac_fastapi.types.requests import get_base_url
from starlette.requests import Request
from starlette.responses import Response

from lai_service.api.limits import check_query, known_query, turns
from lai_service.api.stac_api import search_of
from lai_service.catalogue.port import Catalogue, Search
from lai_service.errors import BadRequestError
from lai_service.files.hrefs import is_relative
from lai_service.files.storage import GDAL_ENVIRONMENT
from lai_service.settings import Settings
from lai_service.web import web_file
from lai_service.web.colours import STYLES, colour_maps
from lai_service.web.tiles import PICTURES_AT_ONCE
from lai_udf.longitudes import flat_box

PREFIX = "/mosaic"
MIN_ZOOM, MAX_ZOOM = 6, 15
"""Below, a tile would show hundreds of items: the map draws outlines there."""
MAX_TILE_ITEMS = 40  # items that one tile reads, the latest ones
_CACHE_S = 300
_GRID = morecantile.tms.get("WebMercatorQuad")
_DAY = re.compile(r"\d{4}-\d{2}(-\d{2})?")

_OGC = {"service": "WMTS", "request": "GetCapabilities", "version": "1.0.0", "acceptversions": None}
"""Parameters of OGC 07-057r7 and the value that is answered, None: any."""

CollectionQuery = Annotated[str, Query(description="Id of the collection", max_length=200)]
DateQuery = Annotated[str, Query(description="Day (2024-06-21) or month (2024-06)")]
AssetQuery = Annotated[str, Query(description="lai, lai_lower, lai_upper, lai_sd or lai_flags")]


def interval_of(date: str) -> str:
    """Return the STAC interval of a day or a month.

    Raises:
        BadRequestError: it is neither.
    """
    if not _DAY.fullmatch(date):
        raise BadRequestError(f"date {date!r} is neither a day (2024-06-21) nor a month (2024-06)")
    is_month = len(date) == 7
    try:
        first = dt.date.fromisoformat(f"{date}-01" if is_month else date)
    except ValueError as error:
        raise BadRequestError(f"date {date!r} does not exist") from error
    last = first.replace(day=monthrange(first.year, first.month)[1]) if is_month else first
    return f"{first}T00:00:00Z/{last}T23:59:59.999999Z"


def add_mosaic(app: FastAPI, settings: Settings, catalogue: Catalogue) -> None:
    """Add tiles, TileJSON and WMTS capabilities of mosaics to an application."""
    colours = colour_maps()

    def find(collection: str, date: str, asset: str, bbox: list[float]) -> list[str]:
        """Return the rasters that meet a box in degrees, the latest first."""
        if asset not in STYLES:
            raise BadRequestError(f"asset {asset!r} has no style; use {', '.join(STYLES)}")
        search: Search = search_of(
            collections=[collection], datetime=interval_of(date), bbox=bbox, limit=MAX_TILE_ITEMS
        )
        assets = (item["assets"].get(asset) for item in catalogue.search(search).items)
        hrefs = [str(found["href"]) for found in assets if found is not None]
        return [str(settings.data / href) for href in hrefs if is_relative(href)]

    def bounds_of(collection: str) -> list[float]:
        """Return west, south, east, north; the whole turn across ±180°, where west < east here."""
        box = catalogue.collection(collection)["extent"]["spatial"]["bbox"][0]
        west, south, east, north = flat_box(box)
        return [west, south, east, north] if west <= east else [-180, south, 180, north]

    turn = Depends(turns(PICTURES_AT_ONCE), scope="function")

    known = Depends(known_query)

    @app.get(f"{PREFIX}/tiles/{{z}}/{{x}}/{{y}}.png", tags=["Mosaic"], dependencies=[known, turn])
    def tile(
        z: int,
        x: int,
        y: int,
        collection: CollectionQuery,
        date: DateQuery,
        asset: AssetQuery = "lai",
    ) -> Response:
        """Return a tile of 256 px in the colours of the style; 204 where there is nothing."""
        if not MIN_ZOOM <= z <= MAX_ZOOM + 4 or not (0 <= x < 2**z and 0 <= y < 2**z):
            raise BadRequestError(f"zoom must lie between {MIN_ZOOM} and {MAX_ZOOM + 4}")
        bounds = _GRID.bounds(morecantile.Tile(x, y, z))
        paths = find(collection, date, asset, list(bounds))
        headers = {"Cache-Control": f"public, max-age={_CACHE_S}"}
        if not paths:
            return Response(status_code=204, headers=headers)
        style = STYLES[asset]
        read = partial(_read_tile, unscale=style.limits is not None)
        try:
            with rasterio.Env(**GDAL_ENVIRONMENT):
                image, _ = mosaic_reader(
                    paths, read, x, y, z, threads=0, allowed_exceptions=(TileOutsideBounds,)
                )
        except EmptyMosaicError:
            return Response(status_code=204, headers=headers)
        if not np.asarray(image.mask).any():
            return Response(status_code=204, headers=headers)
        if style.limits is not None:
            with np.errstate(invalid="ignore"):  # NaN below the mask
                image.rescale(in_range=(style.limits,))
        content = image.render(img_format="PNG", colormap=colours.get(style.colour_map))
        return Response(content, media_type="image/png", headers=headers)

    @app.get(f"{PREFIX}/tilejson.json", tags=["Mosaic"], dependencies=[known])
    def tilejson(
        request: Request, collection: CollectionQuery, date: DateQuery, asset: AssetQuery = "lai"
    ) -> dict[str, object]:
        """Return the TileJSON of a mosaic."""
        interval_of(date)
        return {
            "tilejson": "3.0.0",
            "name": f"{asset} {date}, {collection}",
            "tiles": [_address(request, collection, date, asset)],
            "minzoom": MIN_ZOOM,
            "maxzoom": MAX_ZOOM,
            "bounds": bounds_of(collection),
        }

    @app.get(
        f"{PREFIX}/WMTSCapabilities.xml", tags=["Mosaic"], dependencies=[Depends(_known_to_wmts)]
    )
    def capabilities(
        request: Request, collection: CollectionQuery, date: DateQuery, asset: AssetQuery = "lai"
    ) -> Response:
        """Return WMTS capabilities with one layer."""
        interval_of(date)
        template = _address(request, collection, date, asset)
        return Response(
            _wmts(f"{asset} {date}", template, bounds_of(collection)), media_type="text/xml"
        )


def _known_to_wmts(request: Request) -> None:
    """Take what clients of OGC services append to an address, in capitals or not.

    Raises:
        BadRequestError: another service is asked for, or a parameter is unknown.
    """
    appended = {name.lower(): name for name in request.query_params if name.lower() in _OGC}
    check_query(request, appended.values())
    for key, name in appended.items():
        value, expected = request.query_params[name], _OGC[key]
        if expected is not None and value.lower() != expected.lower():
            raise BadRequestError(f"{name}={value!r}: this address has {expected} only")


def _read_tile(path: str, x: int, y: int, z: int, *, unscale: bool) -> ImageData:
    with Reader(path) as dataset:
        image: ImageData = dataset.tile(x, y, z, tilesize=256, unscale=unscale)
        return image


def _address(request: Request, collection: str, date: str, asset: str) -> str:
    query = f"collection={collection}&date={date}&asset={asset}"
    return f"{get_base_url(request)}{PREFIX[1:]}/tiles/{{z}}/{{x}}/{{y}}.png?{query}"


def _wmts(title: str, template: str, bounds: list[float]) -> str:
    """Return the capabilities of one layer on WebMercatorQuad (OGC 07-057r7)."""
    names = {"{z}": "{TileMatrix}", "{x}": "{TileCol}", "{y}": "{TileRow}"}
    for own, theirs in names.items():
        template = template.replace(own, theirs)
    matrices = "".join(
        f"<TileMatrix><ows:Identifier>{z}</ows:Identifier>"
        f"<ScaleDenominator>{_GRID.matrix(z).scaleDenominator!r}</ScaleDenominator>"
        "<TopLeftCorner>-20037508.342789244 20037508.342789244</TopLeftCorner>"
        f"<TileWidth>256</TileWidth><TileHeight>256</TileHeight>"
        f"<MatrixWidth>{2**z}</MatrixWidth><MatrixHeight>{2**z}</MatrixHeight></TileMatrix>"
        for z in range(MIN_ZOOM, MAX_ZOOM + 1)
    )
    west, south, east, north = bounds
    return web_file("wmts.xml").format(
        title=escape(title),
        template=escape(template, {'"': "&quot;"}),
        lower=f"{west} {south}",
        upper=f"{east} {north}",
        matrices=matrices,
    )
