"""What every request passes, its record, and what one that anybody may send can cost.

The guard of the token sits in front of the routes, so a route that is added later is guarded
without a list to maintain. `OPEN_READS` lists the only POST requests that are reads.
Without a token in the settings, writes are off for everybody. Every limit (bytes, depth, vertices,
pixels) is checked before the work that it bounds, and answered with 400 or 413. Work on pixels
waits for its turn, so that many requests take longer and not more memory. The path of a published
raster holds the digest of its bytes, so neither it nor a picture of it ever changes.
"""

import asyncio
import hashlib
import hmac
import logging
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from fastapi.dependencies.models import Dependant
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lai_service.errors import (
    BadRequestError,
    LaiServiceError,
    TooLargeError,
    UnauthorizedError,
    WritesOffError,
)
from lai_service.files.hrefs import DATA_ROUTE
from lai_service.ops.request_log import FIELDS

MAX_DEPTH = 48
"""Deepest nesting of JSON in a body that is read; SQLite's parser takes some 50 levels."""
MAX_VALUES = 50_000
"""Most values in a body: objects, lists and what they hold, a position being one."""
MAX_READ_BYTES = 1024 * 1024  # largest body of a request that needs no token
MAX_VERTICES = 8_000  # most vertices of a geometry
MAX_PICTURE_PX = 2048  # longest side of a picture
MAX_JP2_PX = 512  # longest side of a JPEG 2000, whose encoders let no other thread run

_SIZES = ("width", "height", "max_size", "tilesize", "buffer", "padding", "histogram_bins")
_MAX_REPEATED = 8
_MAX_EXPRESSION = 200

_log = logging.getLogger("lai_service.requests")
_REQUEST_ID = "X-Request-ID"
_PLAIN = re.compile(r"[A-Za-z0-9._-]{1,64}")
_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

_HEADERS = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "1"}}


def problem(error: LaiServiceError) -> JSONResponse:
    """Return the answer to a request that raised this error."""
    code = type(error).__name__.removesuffix("Error")
    body = {"code": code, "description": str(error)}
    return JSONResponse(body, error.status, _HEADERS.get(error.status))


OPEN_READS = frozenset({"/search", "/aggregate", "/timeseries"})  # paths whose POST only reads

_NO_TOKEN = "the service has no token; set LAI_SERVICE_TOKEN to allow them"
_READING_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class TokenGuard:
    """ASGI middleware that passes reads and requires a token of writers.

    Args:
        app: the application behind.
        tokens: tokens that may write; without any, writes are refused.
        closed: why writes are refused where there are no tokens.
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
        # All digests are compared, so that the time does not reveal which one was close.
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


class Metrics:
    """Counts and durations by route, not by address; each application has a registry of its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "lai_service_requests",
            "Requests answered",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self.seconds = Histogram(
            "lai_service_request_seconds",
            "Time from request to answer",
            ("method", "route"),
            buckets=_BUCKETS,
            registry=self._registry,
        )

    def response(self) -> Response:
        """Return the metrics in the text format of Prometheus."""
        return Response(
            generate_latest(self._registry), media_type="text/plain; version=0.0.4; charset=utf-8"
        )


