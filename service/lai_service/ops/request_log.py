"""The record of every request: a line of log, text or JSON, and metrics for Prometheus."""

import json
import logging
import re
import time
import uuid
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LogFormat = Literal["text", "json"]

_log = logging.getLogger("lai_service.requests")
_HEADER = "X-Request-ID"
_PLAIN = re.compile(r"[A-Za-z0-9._-]{1,64}")
_FIELDS = ("request_id", "method", "path", "status", "ms", "client")
_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


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
            seconds = time.perf_counter() - started
            method, path = scope["method"], scope["path"]
            client = (scope.get("client") or ("",))[0]
            values = (request_id, method, path, status, round(seconds * 1000, 1), client)
            level = logging.DEBUG if path.startswith("/_mgmt/") else logging.INFO
            extra = dict(zip(_FIELDS, values, strict=True))
            _log.log(level, "%s %s %r %d %.1f ms %s", *values, extra=extra)
            known = method if method in _METHODS else "OTHER"
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(known, route, str(status)).inc()
            self._metrics.seconds.labels(known, route).observe(seconds)


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
    """Make all loggers of the process write to standard error in one format."""
    text = logging.Formatter("%(asctime)s %(name)s %(message)s")
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonFormatter() if kind == "json" else text)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("stac_fastapi.types.config").setLevel(logging.ERROR)  # warns about defaults
