"""After a crash: remove files that no item names, and name items whose files are gone."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from lai_service.catalogue import Catalogue, Search
from lai_service.hrefs import is_relative
from lai_service.storage import locked
from lai_service.walk import all_items

__all__ = ["RepairReport", "repair_data"]


@dataclass(frozen=True)
class RepairReport:
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
    broken = []
    for item in all_items(catalogue):
        for key, asset in (item.get("assets") or {}).items():
            if is_relative(asset["href"]) and not (data / asset["href"]).is_file():
                broken.append(f"{item['collection']}/{item['id']} {key}")
    removed: list[Path] = []
    for folder in sorted(data.glob("*/*/")):
        if folder.is_dir() and not folder.relative_to(data).parts[0].startswith("."):
            removed += _clear(catalogue, data, folder, dry_run)
    return RepairReport(tuple(removed), tuple(broken))


def _clear(catalogue: Catalogue, data: Path, folder: Path, dry_run: bool) -> list[Path]:
    """Remove the versions of one item that the catalogue does not name."""
    collection_id, item_id = folder.relative_to(data).parts
    with locked(data, collection_id, item_id):  # nobody publishes this item meanwhile
        used = _versions(catalogue, data, collection_id, item_id)
        orphans = [path for path in sorted(folder.iterdir()) if path not in used]
        if not dry_run:
            for path in orphans:
                shutil.rmtree(path, ignore_errors=True)
            if not any(folder.iterdir()):
                folder.rmdir()
    return orphans


def _versions(catalogue: Catalogue, data: Path, collection_id: str, item_id: str) -> set[Path]:
    page = catalogue.search(Search(collections=(collection_id,), ids=(item_id,), limit=1))
    things = [thing for item in page.items for thing in _things(item)]
    return {(data / thing).parent for thing in things}


def _things(item: dict[str, object]) -> list[str]:
    assets = item.get("assets")
    links = item.get("links")
    found = list(assets.values()) if isinstance(assets, dict) else []
    found += links if isinstance(links, list) else []
    return [thing["href"] for thing in found if is_relative(thing["href"])]
