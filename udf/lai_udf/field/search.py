"""Scenes of a period: from files, a STAC API or a document, each described when its turn comes."""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lai_udf.errors import LaiUdfError, UnreadableProductError
from lai_udf.scenes.metadata import Declared
from lai_udf.scenes.source import SceneEntry, failing_entry
from lai_udf.scenes.stac import describe_item, read_document

COLLECTION = "sentinel-2-l2a"
"""Name of the L2A collection in Earth Search, Planetary Computer and CDSE."""

SIGNED_HOST = "planetarycomputer"
"""Catalogue whose assets want a signature: the package planetary-computer makes it."""


@dataclass(frozen=True)
class Period:
    """Days from `start` on, up to but without `end`."""

    start: dt.date
    end: dt.date

    def holds(self, datetime: str) -> bool:
        """Return whether an ISO 8601 time in UTC lies in it."""
        return self.start.isoformat() <= datetime[:10] < self.end.isoformat()

    @property
    def interval(self) -> str:
        """As STAC writes it."""
        last = self.end - dt.timedelta(days=1)
        return f"{self.start}T00:00:00Z/{last}T23:59:59Z"


def kind_of(source: str) -> str:
    """Return what a source is: `files`, `stac` (an API) or `openeo` (a back-end).

    Raises:
        UnreadableProductError: an address does not answer.
    """
    if urlsplit(source).scheme not in ("http", "https"):
        return "files"
    if Path(urlsplit(source).path).suffix:
        return "files"
    root = read_document(source, "a STAC API or an openEO back-end")
    if "api_version" in root:
        return "openeo"
    if any("item-search" in str(name) for name in root.get("conformsTo") or ()):
        return "stac"
    raise UnreadableProductError(
        f"{source} is neither a STAC API with item search nor an openEO back-end"
    )


def search_api(
    source: str, collection: str, area: dict[str, Any], period: Period, declared: Declared
) -> Iterator[SceneEntry]:
    """Yield the scenes that a STAC API finds; one that cannot be told apart from an error.

    Args:
        source: address of the API.
        collection: to search in.
        area: GeoJSON geometry, degrees.
        period: of the acquisitions.
        declared: goes before what Items state.
    """
    import pystac_client

    modifier = None
    if SIGNED_HOST in source:
        import planetary_computer

        modifier = planetary_computer.sign_inplace
    try:
        api = pystac_client.Client.open(source, modifier=modifier)
        found = api.search(
            collections=[collection], intersects=area, datetime=period.interval, limit=100
        )
        for item in found.items():
            yield SceneEntry(item.id, partial(describe_item, item, item.id, declared))
    except LaiUdfError:
        raise
    except Exception as error:  # the client raises its own, those of requests, pystac and JSON
        failed = UnreadableProductError(
            f"{source} failed in the middle of the search ({error}); run again for the rest"
        )
        yield failing_entry("search", failed)
