"""Scenes of a STAC Collection or ItemCollection, one after the other.

In: a Collection (or Catalog) with links to its Items, or an ItemCollection, which holds them (a
saved search); path or href. Out: for each Item its id and a `SceneSource`.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pystac

from lai_udf.errors import EmptySceneError, MetadataError, UnreadableProductError
from lai_udf.scenes.declared import Declared, Offset
from lai_udf.scenes.source import LOG, SceneEntry, SceneSource
from lai_udf.scenes.stac import ITEM_SUFFIXES, describe_item, parse_item, read_document

LINKING: dict[str, type[pystac.Catalog]] = {
    "Collection": pystac.Collection,
    "Catalog": pystac.Catalog,
}
"""Documents that link to their Items, by `type`."""

HOLDING = "FeatureCollection"
"""`type` of an ItemCollection."""


def holds_items(href: str) -> bool:
    """Return whether a path or href is a document of several Items, as opposed to a scene.

    Raises:
        UnreadableProductError: it ends in `.json` and cannot be read.
    """
    if Path(urlsplit(href).path).suffix.lower() not in ITEM_SUFFIXES:
        return False
    return read_document(href).get("type") in {*LINKING, HOLDING}


def open_items(
    href: str,
    *,
    reflectance_scale: float | None = None,
    reflectance_offset: Offset | None = None,
) -> Iterator[tuple[str, SceneSource]]:
    """Describe the scenes of a Collection or ItemCollection, each when its turn comes.

    Args:
        href: path or href.
        reflectance_scale: as in `lai_udf.open_scene`, for all of them.
        reflectance_offset: as above.

    Yields:
        Id of the Item, which may name a folder, and its scene.

    Raises:
        EmptySceneError: there is no Item.
        UnreadableProductError: an Item cannot be read, or its id is no name for a folder or is
            that of another one, too.
        ProductError: another of its subclasses, see `lai_udf.errors`.
    """
    declared = Declared(reflectance_scale, reflectance_offset)
    for entry in describe_items(href, declared):
        yield entry.name, entry.open()


def describe_items(href: str, declared: Declared) -> Iterator[SceneEntry]:
    """Yield the scenes of a document; see `open_items`."""
    if declared.datetime is not None:
        raise MetadataError(
            f"{href}: Items have times of their own",
            parameter="datetime",
            value=declared.datetime,
            expected="nothing",
        )
    known: set[str] = set()
    for item in read_items(href):
        named = Path(item.id).name == item.id and item.id[:1] not in ("", ".")
        if not named or item.id in known:
            raise UnreadableProductError(
                f"{href}: the id {item.id!r} of an Item is no name for a folder, or two Items "
                "have it: run each Item by itself"
            )
        known.add(item.id)
        yield SceneEntry(item.id, partial(describe_item, item, f"{href}, Item {item.id}", declared))
    if not known:
        raise EmptySceneError(f"{href} has no Item: give a Collection that links to its Items")


def read_items(href: str) -> Iterator[pystac.Item]:
    """Yield the Items of a document; relative hrefs are resolved against where they stand.

    Raises:
        UnreadableProductError: it or one of its Items is missing or damaged.
    """
    document = dict(read_document(href))
    links = document.get("links") or []
    if document.get("type") == HOLDING:
        if any(link.get("rel") == "next" for link in links):
            LOG.warning("%s is one page of a search: Items of further pages are not read", href)
        yield from (parse_item(feature, href) for feature in document.get("features") or [])
        return
    try:
        parent = LINKING[str(document["type"])].from_dict(document, href=href)
        yield from parent.get_items(recursive=True)
    except Exception as error:  # pystac lets KeyError, ValueError and its own errors through
        raise UnreadableProductError(f"{href}: its Items cannot be read ({error!r})") from error
