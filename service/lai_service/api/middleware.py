"""What every request passes before its route: token, size of its body, HEAD, caches of pictures.

The guard sits in front of the routes, so a route that is added later is guarded without anybody
having to remember it. `OPEN_READS` lists the only POST requests that are reads. Without a token in
the settings, writes are off for everybody. The path of a published raster holds the digest of its
bytes, so neither it nor a picture of it ever changes under its address.
"""

import hashlib
import hmac
from collections.abc import Sequence
from importlib.metadata import version

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lai_service.api.limits import MAX_READ_BYTES
from lai_service.errors import LaiServiceError, TooLargeError, UnauthorizedError, WritesOffError
from lai_service.files.hrefs import DATA_ROUTE

_HEADERS = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "1"}}


def problem(error: LaiServiceError) -> JSONResponse:
    """Return the answer to a request that raised this error."""
    code = type(error).__name__.removesuffix("Error")
    body = {"code": code, "description": str(error)}
    return JSONResponse(body, error.status, _HEADERS.get(error.status))


OPEN_READS = frozenset({"/search", "/aggregate", "/timeseries"})
"""Paths whose POST only reads."""

_NO_TOKEN = "the service has no token; set LAI_SERVICE_TOKEN to allow them"
_READING_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class TokenGuard:
    """ASGI middleware that lets reads pass and asks writers for a token.

    Args:
        app: the application behind.
        tokens: tokens that may write; none means that nobody may.
        closed: why nobody may write where there are no tokens.
    """

    def __init__(self, app: ASGIApp, tokens: Sequence[str], closed: str = _NO_TOKEN) -> None:
        self._closed = closed
        self._app = app
        self._digests = [_digest(token) for token in tokens]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 401 or 403 without reading its body."""
        if scope["type"] == "http" and not _is_read(scope):
            try:
                self._check(Headers(scope=scope).get("authorization", ""))
            except LaiServiceError as error:
                await problem(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, header: str) -> None:
        if not self._digests:
            raise WritesOffError(f"writes are off: {self._closed}")
        scheme, _, token = header.partition(" ")
        given = _digest(token.strip())
        # All digests are compared, so that the time does not tell which one was close.
        matches = [hmac.compare_digest(given, digest) for digest in self._digests]
        if scheme.lower() != "bearer" or not any(matches):
            what = "is wrong" if header else "is missing"
            raise UnauthorizedError(
                f"the bearer token {what}; send 'Authorization: Bearer <token>'"
            )


def _is_read(scope: Scope) -> bool:
    if scope["method"] in _READING_METHODS:
        return True
    return scope["method"] == "POST" and route_path(scope) in OPEN_READS


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


class BodyLimit:
    """ASGI middleware that refuses large bodies, and smaller ones where anybody may send them.

    Args:
        app: the application behind.
        open_paths: paths whose POST needs no token; their bodies have `MAX_READ_BYTES` at most.
        max_body_bytes: largest body of any request; a larger one is answered 413.
    """

    def __init__(self, app: ASGIApp, open_paths: frozenset[str], max_body_bytes: int) -> None:
        self._app = app
        self._max = max_body_bytes
        self._open_paths = open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer that its body is too large."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_open = route_path(scope) in self._open_paths
        limit = min(MAX_READ_BYTES, self._max) if is_open else self._max
        declared = Headers(scope=scope).get("content-length", "")
        app: ASGIApp = RequestBodyLimitMiddleware(self._app, limit)  # counts what is not declared
        if declared.isdecimal() and int(declared) > limit:
            app = problem(TooLargeError(f"the body has more than {limit} bytes"))
        await app(scope, receive, send)


def route_path(scope: Scope) -> str:
    """Return the path of a request below the root of the service."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


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


_A_DAY = "public, max-age=86400"


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
