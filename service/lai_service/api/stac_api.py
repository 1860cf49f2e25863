"""The reading half of the STAC API: requests in, catalogue searches, answers out."""
# mypy: disable-error-code="override"
# stac-fastapi passes the request as a keyword that its base classes leave in **kwargs.

import json
from typing import Any
from urllib.parse import quote, urlencode

import attr
from pydantic import model_validator
from pydantic_core import to_json
from stac_fastapi.extensions.filter.client import BaseFiltersClient
from stac_fastapi.types.core import BaseCoreClient
from stac_fastapi.types.requests import get_base_url
from stac_fastapi.types.search import BaseSearchPostRequest
from starlette.requests import Request
from starlette.responses import Response

from lai_service.api.collection_search import is_found
from lai_service.api.documents import Fields, page_link, served_collection, served_item
from lai_service.api.limits import check_json, route_path
from lai_service.catalogue.cql2 import filter_from_query, filter_from_text
from lai_service.catalogue.items import Document, interval_from_text
from lai_service.catalogue.port import Catalogue, Search, SortKey
from lai_service.catalogue.queryables import PROPERTIES, queryables
from lai_service.errors import BadRequestError, FilterError
from lai_udf.longitudes import flat_box

_GEOJSON = "application/geo+json"
MAX_PAGE = 1000  # most items on a page, whatever is asked for


def parse_json(text: str | None, what: str) -> Any:  # noqa: ANN401 (JSON can be anything)
    """Read JSON from a parameter of a GET request.

    Raises:
        BadRequestError: it is not JSON, nested too deep, or has too many vertices.
    """
    if text is None:
        return None
    try:
        value = json.loads(text)
        check_json(value)
    except (json.JSONDecodeError, RecursionError) as error:
        raise BadRequestError(f"{what} is not JSON: {error}") from error
    except ValueError as error:
        raise BadRequestError(str(error)) from error
    return value


def search_of(**values: Any) -> Search:  # noqa: ANN401 (parameters of many types, checked here)
    """Build a search from the parameters of a request, and check what stac-fastapi does not.

    Args:
        **values: collections, ids, bbox, intersects (object), datetime, limit, token, query
            (object), filter_expr (CQL2 text or object), filter_crs, filter_lang,
            sortby (list of `-name` or objects).

    Raises:
        BadRequestError: a value makes no sense; FilterError for filters.
    """
    if values.get("bbox") and values.get("intersects") is not None:
        raise BadRequestError("bbox and intersects exclude each other; give one")
    try:
        start, end = interval_from_text(values.get("datetime"))
    except ValueError as error:
        raise BadRequestError(str(error)) from error
    return Search(
        collections=_tuple(values.get("collections")),
        ids=_tuple(values.get("ids")),
        bbox=_bbox(values.get("bbox")),
        intersects=values.get("intersects"),
        start_us=start,
        end_us=end,
        filter=_filter(values),
        sort=_sort(values.get("sortby")),
        limit=min(values.get("limit") or 10, MAX_PAGE),
        token=values.get("token"),
    )


def _tuple(values: list[str] | None) -> tuple[str, ...] | None:
    return tuple(values) if values else None


def _bbox(bbox: Any) -> tuple[float, float, float, float] | None:  # noqa: ANN401
    if bbox is None:
        return None
    west, south, east, north = map(float, flat_box(bbox))
    if not (-180 <= west <= 180 and -180 <= east <= 180 and south >= -90 and north <= 90):
        raise BadRequestError(f"bbox {list(bbox)} leaves longitude ±180, latitude ±90")
    if south > north:
        raise BadRequestError(f"bbox {list(bbox)} has its south above its north")
    return west, south, east, north


def _filter(values: dict[str, Any]) -> Any:  # noqa: ANN401 (CQL2 JSON)
    crs = values.get("filter_crs")
    if crs and not crs.rstrip("/").endswith("CRS84"):
        raise FilterError(f"filter-crs {crs!r} is not supported; geometries are in CRS84 degrees")
    expression = values.get("filter_expr")
    if isinstance(expression, str):
        if values.get("filter_lang") == "cql2-json":
            expression = parse_json(expression, "filter")
        else:
            expression = filter_from_text(expression)
    query = values.get("query")
    if not query:
        return expression
    if not isinstance(query, dict):
        raise FilterError('query must be an object such as {"laiq:lai_mean": {"gte": 2}}')
    terms = filter_from_query(query)
    return terms if expression is None else {"op": "and", "args": [terms, expression]}


