"""Collections of published items: described by `lai_stac` when the first item arrives, kept true.

Extents follow the items by themselves (the catalogue answers with the extent of what it holds).
Summaries widen with every item, and asset definitions drop what it contradicts; `lai-service
repair` makes the summaries anew from all items.
"""

import itertools
from collections.abc import Iterable, Iterator
from functools import reduce
from typing import Any

import pystac
import pystac.errors

from lai_service.catalogue.items import Document
from lai_stac.collection import agreed_definition, build_collection
from lai_stac.errors import LaiStacError

_AT_ONCE = 500


def collection_name(default: str, item: Document) -> str:
    """Return the collection of an item that names none: by target, resolution, date or series.

    Args:
        default: of SL2P's LAI at 20 m.
        item: a published item.
    """
    properties = item["properties"]
    target, pixel = properties.get("laiq:target", "sl2p"), properties.get("gsd", 20)
    parts = [default]
    if target != "sl2p":
        parts.append(str(target))
    if pixel != 20:
        parts.append(f"{pixel:g}m")
    if "gap_days" in item.get("assets", {}):
        parts.append("series")
    return "-".join(parts)


def collection_for(collection_id: str, items: Iterable[Document]) -> Document:
    """Describe a collection by its items.

    Args:
        collection_id: its id.
        items: at least one.
    """
    documents = list(items)
    try:
        read = [pystac.Item.from_dict(document, migrate=False) for document in documents]
        collection = build_collection(read, collection_id=collection_id)
    except (LaiStacError, pystac.errors.STACError, LookupError, TypeError, ValueError):
        return _plain(collection_id, documents[0])  # items of others may lack fields of ours
    made: Document = collection.to_dict(include_self_link=False, transform_hrefs=False)
    return {**made, "links": [link for link in made["links"] if link["rel"] == "license"]}


def _plain(collection_id: str, item: Document) -> Document:
    properties = item["properties"]
    start = properties.get("start_datetime") or properties.get("datetime")
    return {
        "type": "Collection",
        "stac_version": "1.1.0",
        "id": collection_id,
        "title": "Leaf area index",
        "description": "Leaf area index (LAI, m² m⁻²).",
        "license": "other",
        "extent": {
            "spatial": {"bbox": [item.get("bbox") or [-180, -90, 180, 90]]},
            "temporal": {"interval": [[start, None]]},
        },
        "links": [],
    }


def widened(collection: Document, items: Iterable[Document]) -> Document:
    """Return a collection whose summaries and asset definitions are true of some items too.

    Args:
        collection: as stored; one without summaries or definitions gets none.
        items: at least one.
    """
    items = list(items)
    collection = _with_agreed_assets(collection, items)
    known = collection.get("summaries")
    if not known:
        return collection
    added = collection_for(collection["id"], items).get("summaries") or {}
    return {**collection, "summaries": _join_summaries(known, added)}


def remade(collection: Document, items: Iterable[Document]) -> Document:
    """Return a collection with summaries of these items and no others, and definitions true of all.

    Args:
        collection: as stored; one without summaries or definitions gets none.
        items: all of it.
    """
    summaries: Document = {}
    for some in batched(items, _AT_ONCE):
        added = collection_for(collection["id"], some).get("summaries") or {}
        summaries = _join_summaries(summaries, added)
        collection = _with_agreed_assets(collection, some)
    if not summaries or not collection.get("summaries"):
        return collection
    return {**collection, "summaries": summaries}


def _with_agreed_assets(collection: Document, items: list[Document]) -> Document:
    if not collection.get("item_assets"):
        return collection
    agreed = {}
    for key, definition in collection["item_assets"].items():
        assets = ((item.get("assets") or {}).get(key) for item in items)
        agreed[key] = reduce(agreed_definition, filter(None, assets), definition)
    return {**collection, "item_assets": agreed}


def batched(items: Iterable[Document], size: int) -> Iterator[list[Document]]:
    """Yield lists of so many items."""
    rest = iter(items)
    while some := list(itertools.islice(rest, size)):
        yield some


def _join_summaries(known: Document, added: Document) -> Document:
    return {
        name: _joined(known[name], added[name]) if name in known and name in added else value
        for name, value in {**added, **known}.items()
    }


def _joined(a: Any, b: Any) -> Any:  # noqa: ANN401 (a list of values, or a range)
    if isinstance(a, list) and isinstance(b, list):
        new = [value for value in b if value not in a]
        return sorted([*a, *new], key=str) if new else a
    if isinstance(a, dict) and isinstance(b, dict) and {*a, *b} == {"minimum", "maximum"}:
        return {
            "minimum": min(a["minimum"], b["minimum"]),
            "maximum": max(a["maximum"], b["maximum"]),
        }
    return a
