"""The writing half of the STAC API: transactions, patches and bulk loads of metadata.

Documents are validated before they are stored, their hrefs are checked and never opened. Files
come in through `publishing`, not here. stac-fastapi's own routes read items into pydantic models,
which rewrite times and demand members that the schemas do not; here a document is stored as it was
sent. Replacing, patching and deleting are answered 204, creating 201 with the address.
"""

from pathlib import Path
from typing import Annotated, Any

import attr
import jsonpatch
from fastapi import Body, FastAPI
from stac_fastapi.extensions.bulk_transactions import BulkTransactionMethod, Items
from stac_fastapi.extensions.transaction.transaction import TransactionConformanceClasses
from stac_fastapi.types.extension import ApiExtension
from stac_fastapi.types.requests import get_base_url
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from lai_service.api.documents import served_collection, served_item, without_map_link
from lai_service.catalogue.items import Document, checked_id, validate_document
from lai_service.catalogue.port import Catalogue, WriteMode, Written
from lai_service.errors import BadRequestError, InvalidItemError, PatchError
from lai_service.files.hrefs import check_files, has_files, read_stored_hrefs
from lai_service.files.storage import locked, locked_collection, remove_item_files

Sent = Annotated[Document, Body(description="STAC item or collection")]
Patch = Annotated[
    Document | list[Any], Body(description="Merge patch (object) or JSON patch (list)")
]
_COLLECTIONS = "/collections"
_COLLECTION = "/collections/{collection_id}"
_ITEMS = f"{_COLLECTION}/items"
_ITEM = f"{_ITEMS}/{{item_id}}"
_MANY_LOCKS = 100


