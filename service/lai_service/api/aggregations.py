"""The Aggregation extension: how many items, by month and by quality."""

import itertools
from typing import Annotated, Any

import attr
import fastapi
from fastapi import FastAPI
from stac_fastapi.api.models import CollectionUri, EmptyRequest
from stac_fastapi.api.routes import create_async_endpoint
from stac_fastapi.extensions.aggregation import AggregationConformanceClasses
from stac_fastapi.extensions.aggregation.request import (
    AggregationExtensionGetRequest,
    AggregationExtensionPostRequest,
)
from stac_fastapi.extensions.filter.request import (
    FilterExtensionGetRequest,
    FilterExtensionPostRequest,
)
from stac_fastapi.types.extension import ApiExtension
from stac_fastapi.types.requests import get_base_url
from starlette.requests import Request

from lai_service.api.stac_api import SearchBody, parse_json, search_of
from lai_service.catalogue.items import Document
from lai_service.catalogue.port import Catalogue, Search
from lai_service.errors import BadRequestError

_TENTHS = (*(number / 10 for number in range(10)), 1.000001)  # 1 belongs to the last class
_LAI_EDGES = (0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 20.0)
_RANGES = {
    "valid_fraction_frequency": ("laiq:valid_fraction", _TENTHS),
    "lai_mean_frequency": ("laiq:lai_mean", _LAI_EDGES),
}
_COLLECTION = "/collections/{collection_id}"
_TYPES = {
    "total_count": "integer",
    "datetime_frequency": "frequency_distribution",
    **dict.fromkeys(_RANGES, "frequency_distribution"),
}


@attr.s
class _Get(AggregationExtensionGetRequest, FilterExtensionGetRequest):
    """Parameters of `GET /aggregate`."""


@attr.s
class _GetCollection(_Get):
    """Parameters of `GET /collections/{collection_id}/aggregate`; all but the first as above."""

    collection_id: Annotated[str, fastapi.Path(description="Collection ID")] = attr.ib(kw_only=True)


class _Post(SearchBody, AggregationExtensionPostRequest, FilterExtensionPostRequest):
    """Body of `POST /aggregate`."""


@attr.s(auto_attribs=True)
class Aggregations(ApiExtension):
    """Counts over the items that a search would find.

    stac-fastapi's own extension puts two methods under one operation id.
    """

    catalogue: Catalogue = attr.ib(kw_only=True)
    conformance_classes: list[str] = attr.ib(
        factory=lambda: [AggregationConformanceClasses.AGGREGATION]
    )

    def register(self, app: FastAPI) -> None:
        """Add the routes to an application."""
        for method, path, function, model in (
            ("GET", "/aggregations", self.get_aggregations, EmptyRequest),
            ("GET", f"{_COLLECTION}/aggregations", self.get_aggregations, CollectionUri),
            ("GET", "/aggregate", self.aggregate, _Get),
            ("POST", "/aggregate", self.aggregate, _Post),
            ("GET", f"{_COLLECTION}/aggregate", self.aggregate, _GetCollection),
        ):
            endpoint = create_async_endpoint(function, model)
            app.add_api_route(path, endpoint, methods=[method], tags=["Aggregation"])

    def get_aggregations(
        self,
        request: Request,
        collection_id: str | None = None,
        **_: Any,  # noqa: ANN401
    ) -> Document:
        """Answer `GET /aggregations`."""
        if collection_id is not None:
            self.catalogue.collection(collection_id)
        found = [{"name": name, "data_type": kind} for name, kind in _TYPES.items()]
        return _collection(request, found)

    def aggregate(
        self,
        aggregation_request: _Post | None = None,
        **values: Any,  # noqa: ANN401
    ) -> Document:
        """Answer `GET` and `POST /aggregate`."""
        request: Request = values.pop("request")
        if aggregation_request is not None:
            members = type(aggregation_request).model_fields
            values = {name: getattr(aggregation_request, name) for name in members}
        else:
            values["intersects"] = parse_json(values.get("intersects"), "intersects")
        collection_id = values.pop("collection_id", None)
        if collection_id is not None:
            self.catalogue.collection(collection_id)
            values["collections"] = [collection_id]
        names = values.get("aggregations") or ["total_count"]
        search = search_of(**values)
        return _collection(request, [self._one(name, search) for name in names])

    def _one(self, name: str, search: Search) -> Document:
        if name not in _TYPES:
            known = ", ".join(_TYPES)
            raise BadRequestError(f"aggregation {name!r} is unknown; use one of {known}")
        result: Document = {"name": name, "data_type": _TYPES[name]}
        if name == "total_count":
            return {**result, "value": self.catalogue.count(search)}
        if name == "datetime_frequency":
            months = self.catalogue.count_by_month(search)
            buckets: list[Document] = [
                {"key": key, "frequency": count, "data_type": "datetime"} for key, count in months
            ]
        else:
            field, edges = _RANGES[name]
            counts = self.catalogue.count_by_range(search, field, edges)
            buckets = [
                {
                    "key": f"{low:g}-{high:g}",
                    "frequency": count,
                    "data_type": "numeric",
                    "from": low,
                    "to": high,
                }
                for (low, high), count in zip(itertools.pairwise(edges), counts, strict=True)
            ]
        return {**result, "buckets": buckets}


def _collection(request: Request, aggregations: list[Document]) -> Document:
    base = get_base_url(request)
    links = [
        {"rel": "root", "type": "application/json", "href": base},
        {"rel": "self", "type": "application/json", "href": str(request.url)},
    ]
    return {"type": "AggregationCollection", "aggregations": aggregations, "links": links}