def _sort(sortby: list[Any] | None) -> tuple[SortKey, ...]:
    keys = []
    for entry in sortby or []:
        if isinstance(entry, str):
            # `+` of a URL arrives as a space
            keys.append(SortKey(entry.strip().lstrip("+-"), entry.strip().startswith("-")))
        else:
            keys.append(SortKey(entry.field, entry.direction == "desc"))
    if any(not key.field for key in keys):
        raise BadRequestError("sortby has an empty field name")
    return tuple(keys)


class SearchBody(BaseSearchPostRequest):
    """Body of `POST /search`; stac-pydantic takes for granted that it is an object.

    `collections` and `ids` may be one text instead of a list, as some clients send them. A geometry
    stays the object that was sent: it is read once, by shapely, in the thread of the search.
    """

    intersects: dict[str, Any] | None = None  # type: ignore[assignment]

    @model_validator(mode="before")
    @classmethod
    def validate_spatial(cls, values: object) -> object:
        """Refuse what is no object, and a bbox together with a geometry."""
        if not isinstance(values, dict):
            raise ValueError("the body must be a JSON object")
        check_json(values)
        if values.get("intersects") is not None and values.get("bbox") is not None:
            raise ValueError("intersects and bbox exclude each other")
        if "fields" in values and values["fields"] is None:
            raise ValueError("fields must be an object with include and exclude")
        lists = {key: [values[key]] for key in _LISTS if isinstance(values.get(key), str)}
        return {**values, **lists}


_LISTS = ("collections", "ids")


@attr.s(auto_attribs=True)
class StacClient(BaseCoreClient):
    """Core, collections, features and item search over a catalogue."""

    catalogue: Catalogue = attr.ib(kw_only=True)

    def landing_page(self, **values: Any) -> Document:  # noqa: ANN401
        """Answer `GET /`: what every STAC client needs, the collections, and our own pages."""
        page: Document = dict(super().landing_page(**values))
        base = get_base_url(values["request"])
        children = [
            {
                "rel": "child",
                "href": f"{base}collections/{quote(collection['id'], safe='')}",
                "type": "application/json",
                "title": str(collection.get("title") or collection["id"]),
            }
            for collection in self.catalogue.collections()
        ]
        return {**page, "links": [*page["links"], *children, page_link(base)]}

    def all_collections(
        self,
        request: Request,
        q: list[str] | None = None,
        limit: int | None = None,
        offset: int = 0,
        **values: Any,  # noqa: ANN401
    ) -> Document:
        """Answer `GET /collections`, those that meet `bbox`, `datetime` and the words `q`."""
        base, search = get_base_url(request), search_of(**values)
        found = [doc for doc in self.catalogue.collections() if is_found(doc, search, q)]
        shown = found[offset:] if limit is None else found[offset : offset + limit]
        links = [
            {"rel": "root", "href": base, "type": "application/json"},
            {"rel": "parent", "href": base, "type": "application/json"},
            {"rel": "self", "href": f"{base}collections", "type": "application/json"},
        ]
        if offset + len(shown) < len(found):
            following = request.url.include_query_params(offset=offset + len(shown)).query
            href = f"{base}collections?{following}"
            links.append({"rel": "next", "href": href, "type": "application/json"})
        return {
            "collections": [served_collection(document, base) for document in shown],
            "links": links,
            "numberMatched": len(found),
            "numberReturned": len(shown),
        }

    def get_collection(self, collection_id: str, request: Request, **_: Any) -> Document:  # noqa: ANN401
        """Answer `GET /collections/{collection_id}`."""
        return served_collection(self.catalogue.collection(collection_id), get_base_url(request))

    def get_item(self, item_id: str, collection_id: str, request: Request, **_: Any) -> Document:  # noqa: ANN401
        """Answer `GET /collections/{collection_id}/items/{item_id}`."""
        return served_item(self.catalogue.item(collection_id, item_id), get_base_url(request))

    def item_collection(self, collection_id: str, request: Request, **values: Any) -> Response:  # noqa: ANN401
        """Answer `GET /collections/{collection_id}/items`."""
        self.catalogue.collection(collection_id)
        return self.get_search(request=request, **{**values, "collections": [collection_id]})

    def get_search(self, request: Request, **values: Any) -> Response:  # noqa: ANN401
        """Answer `GET /search`."""
        values["intersects"] = parse_json(values.get("intersects"), "intersects")
        values["query"] = parse_json(values.get("query"), "query")
        fields = Fields.from_text(request.query_params.get("fields"))
        return self._answer(request, search_of(**values), fields)

    def post_search(
        self,
        search_request: BaseSearchPostRequest,
        request: Request,
        **_: Any,  # noqa: ANN401
    ) -> Response:
        """Answer `POST /search`."""
        values = {name: getattr(search_request, name) for name in type(search_request).model_fields}
        given = "fields" in search_request.model_fields_set
        fields = Fields.from_body(values["fields"] if given else None)
        body = search_request.model_dump(mode="json", by_alias=True, exclude_unset=True)
        return self._answer(request, search_of(**values), fields, body)

    def _answer(
        self, request: Request, search: Search, fields: Fields, body: Document | None = None
    ) -> Response:
        base = get_base_url(request)
        self._check_order(search)
        page = self.catalogue.search(search)
        features = [fields.apply(served_item(document, base)) for document in page.items]
        answer = {
            "type": "FeatureCollection",
            "features": features,
            "links": _page_links(request, base, page.next_token, body),
            "numberReturned": len(features),
        }
        is_all = page.next_token is None and search.token is None
        matched = len(page.items) if is_all else self.catalogue.quick_count(search)
        if matched is not None:
            answer["numberMatched"] = matched
        return Response(to_json(answer), media_type=_GEOJSON)  # five times as fast as `json`

    def _check_order(self, search: Search) -> None:
        """Refuse to sort by what no item has: a misspelt name would go unnoticed."""
        for key in search.sort:
            name = key.field.removeprefix("properties.")
            absent = {"op": "isNull", "args": [{"property": name}]}
            there = {"op": "not", "args": [absent]}
            if name not in PROPERTIES and not self.catalogue.count(Search(filter=there)):
                raise BadRequestError(f"no item has the property {name!r} of sortby")


