"""Publishing: an item and its rasters become public together, or not at all.

    plan      find every file below an allowed root, check that it is as the item states
    stage     copy the files, flush them, rename their folder into place
    record    store the item that points to them

The order makes a crash harmless: an item is only ever stored after its files are in place. The
folder is named after the bytes of its files, so publishing the same result again changes nothing.
"""

import hashlib
import json
import logging
import posixpath
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from lai_service.catalogue.items import Document, checked_id, validate_document
from lai_service.catalogue.new_collection import collection_for, collection_name, widened
from lai_service.catalogue.port import Catalogue, Search, Written, all_items
from lai_service.errors import ConflictError, ForbiddenPathError, InvalidItemError, NotFoundError
from lai_service.files.hrefs import MADE_LINKS, is_relative, is_safe_path, item_href, stored_links
from lai_service.files.observations import LAYERS
from lai_service.files.storage import (
    check_cog,
    file_digest,
    locked,
    resolve_below,
    source_folder,
    stage,
)
from lai_stac.fields import is_model, migrated
from lai_stac.upgrade import is_other_result

_log = logging.getLogger("lai_service")
_ITEM_BESIDE = re.compile(r"\.\./([^/]+)/\1\.json")


@dataclass(frozen=True)
class Published:
    """An item that is public now."""

    item: Document  # the item as stored, hrefs relative to the data root
    outcome: Written  # whether it is new, changed, or was there already


@dataclass(frozen=True)
class _Plan:
    item: Document
    collection: str
    files: dict[str, Path]
    digest: str


