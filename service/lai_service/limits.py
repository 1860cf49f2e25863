"""A limit on the size of a request, whether it declares its length or streams."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lai_service.errors import BadRequestError, TooLargeError
from lai_service.problems import problem

__all__ = ["BodyLimit"]


class BodyLimit:
    """ASGI middleware that answers 413 to a body above the limit.

    Args:
        app: the application behind.
        max_bytes: largest body.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Collect the body up to the limit and pass it on, or refuse."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self._app(scope, receive, send)
            return
        too_large = TooLargeError(f"the request body is above {self._max_bytes} bytes")
        declared = Headers(scope=scope).get("content-length", "0")
        if not declared.isdigit():
            await problem(BadRequestError("Content-Length is no number"))(scope, receive, send)
            return
        if int(declared) > self._max_bytes:
            await problem(too_large)(scope, receive, send)
            return
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            if len(body) > self._max_bytes:
                await problem(too_large)(scope, receive, send)
                return
            if not message.get("more_body", False):
                break
        await self._app(scope, _replay(bytes(body), receive), send)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives the collected body once, then listens on."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return pending.pop() if pending else await receive()

    return replayed
