"""The whole catalogue as plain STAC files, for any web server or a folder on a disk.

    catalog.json
    <collection>/collection.json
    <collection>/<item>/<item>.json     beside its rasters

All links are relative, so the folder can be moved; STAC Browser opens `catalog.json`. The service
may run meanwhile: an item is written as it is when its turn comes, with the files of that version.
"""

import json
import os
import posixpath
import shutil
import uuid
from pathlib import Path

from lai_service.catalogue.items import Document
from lai_service.catalogue.port import Catalogue, Search, all_items
from lai_service.errors import BrokenFileError, ConflictError
from lai_service.files.hrefs import is_relative, item_named
from lai_service.files.storage import locked
from lai_service.settings import Settings


def export_catalogue(
    catalogue: Catalogue, settings: Settings, target: Path, *, files: bool = True
) -> int:
    """Write a static catalogue; it appears complete or not at all.

    Args:
        catalogue: what to export.
        settings: data root, id, title and description.
        target: new folder.
        files: copy the rasters beside the items; otherwise hrefs point into the data root.

    Returns:
        Number of items.

    Raises:
        ConflictError: the target exists.
        BrokenFileError: a raster that an item names is gone.
    """
    if target.exists():
        raise ConflictError(f"{target} exists; give a new folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = target.with_name(f".{target.name}-{uuid.uuid4().hex}")
    try:
        staging.mkdir()
        count = _write_all(catalogue, settings, staging, files)
        os.replace(staging, target)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return count


def _write_all(catalogue: Catalogue, settings: Settings, folder: Path, files: bool) -> int:
    count = 0
    children = []
    for collection in catalogue.collections():
        name = collection["id"]
        links = []
        for item in all_items(catalogue, Search(collections=(name,))):
            if _write_latest(catalogue, item, settings.data, folder / name, files):
                href = f"./{item['id']}/{item['id']}.json"
                links.append(_link("item", href, "application/geo+json"))
        own = [_link("root", "../catalog.json"), _link("parent", "../catalog.json")]
        kept = collection.get("links") or []
        _write(folder / name / "collection.json", {**collection, "links": own + kept + links})
        children.append(_link("child", f"./{name}/collection.json"))
        count += len(links)
    root = {
        "type": "Catalog",
        "stac_version": "1.1.0",
        "id": settings.landing_id,
        "title": settings.title,
        "description": settings.description,
        "links": [_link("root", "./catalog.json"), *children],
    }
    _write(folder / "catalog.json", root)
    return count


def _write_latest(
    catalogue: Catalogue, found: Document, data: Path, folder: Path, files: bool
) -> bool:
    """Write an item under its lock; return whether it is still there."""
    with locked(data, found["collection"], found["id"]):
        item = catalogue.find_item(found["collection"], found["id"])
        if item is None:
            return False
        try:
            _write_item(item, data, folder / item["id"], files)
        except FileNotFoundError as error:
            raise BrokenFileError(
                f"a raster of item {item['id']} is gone; run lai-service repair"
            ) from error
    return True


def _write_item(item: Document, data: Path, folder: Path, files: bool) -> None:
    folder.mkdir(parents=True)

    def moved(thing: Document) -> Document:
        href = thing["href"]
        if named := item_named(href):
            collection, item_id = named
            return {**thing, "href": f"../../{collection}/{item_id}/{item_id}.json"}
        if not is_relative(href):
            return thing
        if not files:
            return {**thing, "href": (data / href).resolve().as_uri()}
        name = posixpath.basename(href)
        shutil.copyfile(data / href, folder / name)
        return {**thing, "href": f"./{name}"}

    own = [
        _link("root", "../../catalog.json"),
        _link("parent", "../collection.json"),
        _link("collection", "../collection.json"),
    ]
    assets = {key: moved(asset) for key, asset in (item.get("assets") or {}).items()}
    links = [moved(link) for link in item.get("links") or []]
    _write(folder / f"{item['id']}.json", {**item, "assets": assets, "links": own + links})


def _link(rel: str, href: str, media: str = "application/json") -> Document:
    return {"rel": rel, "href": href, "type": media}


def _write(path: Path, document: Document) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