@dataclass(frozen=True)
class Publisher:
    """Publishes into one data root and one catalogue."""

    catalogue: Catalogue  # where items are stored
    data: Path  # data root
    allowed_roots: tuple[Path, ...]  # folders from which files may be taken
    default_collection: str = "lai"  # collection of items that name none

    def publish(
        self, folder: Path, item: Document | None = None, collection: str | None = None
    ) -> Published:
        """Publish one item with its files.

        Args:
            folder: of its files, below an allowed root.
            item: hrefs of its assets are relative to the folder; else it is the one in there.
            collection: to publish into; else the item's own, else the default one.

        Raises:
            ForbiddenPathError: a path or href leaves the allowed roots.
            NotFoundError: a file or folder is missing.
            InvalidItemError: the item or one of its rasters breaks its contract.
            ConflictError: another result has the same id.
            CatalogueBusyError: the catalogue stayed locked.
        """
        folder = source_folder(folder, self.allowed_roots)
        plan = self._plan(item or _read_item(folder), folder, collection)
        item_id = plan.item["id"]
        target = self.data / plan.collection / item_id / plan.digest
        with locked(self.data, plan.collection, item_id):
            self._refuse_another(plan)
            made = stage(target, plan.files)
            try:
                self._ensure_collection(plan)
                (outcome,) = self.catalogue.put_items(plan.collection, [plan.item], "upsert")
            except BaseException:
                if made:
                    self._withdraw(plan, target)
                raise
            if outcome == "updated":
                for folder in target.parent.iterdir():
                    if folder != target:  # the version that the item named before
                        shutil.rmtree(folder, ignore_errors=True)
        _log.info("published %s/%s: %s", plan.collection, item_id, outcome)
        return Published(plan.item, outcome)

    def _refuse_another(self, plan: _Plan) -> None:
        """Keep an item that is no earlier version of the new one, with its files."""
        known = self.catalogue.find_item(plan.collection, plan.item["id"])
        if known is not None and is_other_result(known, plan.item):
            raise ConflictError(
                f"{plan.collection}/{plan.item['id']} is another result (of another scene, time, "
                "grid or setting), which is not replaced: give the new one an id of its own"
            )

    def _withdraw(self, plan: _Plan, target: Path) -> None:
        """Remove files that were staged for an item that was not stored.

        A database may fail to answer after it has stored the item. The files go only where the
        catalogue answers without an item that names them; `repair` removes what is left otherwise.
        """
        try:
            item = self.catalogue.find_item(plan.collection, plan.item["id"])
        except Exception:
            _log.warning("the catalogue does not answer; %s is left for repair", target)
            return
        prefix = f"{target.relative_to(self.data).as_posix()}/"
        if item is None or not any(a["href"].startswith(prefix) for a in item["assets"].values()):
            shutil.rmtree(target, ignore_errors=True)

    def _plan(self, item: Document, folder: Path, collection: str | None) -> _Plan:
        item = migrated(item)
        checked_id(item.get("id"), "an item")
        named = collection or item.get("collection")
        if named is None and is_model(item):
            raise InvalidItemError(
                f"{item['id']} describes a model (mlm:name), not LAI: name a collection for it"
            )
        collection = checked_id(
            named or collection_name(self.default_collection, item), "a collection"
        )
        item = _with_collection(self._with_known_items(item), collection)
        validate_document(item, "item", unknown="refuse")
        files = self._asset_files(item, folder)
        for name, path in self._linked_files(item, folder).items():
            if files.setdefault(name, path) != path:
                raise InvalidItemError(f"an asset and a link of {item['id']} both name {name}")
        digests = {name: file_digest(path) for name, path in sorted(files.items())}
        for key, asset in item["assets"].items():
            name = _name_of(asset["href"])
            _check_file_fields(files[name], digests[name], asset, f"asset {key} of {item['id']}")
        lines = [f"{name} {digest}\n" for name, digest in digests.items()]
        digest = hashlib.sha256("".join(lines).encode()).hexdigest()[:16]
        return _Plan(_stored(item, collection, digest), collection, files, digest)

    def _with_known_items(self, item: Document) -> Document:
        """Turn links to items beside this one, `../<id>/<id>.json`, to those of the catalogue."""
        links = item.get("links", [])
        beside = {
            number: found[1]
            for number, link in enumerate(links if isinstance(links, list) else [])
            if isinstance(link, dict) and (found := _ITEM_BESIDE.fullmatch(str(link.get("href"))))
        }
        if not beside:
            return item
        ids = tuple(sorted(set(beside.values())))
        known = {one["id"]: one for one in all_items(self.catalogue, Search(ids=ids))}
        named = [
            {**link, "href": item_href(known[beside[number]]["collection"], beside[number])}
            if beside.get(number) in known
            else link
            for number, link in enumerate(links)
        ]
        return {**item, "links": named}

    def _asset_files(self, item: Document, folder: Path) -> dict[str, Path]:
        if not item.get("assets"):
            raise InvalidItemError(f"item {item['id']} has no assets; there is nothing to publish")
        files: dict[str, Path] = {}
        grids: dict[str, object] = {}
        for key, asset in item["assets"].items():
            what = f"asset {key} of {item['id']}"
            path = self._local_file(asset["href"], folder, what)
            name = _name_of(asset["href"])
            if files.setdefault(name, path) != path:
                raise InvalidItemError(f"two assets of {item['id']} have the file name {name}")
            if _is_raster(asset, path):
                grids[key] = check_cog(path, item, what)
        _check_one_grid(item, grids)
        return files

    def _linked_files(self, item: Document, folder: Path) -> dict[str, Path]:
        """Find the files beside the item that links name, such as the item of the model."""
        files = {}
        for link in item["links"]:
            if link.get("rel") not in MADE_LINKS and is_relative(str(link.get("href"))):
                path = self._local_file(link["href"], folder, f"link {link['rel']!r}")
                files[_name_of(link["href"])] = path
        return files

    def _local_file(self, href: str, folder: Path, what: str) -> Path:
        if not is_safe_path(href):
            raise ForbiddenPathError(
                f"{what} has the href {href!r}; publishing takes relative paths below the item's "
                "folder and fetches nothing"
            )
        path = resolve_below(folder / unquote(href), [folder])
        if not path.is_file():
            raise InvalidItemError(f"{what} names {href!r}, which is not a file")
        return path

    def _ensure_collection(self, plan: _Plan) -> None:
        try:
            known = self.catalogue.collection(plan.collection)
        except NotFoundError:
            made = collection_for(plan.collection, [plan.item])
            if made["title"] in [one.get("title") for one in self.catalogue.collections()]:
                made["title"] += f" ({plan.collection})"
            self.catalogue.put_collection(made, "upsert")
            return
        if widened(known, [plan.item]) != known:
            self.catalogue.change_collection(
                plan.collection, lambda collection: widened(collection, [plan.item])
            )


