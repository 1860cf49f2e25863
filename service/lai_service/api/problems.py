"""Errors as answers: `{"code": ..., "description": ...}`, as the STAC API asks."""

from fastapi.responses import JSONResponse

from lai_service.errors import LaiServiceError

__all__ = ["problem"]

_HEADERS = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "1"}}


def problem(error: LaiServiceError) -> JSONResponse:
    """Return the answer to a request that raised this error."""
    code = type(error).__name__.removesuffix("Error")
    body = {"code": code, "description": str(error)}
    return JSONResponse(body, error.status, _HEADERS.get(error.status))
