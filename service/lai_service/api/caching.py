"""How long clients may keep what they got: rasters for ever, their pictures until we draw anew.

The path of a published raster holds the digest of its bytes, so neither it nor a picture of it ever
changes under its address.
"""

import hashlib
import re
from importlib.metadata import version

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lai_service.api.limits import route_path

__all__ = ["FOR_EVER", "PictureCaching", "is_versioned"]

FOR_EVER = "public, max-age=31536000, immutable"
"""`Cache-Control` of a file whose path holds a digest."""
_A_DAY = "public, max-age=86400"
_VERSIONED = re.compile(r"/[0-9a-f]{16}/[^/]+$")


def is_versioned(path: str) -> bool:
    """Return whether a path holds the digest of its file."""
    return _VERSIONED.search(path) is not None


class PictureCaching:
    """ASGI middleware that gives pictures an ETag, and answers 304 without drawing them.

    Args:
        app: the application behind.
        prefix: path of the pictures.
    """

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = prefix
        self._version = version("sentinel2-lai").encode()  # colours may change with it

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer that the caller has the picture."""
        if scope["type"] != "http" or not self._is_picture(scope):
            await self._app(scope, receive, send)
            return
        asked = scope["path"].encode() + b"?" + scope["query_string"]
        tag = f'"{hashlib.sha256(self._version + asked).hexdigest()[:20]}"'
        headers = {"ETag": tag, "Cache-Control": _A_DAY}
        given = Headers(scope=scope).get("if-none-match", "")
        if tag in (one.strip().removeprefix("W/") for one in given.split(",")):
            await Response(status_code=304, headers=headers)(scope, receive, send)
            return

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 200:
                MutableHeaders(scope=message).update(headers)
            await send(message)

        await self._app(scope, receive, marked)

    def _is_picture(self, scope: Scope) -> bool:
        return scope["method"] in ("GET", "HEAD") and route_path(scope).startswith(self._prefix)