def _read_item(folder: Path) -> Document:
    path = folder / f"{folder.name}.json"
    if not path.is_file():
        candidates = [p for p in sorted(folder.glob("*.json")) if _is_item(p)]
        if len(candidates) != 1:
            raise NotFoundError(_not_one_item(folder, candidates))
        path = candidates[0]
    return load_json(path)


def _not_one_item(folder: Path, found: list[Path]) -> str:
    """Report what a folder holds in place of one item, and what to give."""
    if found:
        names = ", ".join(path.name for path in found)
        return f"{folder} holds several STAC items ({names}); give each a folder with its files"
    below = next((path for path in sorted(folder.glob("*/*.json")) if _is_item(path)), None)
    if below is not None:
        return f"{folder} holds no STAC item, but {below.parent} does; give that"
    return (
        f"{folder} holds no STAC item, no lai.tif of lai-udf run and no job-results.json; "
        "give a folder with one of them"
    )


def load_json(path: Path) -> Document:
    """Read a JSON object.

    Raises:
        InvalidItemError: it is none, or not in UTF-8.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidItemError(f"{path.name} is not readable JSON in UTF-8: {error}") from error
    if not isinstance(document, dict):
        raise InvalidItemError(f"{path.name} is no JSON object")
    return document


def _is_item(path: Path) -> bool:
    try:
        document = load_json(path)
    except InvalidItemError:
        return False
    return document.get("type") == "Feature" and "stac_version" in document


def _with_collection(item: Document, collection: str) -> Document:
    """Return the item as a member of a collection, with the link that the schema demands."""
    links = item.get("links", [])
    if not isinstance(links, list) or not all(isinstance(link, dict) for link in links):
        raise InvalidItemError(f"item {item['id']} has links that are no list of objects")
    others = [link for link in links if link.get("rel") not in MADE_LINKS]
    for link in [link for link in others if _is_private(link)]:
        _log.warning("%s: link to the local file %s is left out", item["id"], link["href"])
        others.remove(link)
    own = {"rel": "collection", "href": f"../{collection}.json", "type": "application/json"}
    return {**item, "collection": collection, "links": [*others, own]}


def _is_private(link: Document) -> bool:
    """Return whether a link names a file of this machine outside the item's folder.

    An item made from a local scene links to it; readers elsewhere could not follow that.
    """
    href = str(link.get("href"))
    if href.startswith(("/", "file:")):
        return True
    return is_relative(href) and not is_safe_path(href)


def _is_raster(asset: Document, path: Path) -> bool:
    is_data = "data" in (asset.get("roles") or ()) or "tiff" in str(asset.get("type", ""))
    return is_data or path.suffix.lower() in (".tif", ".tiff")


def _check_one_grid(item: Document, grids: dict[str, object]) -> None:
    """Check that what a time series reads together covers the same pixels."""
    for key in LAYERS:
        if key in grids and grids[key] != grids.get("lai", grids[key]):
            raise InvalidItemError(
                f"asset {key} of {item['id']} has another grid than asset lai; "
                "both need the same CRS, size and place"
            )


def _check_file_fields(path: Path, digest: str, asset: Document, what: str) -> None:
    """Compare size and checksum (file extension, multihash sha2-256) with the file."""
    size = path.stat().st_size
    if asset.get("file:size", size) != size:
        raise InvalidItemError(f"{what} has {size} bytes, the item states {asset['file:size']}")
    checksum = str(asset.get("file:checksum", ""))
    if checksum.startswith("1220") and checksum[4:] != digest:
        raise InvalidItemError(f"{what} does not have the checksum that the item states")


def _name_of(href: str) -> str:
    """Return the name under which the file of an href is published."""
    return posixpath.basename(unquote(href))


def _stored(item: Document, collection: str, digest: str) -> Document:
    """Return the item with hrefs relative to the data root."""
    base = posixpath.join(collection, item["id"], digest)

    def moved(thing: Document) -> Document:
        href = str(thing.get("href"))
        if not is_relative(href):
            return thing
        return {**thing, "href": posixpath.join(base, _name_of(href))}

    assets = {key: moved(asset) for key, asset in item["assets"].items()}
    stored = {**item, "assets": assets, "links": [moved(link) for link in item["links"]]}
    return {**stored, "links": stored_links(stored, "")}
