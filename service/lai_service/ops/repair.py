"""After a crash: remove files that no item names, and name items whose files are gone."""

import shutil
from pathlib import Path
from typing import NamedTuple

from lai_service.catalogue.new_collection import remade
from lai_service.catalogue.port import Catalogue, Document, Search, all_items
from lai_service.errors import NotFoundError
from lai_service.files.hrefs import is_relative
from lai_service.files.storage import locked

__all__ = ["RepairReport", "repair_data"]


class RepairReport(NamedTuple):
    """What was found."""

    removed: tuple[Path, ...]
    """Folders that no item names (removed, unless it was a dry run)."""
    broken: tuple[str, ...]
    """`collection/item asset` whose file is missing."""


def repair_data(catalogue: Catalogue, data: Path, *, dry_run: bool = False) -> RepairReport:
    """Bring the data root in line with the catalogue; safe while the service runs.

    Args:
        catalogue: the truth.
        data: data root.
        dry_run: change nothing.
    """
    for collection in catalogue.collections() if not dry_run else []:
        _refresh(catalogue, collection)
    broken: list[str] = []
    for item in all_items(catalogue):
        if _missing(item, data):
            broken += _broken(catalogue, data, item["collection"], item["id"])
    removed: list[Path] = []
    for folder in sorted(data.glob("*/*/")):
        if folder.is_dir() and not folder.relative_to(data).parts[0].startswith("."):
            removed += _clear(catalogue, data, folder, dry_run)
    return RepairReport(tuple(removed), tuple(broken))


def _refresh(catalogue: Catalogue, collection: Document) -> None:
    """Make the summaries of a collection from its items, without those that went."""
    name = collection["id"]
    items = all_items(catalogue, Search(collections=(name,)))
    summaries = remade(collection, items).get("summaries")
    if summaries != collection.get("summaries"):
        catalogue.change_collection(name, lambda old: {**old, "summaries": summaries})


def _missing(item: Document, data: Path) -> list[str]:
    """Return the keys of the assets whose published files are not there."""
    assets = (item.get("assets") or {}).items()
    return [
        key
        for key, asset in assets
        if is_relative(asset["href"]) and not (data / asset["href"]).is_file()
    ]


def _broken(catalogue: Catalogue, data: Path, collection_id: str, item_id: str) -> list[str]:
    """Look again while nobody replaces or removes the item."""
    with locked(data, collection_id, item_id):
        try:
            item = catalogue.item(collection_id, item_id)
        except NotFoundError:
            return []
        return [f"{collection_id}/{item_id} {key}" for key in _missing(item, data)]


def _clear(catalogue: Catalogue, data: Path, folder: Path, dry_run: bool) -> list[Path]:
    """Remove the versions of one item that the catalogue does not name."""
    collection_id, item_id = folder.relative_to(data).parts
    with locked(data, collection_id, item_id):  # nobody publishes this item meanwhile
        if not folder.is_dir():  # its item was deleted before
            return []
        page = catalogue.search(Search(collections=(collection_id,), ids=(item_id,), limit=1))
        used = {(data / file).parent for item in page.items for file in _files(item)}
        orphans = [path for path in sorted(folder.iterdir()) if path not in used]
        if not dry_run:
            for path in orphans:
                shutil.rmtree(path, ignore_errors=True)
            if not any(folder.iterdir()):
                folder.rmdir()
    return orphans


def _files(item: Document) -> list[str]:
    """Return the published files that an item names."""
    found = [*(item.get("assets") or {}).values(), *(item.get("links") or [])]
    return [thing["href"] for thing in found if is_relative(thing["href"])]
