"""The writing half of the STAC API: transactions, patches and bulk loads of metadata.

Documents are validated before they are stored, their hrefs are checked and never opened. Files
come in through `publishing`, not here.
"""
# mypy: disable-error-code="override"
# stac-fastapi passes the request as a keyword that its base classes leave in **kwargs.

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attr
import jsonpatch
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from stac_fastapi.extensions.bulk_transactions import (
    BaseBulkTransactionsClient,
    BulkTransactionMethod,
    Items,
)
from stac_fastapi.extensions.transaction.client import BaseTransactionsClient
from stac_fastapi.types.requests import get_base_url
from starlette.requests import Request
from starlette.responses import Response

from lai_service.catalogue import Catalogue, Document, WriteMode
from lai_service.documents import served_collection, served_item
from lai_service.errors import BadRequestError, InvalidItemError, PatchError
from lai_service.hrefs import read_stored_hrefs
from lai_service.storage import locked, remove_item_files
from lai_service.validation import validate_collection, validate_item

__all__ = ["BulkClient", "TransactionsClient", "checked_id"]

_FORBIDDEN = frozenset("/\\:?#[]@!$&'\"()*+,;=%<>{}|^`\x00\n\r\t ")


def checked_id(value: object, what: str) -> str:
    """Return an id that can stand in an address and in a folder name.

    Raises:
        InvalidItemError: empty, longer than 200 characters, `.`-led, or with a reserved character.
    """
    if not isinstance(value, str) or not 0 < len(value) <= 200 or value.startswith("."):
        raise InvalidItemError(f"{what} needs an id of 1 to 200 characters that starts no dot file")
    bad = sorted(_FORBIDDEN & set(value))
    if bad:
        raise InvalidItemError(f"{what} id {value!r} holds {bad[0]!r}; use letters, digits, _ - .")
    return value


def _document(model: BaseModel) -> Document:
    document: Document = model.model_dump(mode="json", exclude_unset=True, by_alias=True)
    return document


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
        document = {**document, "collection": collection_id}
        document.setdefault("links", [])
        if not any(link.get("rel") == "collection" for link in document["links"]):
            link = {"rel": "collection", "href": f"{base_url}collections/{collection_id}"}
            document["links"] = [*document["links"], link]  # the schema demands it
        validate_item(document)
        return read_stored_hrefs(document, base_url, self.data)


