"""The page of the API, `/api.html`: Swagger UI, which the browser fetches, or what it lacks."""

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

_PLACE = '<div id="swagger-ui">'


def word_offline(app: FastAPI) -> None:
    """Let the page of an application state what it lacks where the network is missing."""
    path = app.docs_url
    app.router.routes[:] = [one for one in app.routes if getattr(one, "path", None) != path]

    async def page(request: Request) -> HTMLResponse:
        address = f"{request.scope.get('root_path', '').rstrip('/')}{app.openapi_url}"
        shown = get_swagger_ui_html(openapi_url=address, title=app.title)
        text = bytes(shown.body).decode()
        word = (
            f'{_PLACE}<p>This page draws <a href="{address}">the description of the API</a> with '
            "Swagger UI, from cdn.jsdelivr.net: it needs the network.</p>"
        )
        return HTMLResponse(text.replace(_PLACE, word, 1))

    # stac-fastapi links the page by this name.
    name = "swagger_ui_html"
    app.router.routes.append(Route(str(path), page, name=name, include_in_schema=False))
