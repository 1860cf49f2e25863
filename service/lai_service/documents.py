"""Stored documents as the API shows them: links, absolute hrefs, and only the fields asked for."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from lai_service.catalogue import Document
from lai_service.hrefs import served_href

__all__ = ["Fields", "served_collection", "served_item"]

_JSON = "application/json"
_GEOJSON = "application/geo+json"


@dataclass(frozen=True)
class Fields:
    """The Fields extension: which parts of an item to show."""

    include: frozenset[str] = frozenset()
    """Paths such as `properties.laiq:lai_mean`; nothing else is shown; empty is everything."""
    exclude: frozenset[str] = frozenset()
    """Paths to leave out; a longer included path wins, and of two equal ones the included."""

    @classmethod
    def from_list(cls, names: Iterable[str]) -> "Fields":
        """Read `id,+properties.a,-links`; a `+` may arrive as a space."""
        names = [name.strip() for name in names if name.strip(" +-")]
        return cls(
            frozenset(name.lstrip("+") for name in names if name[0] != "-"),
            frozenset(name[1:] for name in names if name[0] == "-"),
        )

    def apply(self, item: Document) -> Document:
        """Return the parts of an item that were asked for."""
        shown: Document = {} if self.include else item
        for path in sorted(self.include):
            shown = _with_path(item, shown, path.split("."))
        for path in sorted(self.exclude - self.include):
            if not any(longer.startswith(f"{path}.") for longer in self.include):
                shown = _without_path(shown, path.split("."))
        return shown


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


def _link(rel: str, href: str, media: str, title: str) -> dict[str, Any]:
    return {"rel": rel, "href": href, "type": media, "title": title}


def _stored_links(document: Document, base_url: str) -> list[dict[str, Any]]:
    return [
        {**link, "href": served_href(link["href"], base_url)}
        for link in document.get("links") or []
    ]


def served_item(document: Document, base_url: str) -> Document:
    """Return an item with absolute hrefs and the links of the API.

    Args:
        document: item as stored; not changed.
        base_url: address of this service with its final slash.
    """
    collection = f"{base_url}collections/{quote(document['collection'], safe='')}"
    item = f"{collection}/items/{quote(document['id'], safe='')}"
    links = [
        _link("self", item, _GEOJSON, document["id"]),
        _link("parent", collection, _JSON, document["collection"]),
        _link("collection", collection, _JSON, document["collection"]),
        _link("root", base_url, _JSON, "Root"),
    ]
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
    ]
    served = {**document, "links": links + _stored_links(document, base_url)}
    if "assets" in document:
        served["assets"] = {
            key: {**asset, "href": served_href(asset["href"], base_url)}
            for key, asset in document["assets"].items()
        }
    return served
