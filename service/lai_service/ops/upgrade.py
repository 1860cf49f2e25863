"""Bring a catalogue of the first release up to date: items get the ids and fields of today.

Each item is described anew from its own files, published under its new id and, only then, removed
under its old one. An interruption leaves an item twice, never none; the same command goes on.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

from lai_service.catalogue.new_collection import collection_name
from lai_service.catalogue.port import Catalogue, Document, all_items
from lai_service.errors import LaiServiceError
from lai_service.files.hrefs import is_relative
from lai_service.files.publishing import Publisher, PublishRequest
from lai_service.files.storage import locked, remove_item_files
from lai_service.ops.repair import repair_data
from lai_stac.errors import LaiStacError
from lai_stac.item import write_item
from lai_stac.upgrade import copy_files, is_current, is_ours, upgrade_item

__all__ = ["upgrade_catalogue"]


def upgrade_catalogue(
    catalogue: Catalogue, data: Path, done: Callable[[str, str], object] = lambda old, new: None
) -> list[tuple[str, str]]:
    """Describe every item of an earlier release anew; safe while the service runs.

    Args:
        catalogue: with the items; those of others are left alone.
        data: data root.
        done: told the old and the new name, `collection/item`, of each item.

    Returns:
        Name of each item that stays as it was, and why.
    """
    upgraded = False
    failed: list[tuple[str, str]] = []
    old = [item for item in all_items(catalogue) if is_ours(item) and not is_current(item)]
    for item in old:
        name = f"{item['collection']}/{item['id']}"
        try:
            done(name, _upgrade(catalogue, data, item))
            upgraded = True
        except (LaiServiceError, LaiStacError, OSError) as error:
            failed.append((name, str(error)))
    if upgraded:
        repair_data(catalogue, data)  # summaries no longer count what went
    return failed


def _upgrade(catalogue: Catalogue, data: Path, item: Document) -> str:
    """Publish an item under its new id, then remove the old one; return the new name."""
    href = str(item["assets"]["lai"]["href"])
    if not is_relative(href):
        raise LaiStacError("its rasters lie elsewhere")
    collection_id, item_id = item["collection"], item["id"]
    with tempfile.TemporaryDirectory(prefix=".upgrade-", dir=data) as work:
        folder = Path(work) / "item"
        copy_files((data / href).parent, folder)
        described = upgrade_item(_with_local_links(item), folder)
        write_item(described, folder)
        (folder / f"{described.id}.json").rename(folder / "item.json")
        collection = collection_name(collection_id, described.to_dict())
        published = Publisher(catalogue, data, (Path(work),), collection).publish(
            PublishRequest(directory=folder, collection=collection)
        )
    if (published.item["collection"], published.item["id"]) != (collection_id, item_id):
        with locked(data, collection_id, item_id):
            catalogue.remove_item(collection_id, item_id)
            remove_item_files(data, collection_id, item_id)
    return f"{published.item['collection']}/{published.item['id']}"


def _with_local_links(item: Document) -> Document:
    """Return an item whose links to published files name them as they lie beside the rasters."""
    links = [
        {**link, "href": f"./{Path(str(link['href'])).name}"}
        if is_relative(str(link.get("href"))) and link.get("rel") == "derived_from"
        else link
        for link in item.get("links") or []
    ]
    return {**item, "links": links}
