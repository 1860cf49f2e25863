"""Who may write: a bearer token guards every request that is not a read.

The guard sits in front of the routes, so a route that is added later is guarded without anybody
having to remember it. `OPEN_READS` lists the only POST requests that are reads. Without a token in
the settings, writes are off for everybody.
"""

import hashlib
import hmac
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from lai_service.api.limits import route_path
from lai_service.api.problems import problem
from lai_service.errors import LaiServiceError, UnauthorizedError, WritesOffError

__all__ = ["OPEN_READS", "TokenGuard"]

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
