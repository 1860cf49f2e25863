"""The link by which any STAC Browser draws LAI in our colours.

A STAC Browser of another host draws the stored numbers of a COG itself, and stretches them by
`statistics`, which are in m2 m-2: LAI looks white. A link `xyz` of the Web Map Links extension goes
before the COG, there and in ours. It is made when an item is served, and left out when a served
item is sent back.

Source: https://github.com/stac-extensions/web-map-links, version 1.2.0.
"""

from urllib.parse import quote, urlencode

from lai_service.catalogue.port import Document
from lai_service.files.hrefs import MAP_ROUTE, is_relative, served_href
from lai_service.web.colours import STYLES

__all__ = ["EXTENSION", "TILES", "page_link", "with_map_link", "without_map_link"]

EXTENSION = "https://stac-extensions.github.io/web-map-links/v1.2.0/schema.json"
TILES = "cog/tiles/WebMercatorQuad/{z}/{x}/{y}.png"
"""Where tiles are, below the address of the service."""
_DRAWN = "lai"
_RELATIONS = frozenset({"xyz", "wms", "wmts", "tilejson", "pmtiles", "3d-tiles"})


def page_link(base_url: str, collection: str | None = None, date: str | None = None) -> Document:
    """Return the link to the map page, at a collection and a day (2024-06-21) where given."""
    given = {"collection": collection, "date": date}
    chosen = urlencode({key: value for key, value in given.items() if value})
    href = f"{base_url}{MAP_ROUTE}/{'#' if chosen else ''}{chosen}"
    return {"rel": "alternate", "type": "text/html", "href": href, "title": "Map of LAI"}


def with_map_link(item: Document, base_url: str) -> Document:
    """Return a stored item with a link to tiles of its LAI, where it has a raster here.

    Args:
        item: item as stored; not changed.
        base_url: address of this service with its final slash.
    """
    raster = (item.get("assets") or {}).get(_DRAWN)
    if raster is None or not is_relative(raster["href"]):
        return item
    style = STYLES[_DRAWN]
    url = quote(served_href(raster["href"], base_url), safe="")
    link = {
        "rel": "xyz",
        "href": f"{base_url}{TILES}?{style.query}url={url}",
        "type": "image/png",
        "title": "LAI from 0 (light) to 6 m² m⁻² (dark)",
    }
    extensions = [uri for uri in item.get("stac_extensions") or [] if uri != EXTENSION]
    links = [*(item.get("links") or []), link]
    return {**item, "links": links, "stac_extensions": [*extensions, EXTENSION]}


def without_map_link(item: Document, base_url: str) -> Document:
    """Return an item as a client sent it, without what `with_map_link` adds.

    Args:
        item: a STAC item whose links are a list of objects; not changed.
        base_url: address of this service with its final slash.
    """
    own = f"{base_url}{TILES}"
    links = [
        link
        for link in item.get("links") or []
        if not (link.get("rel") == "xyz" and str(link.get("href")).startswith(own))
    ]
    extensions = item.get("stac_extensions")
    left = {link.get("rel") for link in links} & _RELATIONS
    if isinstance(extensions, list) and not left:
        extensions = [uri for uri in extensions if uri != EXTENSION]
    changed = {"links": links, "stac_extensions": extensions}
    return {**item, **{key: value for key, value in changed.items() if key in item}}
