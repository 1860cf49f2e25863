"""Collection search: `GET /collections` by place, time and words, page by page.

Collections are few, one for each target and resolution, so all of them are looked through.
"""

from typing import Annotated

import attr
from fastapi import Query
from stac_fastapi.extensions.collection_search import CollectionSearchExtension
from stac_fastapi.extensions.collection_search.request import BaseCollectionSearchGetRequest
from stac_fastapi.extensions.free_text import FreeTextConformanceClasses
from stac_fastapi.extensions.free_text.request import FreeTextExtensionGetRequest

from lai_service.catalogue.cql2 import EVER_US, geometry_of
from lai_service.catalogue.items import Document, to_microseconds
from lai_service.catalogue.port import Search


@attr.s
class _Get(BaseCollectionSearchGetRequest, FreeTextExtensionGetRequest):
    """Parameters of `GET /collections`; without a limit, all are on one page."""

    limit: Annotated[int | None, Query(ge=1, description="Most on a page")] = attr.ib(default=None)
    offset: Annotated[int, Query(ge=0, description="First of the page")] = attr.ib(default=0)


def collection_search_extension() -> CollectionSearchExtension:
    """Return the extension."""
    extension = CollectionSearchExtension(GET=_Get)
    words = FreeTextConformanceClasses.COLLECTIONS.value
    extension.conformance_classes = [*extension.conformance_classes, words]
    return extension


def is_found(collection: Document, search: Search, words: list[str] | None) -> bool:
    """Return whether a collection meets the box and the time of a search, and has a word.

    Args:
        collection: as served.
        search: its `bbox`, `start_us` and `end_us` count.
        words: one of them stands in title, description or keywords; None is any.
    """
    extent = collection["extent"]
    text = " ".join(
        [str(collection.get("title")), collection["description"], *collection.get("keywords", ())]
    ).casefold()
    return (
        (not words or any(word.strip().casefold() in text for word in words))
        and any(_overlap(ends, search) for ends in extent["temporal"]["interval"])
        and any(_meet(box, search) for box in extent["spatial"]["bbox"])
    )


def _overlap(ends: list[str | None], search: Search) -> bool:
    start = -EVER_US if ends[0] is None else to_microseconds(ends[0])
    end = EVER_US if ends[1] is None else to_microseconds(ends[1])
    return (search.end_us is None or start <= search.end_us) and (
        search.start_us is None or end >= search.start_us
    )


def _meet(box: list[float], search: Search) -> bool:
    if search.bbox is None:
        return True
    return geometry_of({"bbox": search.bbox}).intersects(geometry_of({"bbox": box}))
