"""Errors as answers: `{"code": ..., "description": ...}`, as the STAC API asks."""

from fastapi.responses import JSONResponse

from lai_service.errors import STATUS_CODES, LaiServiceError

__all__ = ["problem", "status_of"]


def status_of(error: LaiServiceError) -> int:
    """Return the HTTP status of an error, from the one table."""
    return next((STATUS_CODES[kind] for kind in type(error).mro() if kind in STATUS_CODES), 500)


def problem(error: LaiServiceError) -> JSONResponse:
    """Return the answer to a request that raised this error."""
    status = status_of(error)
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    if status == 503:
        headers = {"Retry-After": "1"}
    code = type(error).__name__.removesuffix("Error")
    return JSONResponse({"code": code, "description": str(error)}, status, headers)
