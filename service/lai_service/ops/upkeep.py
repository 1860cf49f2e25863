"""Upkeep of a catalogue: `repair` after a crash, `upgrade` from earlier releases.

`repair` removes files that no item names, and names items whose files are gone. `upgrade` describes
each item anew from its own files, publishes it under its new id and, only then, removes it under
an old one. An interruption leaves an item twice, never none; the same command resumes.
"""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from lai_service.catalogue.items import Document
from lai_service.catalogue.new_collection import collection_name, remade
from lai_service.catalogue.port import Catalogue, Search, all_items
from lai_service.errors import LaiServiceError
from lai_service.files.hrefs import is_relative
from lai_service.files.publishing import Publisher
from lai_service.files.storage import locked, remove_item_files
from lai_stac.errors import LaiStacError
from lai_stac.item import write_item
from lai_stac.upgrade import copy_files, is_current, is_ours, upgrade_item


class RepairReport(NamedTuple):
    """What was found."""

    removed: tuple[Path, ...]  # folders that no item names (removed, unless it was a dry run)
    broken: tuple[str, ...]  # `collection/item: asset, asset` whose files are missing


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
    new = remade(collection, all_items(catalogue, Search(collections=(name,))))
    changed: Document = {key: new[key] for key in ("summaries", "item_assets") if key in new}
    if new != collection:
        catalogue.change_collection(name, lambda old: {**old, **changed})


def _missing(item: Document, data: Path) -> list[str]:
    """Return the keys of the assets whose published files are not there."""
    assets = (item.get("assets") or {}).items()
    return [
        key
        for key, asset in assets
        if is_relative(asset["href"]) and not (data / asset["href"]).is_file()
    ]


def _broken(catalogue: Catalogue, data: Path, collection_id: str, item_id: str) -> list[str]:
    """Look again under the lock of the item."""
    with locked(data, collection_id, item_id):
        item = catalogue.find_item(collection_id, item_id)
        missing = [] if item is None else _missing(item, data)
        return [f"{collection_id}/{item_id}: {', '.join(missing)}"] if missing else []


def _clear(catalogue: Catalogue, data: Path, folder: Path, dry_run: bool) -> list[Path]:
    """Remove the versions of one item that the catalogue does not name."""
    collection_id, item_id = folder.relative_to(data).parts
    with locked(data, collection_id, item_id):  # this item is not published meanwhile
        if not folder.is_dir():  # its item was deleted before
            return []
        item = catalogue.find_item(collection_id, item_id)
        used = {(data / file).parent for file in (_files(item) if item else ())}
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


def upgrade_catalogue(
    catalogue: Catalogue, data: Path, done: Callable[[str, str], object] = lambda old, new: None
) -> tuple[int, list[tuple[str, str]]]:
    """Describe every item of an earlier release anew; safe while the service runs.

    Args:
        catalogue: with the items; those of others are left alone.
        data: data root.
        done: called with the old and the new name, `collection/item`, of each item.

    Returns:
        How many items were upgraded; name of each that stays as it was, and why.
    """
    upgraded = 0
    failed: list[tuple[str, str]] = []
    old = [item for item in all_items(catalogue) if is_ours(item) and not is_current(item)]
    for item in old:
        name = f"{item['collection']}/{item['id']}"
        try:
            done(name, _upgrade(catalogue, data, item))
            upgraded += 1
        except (LaiServiceError, LaiStacError, OSError) as error:
            failed.append((name, str(error)))
    if upgraded:
        repair_data(catalogue, data)  # summaries no longer count what went
    return upgraded, failed


def _upgrade(catalogue: Catalogue, data: Path, item: Document) -> str:
    """Publish an item under its new id, then remove the old one; return the new name."""
    href = str(item["assets"]["lai"]["href"])
    if not is_relative(href):
        raise LaiStacError("its rasters lie elsewhere")
    collection_id, item_id = item["collection"], item["id"]
    with tempfile.TemporaryDirectory(prefix=".upgrade-", dir=data) as work:
        folder = Path(work) / "item"
        copy_files((data / href).parent, folder)
        described = upgrade_item(_with_local_hrefs(item), folder)
        write_item(described, folder)
        (folder / f"{described.id}.json").rename(folder / "item.json")
        is_same = described.id == item_id
        collection = (
            collection_id if is_same else collection_name(collection_id, described.to_dict())
        )
        published = Publisher(catalogue, data, (Path(work),), collection).publish(
            folder, collection=collection
        )
    if (published.item["collection"], published.item["id"]) != (collection_id, item_id):
        with locked(data, collection_id, item_id):
            catalogue.remove_item(collection_id, item_id)
            remove_item_files(data, collection_id, item_id)
    return f"{published.item['collection']}/{published.item['id']}"


def _with_local_hrefs(item: Document) -> Document:
    """Return an item whose assets and links name published files as lying beside it."""

    def local(thing: Document) -> Document:
        href = str(thing.get("href"))
        return {**thing, "href": f"./{Path(href).name}"} if is_relative(href) else thing

    assets = {key: local(asset) for key, asset in item["assets"].items()}
    return {**item, "assets": assets, "links": [local(link) for link in item.get("links") or []]}