class RequestLog:
    """ASGI middleware that writes a line and counts when a request is done, also when it fails.

    The id is that of the header `X-Request-ID` where a proxy has set one, a new one otherwise; the
    answer carries it. Requests for `/_mgmt` are logged as DEBUG.

    Args:
        app: the application behind.
        metrics: where to count.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(_REQUEST_ID, "")
        request_id = given if _PLAIN.fullmatch(given) else uuid.uuid4().hex[:16]
        status = 500
        started = time.perf_counter()

        async def marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[_REQUEST_ID] = request_id
            await send(message)

        try:
            await self._app(scope, receive, marked)
        finally:
            seconds = time.perf_counter() - started
            method, path = scope["method"], scope["path"]
            client = (scope.get("client") or ("",))[0]
            values = (request_id, method, path, status, round(seconds * 1000, 1), client)
            level = logging.DEBUG if path.startswith("/_mgmt/") else logging.INFO
            extra = dict(zip(FIELDS, values, strict=True))
            _log.log(level, "%s %s %r %d %.1f ms %s", *values, extra=extra)
            known = method if method in _METHODS else "OTHER"
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(known, route, str(status)).inc()
            self._metrics.seconds.labels(known, route).observe(seconds)


def check_json(value: object) -> None:
    """Check depth and number of values and positions of JSON that was read, and its texts.

    Raises:
        ValueError: it is nested deeper than `MAX_DEPTH`, holds more than `MAX_VALUES` values, half
            a surrogate pair, or lists of coordinates of more than `MAX_VERTICES` positions.
    """
    vertices = values = 0
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"the body is nested more than {MAX_DEPTH} deep")
        values += len(level)
        if values > MAX_VALUES:
            raise ValueError(f"the body holds more than {MAX_VALUES} values")
        for text in (node for node in level if isinstance(node, str)):
            text.encode()  # raises of half a surrogate pair
        vertices += sum(_is_position(node) for node in level)
        if vertices > MAX_VERTICES:
            raise ValueError(f"the geometries have more than {MAX_VERTICES} vertices; simplify")
        level = [child for node in level for child in _children(node)]


def _is_position(node: object) -> bool:
    return isinstance(node, list) and len(node) in (2, 3) and isinstance(node[0], int | float)


def _children(node: object) -> Iterator[object]:
    if isinstance(node, Mapping):
        return iter(node.values())
    return iter(node) if isinstance(node, list) and not _is_position(node) else iter(())


def check_picture(request: Request) -> None:
    """Check how large a picture or a list of bands a request for tiles asks for.

    Raises:
        BadRequestError: a side is longer than `MAX_PICTURE_PX`, of a JPEG 2000 than `MAX_JP2_PX`,
            or too many bands or terms.
    """
    asked = {**request.query_params, **request.path_params}
    limit = MAX_JP2_PX if asked.get("format") == "jp2" else MAX_PICTURE_PX
    for name in _SIZES:
        if name in asked and _number(asked[name], name) > limit:
            raise BadRequestError(f"{name} is {asked[name]}, more than {limit}")
    for name in dict.fromkeys(request.query_params):
        if len(request.query_params.getlist(name)) > _MAX_REPEATED:
            raise BadRequestError(f"{name} is given more than {_MAX_REPEATED} times")
    expression = request.query_params.get("expression", "")
    if len(expression) > _MAX_EXPRESSION or expression.count(";") >= _MAX_REPEATED:
        raise BadRequestError(f"expression has more than {_MAX_EXPRESSION} characters or 8 bands")


def known_query(request: Request) -> None:
    """Check that a route has every parameter of the query: an ignored one changes the meaning.

    Raises:
        BadRequestError: it lacks one.
    """
    check_query(request)


def check_query(request: Request, others: Collection[str] = ()) -> None:
    """Check that a route has every parameter of the query, or that it is one of some others.

    Raises:
        BadRequestError: it is neither.
    """
    known = list(dict.fromkeys(_names(request.scope["route"].dependant)))
    for name in request.query_params:
        if name not in known and name not in others:
            text = ", ".join(known) or "none"
            raise BadRequestError(f"{name!r} is no parameter of this request; it has {text}")


def _names(dependant: Dependant) -> Iterator[str]:
    """Yield the parameters of the query that a route, and what it depends on, takes."""
    yield from (field.alias for field in dependant.query_params)
    for one in dependant.dependencies:
        yield from _names(one)


def _number(text: Any, name: str) -> int:  # noqa: ANN401 (a parameter as given)
    try:
        return int(text)
    except ValueError as error:
        raise BadRequestError(f"{name} must be a whole number, not {text!r}") from error


def turns(at_once: int) -> Callable[[], AsyncIterator[None]]:
    """Return a dependency that lets so many requests work at once; the others wait."""
    free = asyncio.Semaphore(at_once)

    async def turn() -> AsyncIterator[None]:
        async with free:
            yield

    return turn
