"""HEAD wherever GET is answered, as HTTP asks of a server (RFC 9110, 9.1)."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lai_service.api.limits import route_path
from lai_service.files.hrefs import DATA_ROUTE

__all__ = ["HeadAsGet"]


class HeadAsGet:
    """ASGI middleware that answers HEAD as GET without the body; files do so themselves."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope.get("method") != "HEAD" or route_path(scope).startswith(f"/{DATA_ROUTE}/"):
            await self._app(scope, receive, send)
            return

        async def without_body(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        inner = {**scope, "method": "GET"}
        await self._app(inner, receive, without_body)
        scope["route"] = inner.get("route")  # for the metrics
