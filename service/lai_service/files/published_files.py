"""Published files over HTTP, with Range requests; a file that goes meanwhile is 404."""

import os
import re
from typing import Any

from fastapi.staticfiles import StaticFiles
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

_FOR_EVER = "public, max-age=31536000, immutable"
"""`Cache-Control` of a file whose path holds a digest."""
_VERSIONED = re.compile(r"/[0-9a-f]{16}/[^/]+$")


class PublishedFiles(StaticFiles):
    """The data root without its hidden folders (catalogue, locks, staging)."""

    async def get_response(self, path: str, scope: Any) -> Response:  # noqa: ANN401 (ASGI scope)
        """Answer a file, or 404 for what is hidden."""
        if any(part.startswith(".") for part in path.split("/") if part != "."):
            return _not_found(path)
        return await super().get_response(path, scope)

    def file_response(
        self,
        full_path: str | os.PathLike[str],
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        """Answer a file that may be removed at any time, by a new version of its item."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        if isinstance(response, FileResponse):
            response = _RemovableFile(full_path, status_code=status_code, stat_result=stat_result)
        if _VERSIONED.search(str(full_path)):
            response.headers["Cache-Control"] = _FOR_EVER
        return response


class _RemovableFile(FileResponse):
    """Answers 200 only once the file is open; from then on its content stays, removed or not."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file, or 404."""
        held: list[Message] = []

        async def send_late(message: Message) -> None:
            if message["type"] == "http.response.start":
                held.append(message)
                return
            while held:
                await send(held.pop())
            await send(message)

        try:
            await super().__call__(scope, receive, send_late)
        except FileNotFoundError:
            if not held:
                raise
            await _not_found(scope["path"])(scope, receive, send)


def _not_found(path: str) -> Response:
    return JSONResponse({"code": "NotFound", "description": f"no file {path}"}, 404)
