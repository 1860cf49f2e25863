"""What can go wrong in the back-end, as one family of errors.

Each error carries the openEO error code and the HTTP status that the server answers with; a batch
job writes the same sentence into its log.
"""

from typing import Any, ClassVar


class LaiBackendError(Exception):
    """Base of all errors of the back-end; the message says what, where and what to do."""

    code: ClassVar[str] = "Internal"  # openEO error code
    status: ClassVar[int] = 500  # HTTP status


class SettingsError(LaiBackendError):
    """The server was started with settings that contradict each other or cannot work."""


class GraphError(LaiBackendError):
    """The process graph cannot be resolved: unknown process, missing node, no result."""

    code, status = "ProcessGraphInvalid", 400


class ParameterError(LaiBackendError):
    """An argument of a process has a wrong value."""

    code, status = "ProcessParameterInvalid", 400


class UnsupportedError(LaiBackendError):
    """The request is valid openEO, but this back-end does not do it."""

    code, status = "FeatureUnsupported", 501


class NoDataError(LaiBackendError):
    """No data lie in the spatial and temporal extent asked for."""

    code, status = "NoDataAvailable", 400


class SourceError(LaiBackendError):
    """A collection, STAC item or raster asset cannot be read."""

    code, status = "SourceUnreadable", 400


class AccessError(LaiBackendError):
    """A path or address lies outside what the operator of the back-end allows."""

    code, status = "PathNotAllowed", 403


class ArchiveError(LaiBackendError):
    """A UDF dependency archive cannot be fetched, is broken, or tries to escape its folder."""

    code, status = "UdfDependencyInvalid", 400


class UdfError(LaiBackendError):
    """The user's code raised an error or broke the contract of UDFs."""

    code, status = "UdfFailed", 400


class MemoryLimitError(LaiBackendError):
    """The job needs more memory than it may have."""

    code, status = "OutOfMemory", 400


class BusyError(LaiBackendError):
    """As many synchronous requests as there may be are at work."""

    code, status = "TooManyRequests", 429


class ResultError(LaiBackendError):
    """The result cannot be written."""

    code, status = "StorageFailure", 500


class WorkerError(LaiBackendError):
    """The worker process ended without an outcome: killed, out of memory, or crashed."""

    code, status = "WorkerDied", 500


def describe_error(error: BaseException) -> dict[str, Any]:
    """Return any exception as `code`, `message` and HTTP `status`, for the outcome of a worker."""
    if isinstance(error, LaiBackendError):
        return {"code": error.code, "message": str(error), "status": error.status}
    message = f"{type(error).__name__}: {error}"
    return {"code": LaiBackendError.code, "message": message, "status": LaiBackendError.status}
