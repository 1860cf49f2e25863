"""Stored documents as the API shows them: with links, absolute hrefs and a way to draw them.

A STAC Browser of another host draws the stored numbers of a COG itself, and stretches them by
`statistics`, which are in m2 m-2: LAI looks white. A link `xyz` of the Web Map Links extension goes
before the COG, there and in ours. It is made when an item is served, and left out when a served
item is sent back.

Source: https://github.com/stac-extensions/web-map-links, version 1.2.0.
"""

from typing import Any
from urllib.parse import quote, urlencode

from lai_service.catalogue.port import Document
from lai_service.files.hrefs import MAP_ROUTE, is_relative, served_href
from lai_service.web.colours import RENDER, STYLES, renders_of

__all__ = [
    "MAP_EXTENSION",
    "TILES",
    "page_link",
    "served_collection",
    "served_item",
    "without_map_link",
]

_JSON = "application/json"
_GEOJSON = "application/geo+json"
MAP_EXTENSION = "https://stac-extensions.github.io/web-map-links/v1.2.0/schema.json"
TILES = "cog/tiles/WebMercatorQuad/{z}/{x}/{y}.png"
"""Where tiles are, below the address of the service."""
_DRAWN = "lai"
_RELATIONS = frozenset({"xyz", "wms", "wmts", "tilejson", "pmtiles", "3d-tiles"})


def _link(rel: str, href: str, media: str, title: str) -> dict[str, Any]:
    return {"rel": rel, "href": href, "type": media, "title": title}


def page_link(base_url: str, collection: str | None = None, date: str | None = None) -> Document:
    """Return the link to the map page, at a collection and a day (2024-06-21) where given."""
    given = {"collection": collection, "date": date}
    chosen = urlencode({key: value for key, value in given.items() if value})
    href = f"{base_url}{MAP_ROUTE}/{'#' if chosen else ''}{chosen}"
    return {"rel": "alternate", "type": "text/html", "href": href, "title": "Map of LAI"}


def _with_map_link(item: Document, base_url: str) -> Document:
    """Return a stored item with a link to tiles of its LAI, where it has a raster here."""
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
    extensions = [uri for uri in item.get("stac_extensions") or [] if uri != MAP_EXTENSION]
    links = [*(item.get("links") or []), link]
    return {**item, "links": links, "stac_extensions": [*extensions, MAP_EXTENSION]}


def without_map_link(item: Document, base_url: str) -> Document:
    """Return an item as a client sent it, without what `served_item` adds.

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
        extensions = [uri for uri in extensions if uri != MAP_EXTENSION]
    changed = {"links": links, "stac_extensions": extensions}
    return {**item, **{key: value for key, value in changed.items() if key in item}}


def _stored_links(document: Document, base_url: str) -> list[dict[str, Any]]:
    return [
        {**link, "href": served_href(link["href"], base_url)}
        for link in document.get("links") or []
    ]


def served_item(document: Document, base_url: str) -> Document:
    """Return an item with absolute hrefs, the links of the API and one to tiles of its LAI.

    Args:
        document: item as stored; not changed.
        base_url: address of this service with its final slash.
    """
    document = _with_map_link(document, base_url)
    collection = f"{base_url}collections/{quote(document['collection'], safe='')}"
    item = f"{collection}/items/{quote(document['id'], safe='')}"
    links = [
        _link("self", item, _GEOJSON, document["id"]),
        _link("parent", collection, _JSON, document["collection"]),
        _link("collection", collection, _JSON, document["collection"]),
        _link("root", base_url, _JSON, "Root"),
    ]
    if "lai" in (document.get("assets") or {}):
        properties = document["properties"]
        day = str(properties.get("datetime") or properties.get("start_datetime"))[:10]
        links.append(page_link(base_url, document["collection"], day))
    assets = {
        key: {**asset, "href": served_href(asset["href"], base_url)}
        for key, asset in (document.get("assets") or {}).items()
    }
    served = {**document, "links": links + _stored_links(document, base_url), "assets": assets}
    served.setdefault("stac_version", "1.1.0")
    return served


def served_collection(document: Document, base_url: str) -> Document:
    """Return a collection with absolute hrefs and the links of the API."""
    own = f"{base_url}collections/{quote(document['id'], safe='')}"
    title = str(document.get("title") or document["id"])
    links = [
        _link("self", own, _JSON, title),
        _link("parent", base_url, _JSON, "Root"),
        _link("root", base_url, _JSON, "Root"),
        _link("items", f"{own}/items", _GEOJSON, f"Items of {title}"),
        _link(
            "http://www.opengis.net/def/rel/ogc/1.0/queryables",
            f"{own}/queryables",
            "application/schema+json",
            "Queryables",
        ),
        page_link(base_url, document["id"]),
    ]
    served = {**document, "links": links + _stored_links(document, base_url)}
    renders = renders_of(document.get("item_assets") or {})
    if renders:
        extensions = [uri for uri in document.get("stac_extensions") or [] if uri != RENDER]
        served |= {"renders": renders, "stac_extensions": [*extensions, RENDER]}
    if "assets" in document:
        served["assets"] = {
            key: {**asset, "href": served_href(asset["href"], base_url)}
            for key, asset in document["assets"].items()
        }
    return served
