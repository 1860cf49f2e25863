"""The writing half of the STAC API: transactions, patches and bulk loads of metadata.

Documents are validated before they are stored, their hrefs are checked and never opened. Files
come in through `publishing`, not here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attr
from stac_fastapi.extensions.bulk_transactions import BulkTransactionMethod, Items

from lai_service.api.documents import served_collection, served_item
from lai_service.api.map_links import without_map_link
from lai_service.api.patches import change_of
from lai_service.catalogue.port import Catalogue, Document, WriteMode, Written
from lai_service.errors import BadRequestError, InvalidItemError, PatchError
from lai_service.files.hrefs import check_files, has_files, read_stored_hrefs
from lai_service.files.storage import locked, locked_collection, remove_item_files
from lai_service.files.validation import validate_collection, validate_item

__all__ = ["BulkClient", "TransactionsClient", "checked_id"]

Patch = dict[str, Any] | list[Any]
_FORBIDDEN = frozenset("/\\:?#[]@!$&'\"()*+,;=%<>{}|^`\x00\n\r\t ")


def checked_id(value: object, what: str) -> str:
    """Return an id that can stand in an address and in a folder name.

    Raises:
        InvalidItemError: empty, longer than 200 characters, `.`-led, or with a reserved character.
    """
    if not isinstance(value, str) or value.startswith("."):
        raise InvalidItemError(f"{what} needs an id: a text that does not start with a dot")
    if not 0 < len(value.encode("utf-8", "surrogatepass")) <= 200:  # a file name has 255 at most
        raise InvalidItemError(f"{what} needs an id of 1 to 200 bytes")
    bad = sorted(letter for letter in set(value) if letter in _FORBIDDEN or not _is_plain(letter))
    if bad:
        raise InvalidItemError(f"{what} id {value!r} holds {bad[0]!r}; use letters, digits, _ - .")
    return value


def _is_plain(letter: str) -> bool:
    """Return whether a letter is neither a control character nor half a surrogate pair."""
    return letter.isprintable()


_MANY_LOCKS = 100


@attr.s(auto_attribs=True)
class _Writer:
    """What both writing clients share."""

    catalogue: Catalogue = attr.ib(kw_only=True)
    data: Path = attr.ib(kw_only=True)

    def _item(self, document: Document, collection_id: str, base_url: str) -> Document:
        """Check an item and return it as it is stored."""
        checked_id(document.get("id"), "an item")
        if document.get("collection", collection_id) != collection_id:
            raise BadRequestError(
                f"item {document['id']} names collection {document['collection']!r}, "
                f"but was sent to {collection_id!r}"
            )
        links = document.get("links") or []
        if not isinstance(links, list) or not all(isinstance(link, dict) for link in links):
            raise InvalidItemError(f"item {document['id']} has links that are no list of objects")
        document = {**document, "collection": collection_id, "links": links}
        document = without_map_link(document, base_url)
        if not any(link.get("rel") == "collection" for link in document["links"]):
            link = {"rel": "collection", "href": f"{base_url}collections/{collection_id}"}
            document["links"] = [*document["links"], link]  # the schema demands it
        validate_item(document)
        return read_stored_hrefs(document, base_url)

    def _store(self, collection_id: str, items: list[Document], mode: WriteMode) -> list[Written]:
        """Store items; while their files are looked for, nobody removes them."""
        with self._keeping(collection_id, items):
            for item in items:
                check_files(item, self.data)
            return self.catalogue.put_items(collection_id, items, mode)

    @contextmanager
    def _keeping(self, collection_id: str, items: list[Document]) -> Iterator[None]:
        ids = [str(item["id"]) for item in items if has_files(item)]
        if len(ids) > _MANY_LOCKS:
            with locked_collection(self.data, collection_id):
                yield
        elif ids:
            with locked(self.data, collection_id, *ids):
                yield
        else:
            yield


@attr.s(auto_attribs=True)
class TransactionsClient(_Writer):
    """Create, replace, patch and delete items and collections."""

    def create_items(
        self, collection_id: str, document: Document, base_url: str
    ) -> Document | None:
        """Store a new item, or the items of a FeatureCollection: all or none.

        Returns:
            The item as served; None for a FeatureCollection.
        """
        self.catalogue.collection(collection_id)
        if document.get("type") == "FeatureCollection":
            features = document.get("features")
            if not isinstance(features, list) or not all(isinstance(f, dict) for f in features):
                raise BadRequestError("a FeatureCollection needs a list of features")
            stored = [self._item(each, collection_id, base_url) for each in features]
            self._store(collection_id, stored, "insert")
            return None
        item = self._item(document, collection_id, base_url)
        self._store(collection_id, [item], "insert")
        return served_item(item, base_url)

    def replace_item(
        self, collection_id: str, item_id: str, document: Document, base_url: str
    ) -> None:
        """Replace an item that exists."""
        if document.get("id") != item_id:
            raise BadRequestError(f"the body has id {document.get('id')!r}, not {item_id!r}")
        self.catalogue.item(collection_id, item_id)
        self._store(collection_id, [self._item(document, collection_id, base_url)], "replace")

    def patch_item(self, collection_id: str, item_id: str, patch: Patch, base_url: str) -> None:
        """Change an item by a merge patch or a JSON patch."""
        change = change_of(patch)

        def changed(old: Document) -> Document:
            item = self._item(change(old), collection_id, base_url)
            check_files(item, self.data)
            return item

        self.catalogue.item(collection_id, item_id)
        with locked(self.data, collection_id, item_id):
            self.catalogue.change_item(collection_id, item_id, changed)

    def delete_item(self, collection_id: str, item_id: str) -> None:
        """Remove an item, then its files."""
        self.catalogue.item(collection_id, item_id)
        with locked(self.data, collection_id, item_id):
            self.catalogue.remove_item(collection_id, item_id)
            remove_item_files(self.data, collection_id, item_id)

    def create_collection(self, document: Document, base_url: str) -> Document:
        """Store a new collection; return it as served."""
        collection = self._collection(document, base_url)
        self.catalogue.put_collection(collection, "insert")
        return served_collection(collection, base_url)

    def replace_collection(self, collection_id: str, document: Document, base_url: str) -> None:
        """Replace a collection that exists."""
        if document.get("id") != collection_id:
            raise BadRequestError(f"the body has id {document.get('id')!r}, not {collection_id!r}")
        self.catalogue.put_collection(self._collection(document, base_url), "replace")

    def patch_collection(self, collection_id: str, patch: Patch, base_url: str) -> None:
        """Change a collection by a merge patch or a JSON patch."""
        change = change_of(patch)

        def changed(old: Document) -> Document:
            document = self._collection(change(old), base_url)
            if document["id"] != collection_id:
                raise PatchError("a patch cannot change the id of a collection")
            return document

        self.catalogue.change_collection(collection_id, changed)

    def delete_collection(self, collection_id: str) -> None:
        """Remove a collection with its items and their files."""
        self.catalogue.collection(collection_id)
        with locked_collection(self.data, collection_id):
            self.catalogue.remove_collection(collection_id)
            remove_item_files(self.data, collection_id, None)

    def _collection(self, document: Document, base_url: str) -> Document:
        checked_id(document.get("id"), "a collection")
        document = {**document, "links": document.get("links") or []}
        validate_collection(document)
        stored = read_stored_hrefs(document, base_url)
        check_files(stored, self.data)
        return stored


@attr.s(auto_attribs=True)
class BulkClient(_Writer):
    """Store many items in one transaction."""

    def store(self, collection_id: str, items: Items, base_url: str) -> Document:
        """Answer `POST /collections/{collection_id}/bulk_items`; all items are stored or none."""
        self.catalogue.collection(collection_id)
        stored = []
        for item_id, document in items.items.items():
            if not isinstance(document, dict) or document.get("id") != item_id:
                raise InvalidItemError(f"bulk entry {item_id!r} holds no item of that id")
            stored.append(self._item(document, collection_id, base_url))
        mode: WriteMode = "upsert" if items.method == BulkTransactionMethod.UPSERT else "insert"
        written = self._store(collection_id, stored, mode)
        return {
            "received": len(stored),
            "success": len(stored),
            "skipped": written.count("unchanged"),
            "errors": [],
        }
