"""One line for every request, as text or as JSON, with an id that the caller gets too."""

import json
import logging
import re
import time
import uuid
from typing import Literal

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["LogFormat", "RequestLog", "configure_logging"]

LogFormat = Literal["text", "json"]

_log = logging.getLogger("lai_service.requests")
_HEADER = "X-Request-ID"
_PLAIN = re.compile(r"[A-Za-z0-9._-]{1,64}")
_FIELDS = ("request_id", "method", "path", "status", "ms", "client")


class RequestLog:
    """ASGI middleware that writes a line when a request is done.

    The id is that of the header `X-Request-ID` where a proxy has set one, a new one otherwise; the
    answer carries it. Requests for `/_mgmt` are logged as DEBUG.

    Args:
        app: the application behind.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and log it, also when it fails."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(_HEADER, "")
        request_id = given if _PLAIN.fullmatch(given) else uuid.uuid4().hex[:16]
        status = 500
        started = time.perf_counter()

        async def marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[_HEADER] = request_id
            await send(message)

        try:
            await self._app(scope, receive, marked)
        finally:
            ms = round((time.perf_counter() - started) * 1000, 1)
            client = (scope.get("client") or ("",))[0]
            values = (request_id, scope["method"], scope["path"], status, ms, client)
            level = logging.DEBUG if scope["path"].startswith("/_mgmt/") else logging.INFO
            _log.log(
                level,
                "%s %s %r %d %.1f ms %s",
                *values,
                extra=dict(zip(_FIELDS, values, strict=True)),
            )


class _JsonFormatter(logging.Formatter):
    """Writes a record as one JSON object on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return time (UTC), level, logger, and the fields of a request or the message."""
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, object] = {
            "time": f"{when}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        fields = {name: getattr(record, name) for name in _FIELDS if hasattr(record, name)}
        line |= fields or {"message": record.getMessage()}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure_logging(kind: LogFormat) -> None:
    """Let all loggers of the process write to standard error in one format."""
    handler = logging.StreamHandler()
    if kind == "json":
        handler.setFormatter(_JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("stac_fastapi.types.config").setLevel(logging.ERROR)  # warns about defaults
