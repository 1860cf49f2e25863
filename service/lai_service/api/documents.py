"""Stored documents as the API shows them: with links, absolute hrefs and a way to draw them."""

from typing import Any
from urllib.parse import quote

from lai_service.api.map_links import page_link, with_map_link
from lai_service.catalogue.port import Document
from lai_service.files.hrefs import served_href
from lai_service.web.colours import RENDER, renders_of

__all__ = ["served_collection", "served_item"]

_JSON = "application/json"
_GEOJSON = "application/geo+json"


def _link(rel: str, href: str, media: str, title: str) -> dict[str, Any]:
    return {"rel": rel, "href": href, "type": media, "title": title}


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
    document = with_map_link(document, base_url)
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