@attr.s(auto_attribs=True)
class Transactions(ApiExtension):
    """The Transaction extension for items and collections, and the bulk extension."""

    catalogue: Catalogue = attr.ib(kw_only=True)
    data: Path = attr.ib(kw_only=True)
    conformance_classes: list[str] = attr.ib(
        factory=lambda: [
            TransactionConformanceClasses.ITEMS,
            TransactionConformanceClasses.COLLECTIONS,
        ]
    )

    def register(self, app: FastAPI) -> None:
        """Add the routes to an application."""
        for method, path, endpoint, status in (
            ("POST", _ITEMS, self.create_item, 201),
            ("PUT", _ITEM, self.replace_item, 204),
            ("PATCH", _ITEM, self.patch_item, 204),
            ("DELETE", _ITEM, self.delete_item, 204),
            ("POST", _COLLECTIONS, self.create_collection, 201),
            ("PUT", _COLLECTION, self.replace_collection, 204),
            ("PATCH", _COLLECTION, self.patch_collection, 204),
            ("DELETE", _COLLECTION, self.delete_collection, 204),
            ("POST", f"{_COLLECTION}/bulk_items", self.bulk_load, 200),
        ):
            app.add_api_route(
                path,
                endpoint,
                methods=[method],
                status_code=status,
                tags=["Transactions"],
                response_model=None,
            )

    def create_item(self, collection_id: str, item: Sent, request: Request) -> Response:
        """Store a new item, or the items of a FeatureCollection: all or none."""
        self.catalogue.collection(collection_id)
        base = get_base_url(request)
        if item.get("type") == "FeatureCollection":
            features = item.get("features")
            if not isinstance(features, list) or not all(isinstance(f, dict) for f in features):
                raise BadRequestError("a FeatureCollection needs a list of features")
            stored = [self._item(each, collection_id, base) for each in features]
            self._store(collection_id, stored, "insert")
            return Response(status_code=201)
        checked = self._item(item, collection_id, base)
        self._store(collection_id, [checked], "insert")
        return _created(served_item(checked, base))

    def replace_item(
        self, collection_id: str, item_id: str, item: Sent, request: Request
    ) -> Response:
        """Replace an item that exists."""
        _check_same(item, item_id)
        self.catalogue.item(collection_id, item_id)
        checked = self._item(item, collection_id, get_base_url(request))
        self._store(collection_id, [checked], "replace")
        return Response(status_code=204)

    def patch_item(
        self, collection_id: str, item_id: str, patch: Patch, request: Request
    ) -> Response:
        """Change parts of an item by a merge patch or a JSON patch."""
        base = get_base_url(request)

        def changed(old: Document) -> Document:
            item = self._item(_patched(old, patch), collection_id, base)
            check_files(item, self.data)
            return item

        self.catalogue.item(collection_id, item_id)
        with locked(self.data, collection_id, item_id):
            self.catalogue.change_item(collection_id, item_id, changed)
        return Response(status_code=204)

    def delete_item(self, collection_id: str, item_id: str) -> Response:
        """Remove an item, then its files."""
        self.catalogue.item(collection_id, item_id)
        with locked(self.data, collection_id, item_id):
            self.catalogue.remove_item(collection_id, item_id)
            remove_item_files(self.data, collection_id, item_id)
        return Response(status_code=204)

    def create_collection(self, collection: Sent, request: Request) -> Response:
        """Store a new collection."""
        base = get_base_url(request)
        checked = self._collection(collection, base)
        self.catalogue.put_collection(checked, "insert")
        return _created(served_collection(checked, base))

    def replace_collection(
        self, collection_id: str, collection: Sent, request: Request
    ) -> Response:
        """Replace a collection that exists."""
        _check_same(collection, collection_id)
        checked = self._collection(collection, get_base_url(request))
        self.catalogue.put_collection(checked, "replace")
        return Response(status_code=204)

    def patch_collection(self, collection_id: str, patch: Patch, request: Request) -> Response:
        """Change parts of a collection by a merge patch or a JSON patch."""
        base = get_base_url(request)

        def changed(old: Document) -> Document:
            document = self._collection(_patched(old, patch), base)
            if document["id"] != collection_id:
                raise PatchError("a patch cannot change the id of a collection")
            return document

        self.catalogue.change_collection(collection_id, changed)
        return Response(status_code=204)

    def delete_collection(self, collection_id: str) -> Response:
        """Remove a collection with its items and their files."""
        self.catalogue.collection(collection_id)
        with locked_collection(self.data, collection_id):
            self.catalogue.remove_collection(collection_id)
            remove_item_files(self.data, collection_id, None)
        return Response(status_code=204)

    def bulk_load(self, collection_id: str, items: Items, request: Request) -> Document:
        """Store many items in one transaction: all or none."""
        self.catalogue.collection(collection_id)
        stored, base = [], get_base_url(request)
        for item_id, document in items.items.items():
            if not isinstance(document, dict) or document.get("id") != item_id:
                raise InvalidItemError(f"bulk entry {item_id!r} holds no item of that id")
            stored.append(self._item(document, collection_id, base))
        mode: WriteMode = "upsert" if items.method == BulkTransactionMethod.UPSERT else "insert"
        written = self._store(collection_id, stored, mode)
        return {
            "received": len(stored),
            "success": len(stored),
            "skipped": written.count("unchanged"),
            "errors": [],
        }

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
        validate_document(document, "item", unknown="skip")
        return read_stored_hrefs(document, base_url)

    def _store(self, collection_id: str, items: list[Document], mode: WriteMode) -> list[Written]:
        """Store items; while their files are looked for, they cannot be removed."""
        ids = [str(item["id"]) for item in items if has_files(item)]
        few = len(ids) <= _MANY_LOCKS
        with (
            locked(self.data, collection_id, *ids)
            if few
            else locked_collection(self.data, collection_id)
        ):
            for item in items:
                check_files(item, self.data)
            return self.catalogue.put_items(collection_id, items, mode)

    def _collection(self, document: Document, base_url: str) -> Document:
        checked_id(document.get("id"), "a collection")
        document = {**document, "links": document.get("links") or []}
        validate_document(document, "collection", unknown="skip")
        stored = read_stored_hrefs(document, base_url)
        check_files(stored, self.data)
        return stored


def _created(document: Document) -> Response:
    own = next(link["href"] for link in document["links"] if link["rel"] == "self")
    media = "application/geo+json" if document["type"] == "Feature" else "application/json"
    return JSONResponse(document, 201, {"Location": own}, media)


def _check_same(document: Document, name: str) -> None:
    if document.get("id") != name:
        raise BadRequestError(f"the body has id {document.get('id')!r}, not {name!r}")


def _patched(document: Document, patch: dict[str, Any] | list[Any]) -> Document:
    """Apply a merge patch (RFC 7396) or a JSON patch (RFC 6902).

    Args:
        document: not changed.
        patch: an object is a merge patch, a list is a JSON patch.

    Raises:
        PatchError: an operation is malformed, or the patch does not fit.
    """
    if isinstance(patch, dict):
        return _merged(document, patch)
    for operation in patch:
        if not isinstance(operation, dict) or not isinstance(operation.get("path"), str):
            raise PatchError(f"a JSON patch is a list of operations with a path, not {operation!r}")
    try:
        result = jsonpatch.apply_patch(document, patch)
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException) as error:
        raise PatchError(f"the patch cannot be applied: {error}") from error
    if not isinstance(result, dict):
        raise PatchError("the patch does not leave a document")
    return result


def _merged(old: Document, patch: Document) -> Document:
    """Apply a merge patch (RFC 7396): null removes, objects merge, all else replaces."""
    merged = dict(old)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            inner = merged.get(key)
            merged[key] = _merged(inner if isinstance(inner, dict) else {}, value)
        else:
            merged[key] = value
    return merged