def _page_links(
    request: Request, base_url: str, token: str | None, body: Document | None
) -> list[Document]:
    """Return the links of a page of results: the root, itself, and the page that follows.

    Args:
        request: what was asked; its path and query are repeated in the links.
        base_url: address of this service with its final slash.
        token: token of the next page, None on the last.
        body: the JSON of a POST request; None for GET.
    """
    own = base_url + route_path(request.scope).lstrip("/")
    pairs = [(key, value) for key, value in request.query_params.multi_items() if key != "token"]
    query = request.url.query
    page = {"type": _GEOJSON, "method": "GET" if body is None else "POST"}
    links: list[Document] = [
        {"rel": "root", "href": base_url, "type": "application/json", "title": "Root"},
        {"rel": "self", "href": f"{own}?{query}" if query else own, **page},
    ]
    if token and body is not None:
        following = {"body": {**body, "token": token}, "merge": False}
        links.append({"rel": "next", "href": own, **page, **following})
    elif token:
        links.append(
            {"rel": "next", "href": f"{own}?{urlencode([*pairs, ('token', token)])}", **page}
        )
    if "/items" in own:
        collection = {"href": own.split("/items")[0], "type": "application/json"}
        links += [{"rel": rel, **collection} for rel in ("collection", "parent")]
    return links


@attr.s(auto_attribs=True)
class FiltersClient(BaseFiltersClient):
    """Names that filters may use."""

    catalogue: Catalogue = attr.ib(kw_only=True)

    def get_queryables(
        self,
        request: Request,
        collection_id: str | None = None,
        **_: Any,  # noqa: ANN401
    ) -> Document:
        """Answer `GET /queryables` and `GET /collections/{collection_id}/queryables`."""
        if collection_id is not None:
            self.catalogue.collection(collection_id)
        return queryables(str(request.url))
