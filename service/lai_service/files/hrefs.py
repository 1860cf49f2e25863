"""Hrefs: what may be stored, and how a stored one is written for a reader.

Stored: a path relative to the data root (`lai/<item>/<digest>/lai.tif`), an item of the catalogue
(`item:lai/<item>`), or an address on the web that the service hands out and never opens. Served:
everything absolute. A document that was read from the service and is sent back has its own
addresses turned into stored ones again.
"""

import os
import posixpath
import re
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from lai_service.catalogue.items import Document
from lai_service.errors import ForbiddenPathError, InvalidItemError

DATA_ROUTE = "data"  # published files are served under this path of the service
MAP_ROUTE = "map"  # the map page; links to it are made when a document is served

_WEB_SCHEMES = frozenset({"http", "https", "s3", "gs", "ftp", "doi", "urn", "mailto"})
_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*:")
_STORED_ITEM = re.compile(r"item:([^/]+)/([^/]+)")
_OWN_ITEM = re.compile(r"collections/([^/]+)/items/([^/]+)")


def is_relative(href: str) -> bool:
    """Return whether an href is a relative path (no scheme, no host, not absolute)."""
    return not _SCHEME.match(href) and not href.startswith(("/", "\\"))


def is_safe_path(href: str) -> bool:
    """Return whether a relative path stays below its folder and names a plain file.

    Hidden files and folders (`.catalogue`, `.locks`) are not plain; `./lai.tif` is.
    """
    decoded = unquote(href)
    parts = decoded.split("/")
    return (
        is_relative(href)
        and is_relative(decoded)
        and "\\" not in decoded
        and "\x00" not in decoded
        and not any(part == "" or (part != "." and part.startswith(".")) for part in parts)
        and not decoded.startswith("/vsi")
        and not decoded.lower().endswith(".vrt")
    )


def stored_href(href: object, base_url: str, what: str) -> str:
    """Return the form in which an href is stored.

    Args:
        href: as the document gives it.
        base_url: address of this service with its final slash.
        what: what the href belongs to, for the message.

    Returns:
        A path relative to the data root, or a web address unchanged.

    Raises:
        ForbiddenPathError: a path that leaves the data root, `/vsicurl/`, `file:`, `..`, a VRT.
        InvalidItemError: no text, or an address with a scheme that is not for data.
    """
    if not isinstance(href, str) or not href:
        raise InvalidItemError(f"{what} has no href")
    own = f"{base_url}{DATA_ROUTE}/"
    if href.startswith(own):
        href = unquote(urlsplit(href[len(own) :]).path)
    if base_url and (named := _OWN_ITEM.fullmatch(href.removeprefix(base_url))):
        return item_href(*map(unquote, named.groups()))
    if item_named(href):
        return href
    scheme = _SCHEME.match(href)
    if scheme:
        name = scheme.group()[:-1].lower()
        if name == "file":
            raise ForbiddenPathError(f"{what} points to {href!r}; the service opens no file: href")
        if name not in _WEB_SCHEMES:
            raise InvalidItemError(f"{what} has an href of the scheme {name!r}, which is not data")
        return href
    if not is_safe_path(href):
        raise ForbiddenPathError(f"{what} points to {href!r}, outside the published files")
    return posixpath.normpath(href)


def read_stored_hrefs(document: Document, base_url: str) -> Document:
    """Return a document whose assets and links have stored hrefs; nothing is opened.

    Args:
        document: a STAC item or collection as a client sent it; not changed.
        base_url: address of this service with its final slash.

    Raises:
        ForbiddenPathError: an href leaves the data root.
        InvalidItemError: an href has a scheme that is not for data.
    """
    changed = {**document, "links": stored_links(document, base_url)}
    if "assets" in document:
        changed["assets"] = assets = {}
        for key, asset in dict(document["assets"] or {}).items():
            what = f"asset {key} of {document.get('id')}"
            href = asset.get("href") if isinstance(asset, dict) else None
            assets[key] = {**asset, "href": stored_href(href, base_url, what)}
    return changed


def has_files(document: Document) -> bool:
    """Return whether a document with stored hrefs has assets that are published here."""
    return any(is_relative(asset["href"]) for asset in (document.get("assets") or {}).values())


def check_files(document: Document, data: Path) -> None:
    """Check that the published files of a document with stored hrefs are there, and its own.

    Args:
        document: an item, whose files lie in `<collection>/<id>/`, or a collection.
        data: data root.

    Raises:
        ForbiddenPathError: an asset is a file of another item, which may go with that one.
        InvalidItemError: an href names no published file.
    """
    name = document["id"]
    own = f"{document['collection']}/{name}/" if document.get("type") == "Feature" else f"{name}/"
    for key, asset in (document.get("assets") or {}).items():
        href = asset["href"]
        if not is_relative(href):
            continue
        if not href.startswith(own):
            raise ForbiddenPathError(
                f"asset {key} of {name} names {href!r}, which does not lie in its own folder {own}"
            )
        if not os.path.isfile(data / href):  # False for a name that is too long
            raise InvalidItemError(
                f"asset {key} of {name} names {href!r}, which is not published; use /publish"
            )


MADE_LINKS = frozenset({"self", "item", "parent", "collection", "root", "items"})
"""Relations of links that the API makes itself."""


def stored_links(document: Document, base_url: str) -> list[Document]:
    """Return the links worth storing: those that the API does not make itself."""
    kept = []
    for link in document.get("links") or []:
        if not isinstance(link, dict) or link.get("rel") in MADE_LINKS:
            continue
        if str(link.get("href")).startswith(f"{base_url}{MAP_ROUTE}/"):
            continue
        what = f"link {link.get('rel')!r} of {document.get('id')}"
        kept.append({**link, "href": stored_href(link.get("href"), base_url, what)})
    return kept


def item_href(collection: str, item_id: str) -> str:
    """Return the stored href of an item of this catalogue."""
    return f"item:{collection}/{item_id}"


def item_named(href: str) -> tuple[str, str] | None:
    """Return collection and id of the item of this catalogue that a stored href names."""
    found = _STORED_ITEM.fullmatch(href)
    return (found[1], found[2]) if found else None


def served_href(href: str, base_url: str) -> str:
    """Return the absolute address of a stored href."""
    if named := item_named(href):
        collection, item_id = (quote(name, safe="") for name in named)
        return f"{base_url}collections/{collection}/items/{item_id}"
    return f"{base_url}{DATA_ROUTE}/{quote(href)}" if is_relative(href) else href
