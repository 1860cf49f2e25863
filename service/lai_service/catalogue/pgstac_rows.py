"""How a STAC item is laid into a row of `pgstac.items`, and back.

pgstac keeps of an item only what differs from its collection's `item_assets`, and its functions
drop nulls on the way (`"datetime": null` too) and write coordinates with 15 decimals. A catalogue
of ours gives back what it was given. So the whole item is stored in `content`, which pgstac allows,
and `private` says that it is; where the collection knows a key that the item lacks, pgstac's own
mark keeps other readers of the database from adding it. Rows that other programs wrote are read by
pgstac's function.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import shapely

from lai_service.catalogue.items import dump_json, facts_of
from lai_service.catalogue.port import Document
from lai_service.catalogue.times import from_microseconds
from lai_service.errors import InvalidItemError

__all__ = ["COLUMNS", "BaseItem", "Row", "document_of", "row_from", "spans"]

COLUMNS = (
    "i.collection, i.id, ST_AsBinary(i.geometry), i.private ? 'whole', "
    "case when i.private ? 'whole' then i.content else content_hydrate(i) end"
)
"""What to select for `document_of`."""

_LEAVE_OUT = "𒍟※"  # DO_NOT_MERGE_MARKER of pypgstac.hydration
_TAG = "pgstac:base_item"
_PRIVATE = '{"whole": true}'
_IN_COLUMNS = ("id", "collection", "geometry", "type")


@dataclass(frozen=True)
class BaseItem:
    """What a collection says about all its items."""

    number: int | None
    """Its id in `base_items`; None until the collection changed."""
    assets: dict[str, Any] | None
    """`item_assets` of the collection."""


@dataclass(frozen=True)
class Row:
    """One item, checked and ready to be copied into `pgstac.items`."""

    document: Document
    """The item with its collection."""
    start: str
    """RFC 3339, UTC."""
    end: str
    """RFC 3339, UTC."""
    wkb: str
    """Footprint as hexadecimal EWKB, EPSG:4326."""

    @property
    def id(self) -> str:
        """Return the id of the item."""
        return str(self.document["id"])

    def values(self, base: BaseItem) -> tuple[str, ...]:
        """Return id, collection, datetime, end_datetime, geometry (EWKB), content and private."""
        return (
            self.id,
            self.document["collection"],
            self.start,
            self.end,
            self.wkb,
            dump_json(_content(self.document, base)),
            _PRIVATE,
        )


def row_from(collection_id: str, document: Document) -> Row:
    """Check an item and lay it out.

    Raises:
        InvalidItemError: id, time or geometry cannot be read, or the geometry is null.
    """
    facts = facts_of(document)
    if facts.footprint is None:
        raise InvalidItemError(f"item {facts.id} has no geometry; pgstac stores none without one")
    whole = {**document, "collection": collection_id, "type": "Feature"}
    placed = shapely.set_srid(facts.footprint, 4326)
    wkb = shapely.to_wkb(placed, hex=True, include_srid=True)
    return Row(whole, from_microseconds(facts.start_us), from_microseconds(facts.end_us), wkb)


def _content(document: Document, base: BaseItem) -> Document:
    content = {key: value for key, value in document.items() if key not in _IN_COLUMNS}
    if base.assets:
        assets = content.get("assets")
        content["assets"] = _marked(assets, base.assets) if isinstance(assets, dict) else _LEAVE_OUT
    if base.number is not None:
        content[_TAG] = base.number
    return content


def _marked(value: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """Return the value with a mark for every key that the base has and it has not."""
    marked: dict[str, Any] = {key: _LEAVE_OUT for key in base if key not in value}
    for key, inner in value.items():
        marked[key] = _marked_inner(inner, base.get(key))
    return marked


def _marked_inner(value: object, base: object) -> object:
    if isinstance(value, dict) and isinstance(base, dict):
        return _marked(value, base)
    if isinstance(value, list) and isinstance(base, list) and len(value) == len(base):
        return [_marked_inner(v, b) for v, b in zip(value, base, strict=True)]
    return value


def document_of(
    collection: str, item_id: str, wkb: bytes, whole: bool | None, content: Document
) -> Document:
    """Put an item together from its `COLUMNS`."""
    document = dict(content)
    if whole:
        document.pop(_TAG, None)
        document["assets"] = _unmarked(document.get("assets"))
        if document["assets"] in (None, _LEAVE_OUT):
            del document["assets"]
    geometry = json.loads(shapely.to_geojson(shapely.from_wkb(wkb)))
    columns = {"id": item_id, "collection": collection, "geometry": geometry, "type": "Feature"}
    return {**document, **columns}


def _unmarked(value: Any) -> Any:  # noqa: ANN401 (any JSON)
    if isinstance(value, dict):
        return {key: _unmarked(inner) for key, inner in value.items() if inner != _LEAVE_OUT}
    if isinstance(value, list):
        return [_unmarked(inner) for inner in value]
    return value


def spans(rows: Iterable[Row], partition_trunc: str | None) -> list[tuple[str, str, str, str]]:
    """Return first and last start, first and last end, of the rows of each partition."""
    length = {"year": 4, "month": 7}.get(partition_trunc or "", 0)
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.start[:length], []).append(row)
    return [
        (
            min(row.start for row in group),
            max(row.start for row in group),
            min(row.end for row in group),
            max(row.end for row in group),
        )
        for _, group in sorted(groups.items())
    ]
