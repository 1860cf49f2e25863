"""Links of a page of results: itself, the root, and the page that follows."""

from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request

from lai_service.catalogue.port import Document

__all__ = ["page_links"]

_GEOJSON = "application/geo+json"


def page_links(
    request: Request, base_url: str, token: str | None, body: Document | None
) -> list[dict[str, Any]]:
    """Return the links of a page.

    Args:
        request: what was asked; its path and query are repeated in the links.
        base_url: address of this service with its final slash.
        token: token of the next page, None on the last.
        body: the JSON of a POST request; None for GET.
    """
    own = base_url + request.url.path.removeprefix(request.scope.get("root_path", "")).lstrip("/")
    pairs = [(key, value) for key, value in request.query_params.multi_items() if key != "token"]
    links: list[dict[str, Any]] = [
        {"rel": "root", "href": base_url, "type": "application/json", "title": "Root"},
    ]
    if body is not None:
        links.append({"rel": "self", "href": own, "type": _GEOJSON, "method": "POST"})
        if token:
            rest = {key: value for key, value in body.items() if key != "token"}
            links.append(
                {
                    "rel": "next",
                    "href": own,
                    "type": _GEOJSON,
                    "method": "POST",
                    "body": {**rest, "token": token},
                    "merge": False,
                }
            )
        return links
    query = f"?{request.url.query}" if request.url.query else ""
    links.append({"rel": "self", "href": own + query, "type": _GEOJSON, "method": "GET"})
    if token:
        following = f"{own}?{urlencode([*pairs, ('token', token)])}"
        links.append({"rel": "next", "href": following, "type": _GEOJSON, "method": "GET"})
    if "/items" in own:
        collection = own.split("/items")[0]
        links.append({"rel": "collection", "href": collection, "type": "application/json"})
        links.append({"rel": "parent", "href": collection, "type": "application/json"})
    return links