@attr.s(auto_attribs=True)
class TransactionsClient(_Writer, BaseTransactionsClient):
    """Create, replace, patch and delete items and collections."""

    def create_item(
        self,
        collection_id: str,
        item: BaseModel,
        request: Request,
        **_: Any,  # noqa: ANN401
    ) -> Response:
        """Answer `POST /collections/{collection_id}/items`, an item or a FeatureCollection."""
        base = get_base_url(request)
        document = _document(item)
        self.catalogue.collection(collection_id)
        several = document.get("type") == "FeatureCollection"
        documents = document["features"] if several else [document]
        stored = [self._item(each, collection_id, base) for each in documents]
        self.catalogue.put_items(collection_id, stored, "insert")
        if several:
            return Response(status_code=201)
        served = served_item(self.catalogue.item(collection_id, stored[0]["id"]), base)
        own = served["links"][0]["href"]
        return JSONResponse(served, status_code=201, headers={"Location": own})

    def update_item(
        self,
        collection_id: str,
        item_id: str,
        item: BaseModel,
        request: Request,
        **_: Any,  # noqa: ANN401
    ) -> Document:
        """Answer `PUT /collections/{collection_id}/items/{item_id}`."""
        base = get_base_url(request)
        document = _document(item)
        if document.get("id") != item_id:
            raise BadRequestError(f"the body has id {document.get('id')!r}, not {item_id!r}")
        self.catalogue.item(collection_id, item_id)
        self.catalogue.put_items(
            collection_id, [self._item(document, collection_id, base)], "replace"
        )
        return served_item(self.catalogue.item(collection_id, item_id), base)

    def patch_item(
        self,
        collection_id: str,
        item_id: str,
        patch: Any,  # noqa: ANN401 (merge patch or operations)
        request: Request,
        **_: Any,  # noqa: ANN401
    ) -> Document:
        """Answer `PATCH /collections/{collection_id}/items/{item_id}`."""
        base = get_base_url(request)
        change = _change(patch)
        self.catalogue.change_item(
            collection_id,
            item_id,
            lambda old: self._item(change(_patchable(old)), collection_id, base),
        )
        return served_item(self.catalogue.item(collection_id, item_id), base)

    def delete_item(
        self,
        item_id: str,
        collection_id: str,
        **_: Any,  # noqa: ANN401
    ) -> Document:
        """Answer `DELETE /collections/{collection_id}/items/{item_id}`; its files go too."""
        self.catalogue.item(collection_id, item_id)
        with locked(self.data, collection_id, item_id):
            self.catalogue.remove_item(collection_id, item_id)
            remove_item_files(self.data, collection_id, item_id)
        return {"deleted item": item_id}

    def create_collection(
        self,
        collection: BaseModel,
        request: Request,
        **_: Any,  # noqa: ANN401
    ) -> Response:
        """Answer `POST /collections`."""
        base = get_base_url(request)
        stored = self._collection(_document(collection), base)
        self.catalogue.put_collection(stored, "insert")
        served = served_collection(self.catalogue.collection(stored["id"]), base)
        own = served["links"][0]["href"]
        return JSONResponse(served, status_code=201, headers={"Location": own})

    def update_collection(
        self,
        collection: BaseModel,
        collection_id: str,
        request: Request,
        **_: Any,  # noqa: ANN401
    ) -> Document:
        """Answer `PUT /collections/{collection_id}`."""
        document = _document(collection)
        if document.get("id") != collection_id:
            raise BadRequestError(f"the body has id {document.get('id')!r}, not {collection_id!r}")
        base = get_base_url(request)
        self.catalogue.put_collection(self._collection(document, base), "replace")
        return served_collection(self.catalogue.collection(collection_id), base)

    def patch_collection(
        self,
        collection_id: str,
        patch: Any,  # noqa: ANN401 (merge patch or operations)
        request: Request,
        **_: Any,  # noqa: ANN401
    ) -> Document:
        """Answer `PATCH /collections/{collection_id}`."""
        base = get_base_url(request)
        change = _change(patch)

        def changed(old: Document) -> Document:
            document = self._collection(change(_patchable(old)), base)
            if document["id"] != collection_id:
                raise PatchError("a patch cannot change the id of a collection")
            return document

        self.catalogue.change_collection(collection_id, changed)
        return served_collection(self.catalogue.collection(collection_id), base)

    def delete_collection(self, collection_id: str, **_: Any) -> Document:  # noqa: ANN401
        """Answer `DELETE /collections/{collection_id}`; its items and files go too."""
        self.catalogue.remove_collection(collection_id)
        remove_item_files(self.data, collection_id, None)
        return {"deleted collection": collection_id}

    def _collection(self, document: Document, base_url: str) -> Document:
        checked_id(document.get("id"), "a collection")
        document.setdefault("links", [])
        validate_collection(document)
        return read_stored_hrefs(document, base_url, self.data)


@attr.s(auto_attribs=True)
class BulkClient(_Writer, BaseBulkTransactionsClient):
    """Store many items in one transaction."""

    def bulk_item_insert(
        self,
        items: Items,
        request: Request,
        chunk_size: int | None = None,
        **_: Any,  # noqa: ANN401
    ) -> Document:
        """Answer `POST /collections/{collection_id}/bulk_items`; all items are stored or none."""
        collection_id = request.path_params["collection_id"]
        base = get_base_url(request)
        stored = []
        for item_id, document in items.items.items():
            if not isinstance(document, dict) or document.get("id") != item_id:
                raise InvalidItemError(f"bulk entry {item_id!r} holds no item of that id")
            stored.append(self._item(document, collection_id, base))
        mode: WriteMode = "upsert" if items.method == BulkTransactionMethod.UPSERT else "insert"
        written = self.catalogue.put_items(collection_id, stored, mode)
        return {
            "received": len(stored),
            "success": len(stored),
            "skipped": written.count("unchanged"),
            "errors": [],
        }


def _patchable(stored: Document) -> Document:
    """Return a stored document as a patch expects it; `collection` and `links` are there."""
    return {**stored, "links": list(stored.get("links") or [])}


def _change(patch: Any) -> Callable[[Document], Document]:  # noqa: ANN401 (merge patch or operations)
    """Return the function that applies a merge patch (RFC 7396) or a JSON patch (RFC 6902)."""
    if isinstance(patch, BaseModel):
        merge = patch.model_dump(mode="json", exclude_unset=True, by_alias=True)
        return lambda old: _merged(old, merge)
    operations = [operation.model_dump(mode="json", by_alias=True) for operation in patch]

    def apply(old: Document) -> Document:
        try:
            result = jsonpatch.apply_patch(old, operations)
        except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException) as error:
            raise PatchError(f"the patch cannot be applied: {error}") from error
        if not isinstance(result, dict):
            raise PatchError("the patch does not leave a document")
        return result

    return apply


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
