"""All items of a catalogue, page by page."""

from collections.abc import Iterator
from dataclasses import replace

from lai_service.catalogue.port import Catalogue, Document, Search

__all__ = ["all_items"]


def all_items(catalogue: Catalogue, search: Search | None = None) -> Iterator[Document]:
    """Yield every item that matches, in the order of the search.

    Args:
        catalogue: where to look.
        search: what to look for; everything where not given. Its token is where to start.
    """
    search = replace(search or Search(), limit=1000)
    while True:
        page = catalogue.search(search)
        yield from page.items
        if page.next_token is None:
            return
        search = replace(search, token=page.next_token)
