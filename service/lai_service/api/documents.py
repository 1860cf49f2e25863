"""Stored documents as the API shows them: links, absolute hrefs, tiles; and the fields asked for.

A STAC Browser of another host draws the stored numbers of a COG itself, and stretches them by
`statistics`, which are in m2 m-2: LAI looks white. A link `xyz` of the Web Map Links extension goes
before the COG, there and in ours. It is made when an item is served, and left out when a served
item is sent back. Source: https://github.com/stac-extensions/web-map-links, version 1.2.0.

What the Fields extension shows (its version 1.0.0, "Include/Exclude Semantics"):

    asked for                          shown
    nothing                            everything
    an empty list, or no include       the default parts
    include                            these, and what identifies the item
    exclude (POST, include missing)    everything but these
    exclude (GET, or include empty)    the default parts but these

A longer path wins over a shorter one, and of two equal ones the included.
"""

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from stac_fastapi.extensions.fields.request import PostFieldsExtension

from lai_service.catalogue.items import Document
from lai_service.files.hrefs import MAP_ROUTE, is_relative, served_href
from lai_service.web.colours import RENDER, STYLES, renders_of

_JSON = "application/json"
_GEOJSON = "application/geo+json"
MAP_EXTENSION = "https://stac-extensions.github.io/web-map-links/v1.2.0/schema.json"
TILES = "cog/tiles/WebMercatorQuad/{z}/{x}/{y}.png"
"""Where tiles are, below the address of the service."""
_DRAWN = "lai"
_LAI_TILES = f"{TILES}?{STYLES[_DRAWN].query}"
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
    url = quote(served_href(raster["href"], base_url), safe="")
    link = {
        "rel": "xyz",
        "href": f"{base_url}{_LAI_TILES}url={url}",
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


def _assets(document: Document, base_url: str) -> Document:
    assets = (document.get("assets") or {}).items()
    return {key: {**one, "href": served_href(one["href"], base_url)} for key, one in assets}


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
    stored = _stored_links(document, base_url)
    served = {**document, "links": links + stored, "assets": _assets(document, base_url)}
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
        served["assets"] = _assets(document, base_url)
    return served


_IDENTITY = frozenset({"type", "stac_version", "id", "collection"})
_TIMES = {f"properties.{name}" for name in ("datetime", "start_datetime", "end_datetime")}
_DEFAULT = _IDENTITY | {"geometry", "bbox", "links", "assets"} | _TIMES


@dataclass(frozen=True)
class Fields:
    """What to show of every item."""

    include: frozenset[str] | None = None
    """Paths such as `properties.laiq:lai_mean`; nothing else is shown; None is everything."""
    exclude: frozenset[str] = frozenset()  # paths to leave out

    @classmethod
    def from_text(cls, text: str | None) -> "Fields":
        """Read `id,+properties.a,-links` of a GET request, None where it has no `fields`."""
        if text is None:
            return cls()
        # a `+` of an address arrives as a space
        names = [name for name in map(str.strip, text.split(",")) if name.strip("+-")]
        include = frozenset(name.lstrip("+") for name in names if name[0] != "-")
        exclude = frozenset(name[1:] for name in names if name[0] == "-")
        return cls(_shown(include, exclude), exclude)

    @classmethod
    def from_body(cls, asked: PostFieldsExtension | None) -> "Fields":
        """Read the `fields` of a POST request, None where it has none."""
        if asked is None:
            return cls()
        exclude = frozenset(asked.exclude or ())
        if exclude and "include" not in asked.model_fields_set:
            return cls(None, exclude)
        return cls(_shown(frozenset(asked.include or ()), exclude), exclude)

    def apply(self, item: Document) -> Document:
        """Return the parts of an item that were asked for."""
        shown: Document = item if self.include is None else {}
        include = self.include or frozenset()
        for path in sorted(include):
            shown = _with_path(item, shown, path.split("."))
        for path in sorted(self.exclude - include):
            if not any(longer.startswith(f"{path}.") for longer in include):
                shown = _without_path(shown, path.split("."))
        return shown


def _shown(include: frozenset[str], exclude: frozenset[str]) -> frozenset[str]:
    """Return the included paths, and of those not named what is not excluded."""
    unasked = {
        path
        for path in (_IDENTITY if include else _DEFAULT)
        if not any(f"{path}.".startswith(f"{other}.") for other in exclude)
    }
    return include | unasked


def _with_path(source: Document, target: Document, path: list[str]) -> Document:
    head, tail = path[0], path[1:]
    if head not in source:
        return target
    if not tail or not isinstance(source[head], dict):
        return {**target, head: source[head]}
    return {**target, head: _with_path(source[head], target.get(head, {}), tail)}


def _without_path(source: Document, path: list[str]) -> Document:
    head, tail = path[0], path[1:]
    if head not in source:
        return source
    if not tail:
        return {key: value for key, value in source.items() if key != head}
    if not isinstance(source[head], dict):
        return source
    return {**source, head: _without_path(source[head], tail)}
