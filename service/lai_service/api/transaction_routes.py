"""Routes of the Transaction and bulk extensions over plain JSON.

stac-fastapi's own routes read items into pydantic models, which rewrite times and demand members
that the schemas do not; here a document is checked by the schemas and stored as it was sent.
Replacing, patching and deleting are answered 204, creating 201 with the address.
"""

from typing import Annotated, Any

import attr
from fastapi import APIRouter, Body, FastAPI
from stac_fastapi.extensions.bulk_transactions import Items
from stac_fastapi.extensions.transaction.transaction import TransactionConformanceClasses
from stac_fastapi.types.extension import ApiExtension
from stac_fastapi.types.requests import get_base_url
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from lai_service.api.transactions import BulkClient, TransactionsClient
from lai_service.catalogue.port import Document

__all__ = ["BulkRoutes", "TransactionRoutes"]

Sent = Annotated[dict[str, Any], Body(description="STAC item or collection")]
Patch = Annotated[
    dict[str, Any] | list[Any], Body(description="Merge patch (object) or JSON patch (list)")
]
_ITEMS = "/collections/{collection_id}/items"
_ITEM = "/collections/{collection_id}/items/{item_id}"
_COLLECTION = "/collections/{collection_id}"


@attr.s(auto_attribs=True)
class TransactionRoutes(ApiExtension):
    """The Transaction extension for items and collections."""

    client: TransactionsClient = attr.ib(kw_only=True)
    conformance_classes: list[str] = attr.ib(
        factory=lambda: [
            TransactionConformanceClasses.ITEMS,
            TransactionConformanceClasses.COLLECTIONS,
        ]
    )

    def register(self, app: FastAPI) -> None:
        """Add the routes to an application."""
        router = APIRouter(tags=["Transactions"])
        _add_item_routes(router, self.client)
        _add_collection_routes(router, self.client)
        app.include_router(router)


@attr.s(auto_attribs=True)
class BulkRoutes(ApiExtension):
    """The bulk extension, its route with the parameter that OpenAPI asks for."""

    client: BulkClient = attr.ib(kw_only=True)
    conformance_classes: list[str] = attr.ib(factory=list)

    def register(self, app: FastAPI) -> None:
        """Add the route to an application."""
        client = self.client

        @app.post(f"{_COLLECTION}/bulk_items", tags=["Transactions"])
        def bulk_load(collection_id: str, items: Items, request: Request) -> dict[str, Any]:
            """Store many items in one transaction: all or none."""
            return client.store(collection_id, items, get_base_url(request))


def _created(document: Document) -> Response:
    own = next(link["href"] for link in document["links"] if link["rel"] == "self")
    media = "application/geo+json" if document["type"] == "Feature" else "application/json"
    return JSONResponse(document, 201, {"Location": own}, media)


def _done() -> Response:
    return Response(status_code=204)


def _add_item_routes(router: APIRouter, client: TransactionsClient) -> None:
    @router.post(_ITEMS, status_code=201)
    def create_item(collection_id: str, item: Sent, request: Request) -> Response:
        """Store a new item, or the items of a FeatureCollection."""
        stored = client.create_items(collection_id, item, get_base_url(request))
        return _created(stored) if stored else Response(status_code=201)

    @router.put(_ITEM, status_code=204)
    def replace_item(collection_id: str, item_id: str, item: Sent, request: Request) -> Response:
        """Replace an item."""
        client.replace_item(collection_id, item_id, item, get_base_url(request))
        return _done()

    @router.patch(_ITEM, status_code=204)
    def patch_item(collection_id: str, item_id: str, patch: Patch, request: Request) -> Response:
        """Change parts of an item."""
        client.patch_item(collection_id, item_id, patch, get_base_url(request))
        return _done()

    @router.delete(_ITEM, status_code=204)
    def delete_item(collection_id: str, item_id: str) -> Response:
        """Remove an item and its files."""
        client.delete_item(collection_id, item_id)
        return _done()


def _add_collection_routes(router: APIRouter, client: TransactionsClient) -> None:
    @router.post("/collections", status_code=201)
    def create_collection(collection: Sent, request: Request) -> Response:
        """Store a new collection."""
        return _created(client.create_collection(collection, get_base_url(request)))

    @router.put(_COLLECTION, status_code=204)
    def replace_collection(collection_id: str, collection: Sent, request: Request) -> Response:
        """Replace a collection."""
        client.replace_collection(collection_id, collection, get_base_url(request))
        return _done()

    @router.patch(_COLLECTION, status_code=204)
    def patch_collection(collection_id: str, patch: Patch, request: Request) -> Response:
        """Change parts of a collection."""
        client.patch_collection(collection_id, patch, get_base_url(request))
        return _done()

    @router.delete(_COLLECTION, status_code=204)
    def delete_collection(collection_id: str) -> Response:
        """Remove a collection with its items and files."""
        client.delete_collection(collection_id)
        return _done()
