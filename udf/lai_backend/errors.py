"""What can go wrong in the back-end, as one family of errors.

Each error carries the openEO error code and the HTTP status that the server answers with; a batch
job writes the same sentence into its log::

    LaiBackendError
    ├── SettingsError       the server was started wrongly
    ├── GraphError          the process graph cannot be resolved
    ├── ParameterError      an argument has a wrong value
    ├── UnsupportedError    openEO allows it, this back-end does not do it
    ├── NoDataError         nothing lies in the extents asked for
    ├── SourceError         a collection, item or asset cannot be read
    ├── AccessError         a path or address outside what the operator allows
    ├── ArchiveError        a UDF dependency archive is missing, hostile or broken
    ├── UdfError            the user's code raised or broke the UDF contract
    ├── MemoryLimitError    the job needs more memory than it may have
    ├── BusyError           too many synchronous requests at work
    ├── ResultError         the result cannot be written
    └── WorkerError         the worker process died
"""

from typing import Any, ClassVar


class LaiBackendError(Exception):
    """Base of all errors of the back-end; the message says what, where and what to do."""

    code: ClassVar[str] = "Internal"
    """openEO error code."""
    status: ClassVar[int] = 500
    """HTTP status."""


class SettingsError(LaiBackendError):
    """The server was started with settings that contradict each other or cannot work."""


class GraphError(LaiBackendError):
    """The process graph cannot be resolved: unknown process, missing node, no result."""

    code = "ProcessGraphInvalid"
    status = 400


class ParameterError(LaiBackendError):
    """An argument of a process has a wrong value."""

    code = "ProcessParameterInvalid"
    status = 400


class UnsupportedError(LaiBackendError):
    """The request is valid openEO, but this back-end does not do it."""

    code = "FeatureUnsupported"
    status = 501


class NoDataError(LaiBackendError):
    """No data lie in the spatial and temporal extent asked for."""

    code = "NoDataAvailable"
    status = 400


class SourceError(LaiBackendError):
    """A collection, STAC item or raster asset cannot be read."""

    code = "SourceUnreadable"
    status = 400


class AccessError(LaiBackendError):
    """A path or address lies outside what the operator of the back-end allows."""

    code = "PathNotAllowed"
    status = 403


class ArchiveError(LaiBackendError):
    """A UDF dependency archive cannot be fetched, is broken, or tries to escape its folder."""

    code = "UdfDependencyInvalid"
    status = 400


class UdfError(LaiBackendError):
    """The user's code raised an error or broke the contract of UDFs."""

    code = "UdfFailed"
    status = 400


class MemoryLimitError(LaiBackendError):
    """The job needs more memory than it may have."""

    code = "OutOfMemory"
    status = 400


class BusyError(LaiBackendError):
    """As many synchronous requests as there may be are at work."""

    code = "TooManyRequests"
    status = 429


class ResultError(LaiBackendError):
    """The result cannot be written."""

    code = "StorageFailure"
    status = 500


class WorkerError(LaiBackendError):
    """The worker process ended without an outcome: killed, out of memory, or crashed."""

    code = "WorkerDied"
    status = 500


def describe_error(error: BaseException) -> dict[str, Any]:
    """Return an error as JSON for the outcome of a worker.

    Args:
        error: any exception; one outside our family is reported as `Internal`.

    Returns:
        `code`, `message` and HTTP `status`.
    """
    if isinstance(error, LaiBackendError):
        return {"code": error.code, "message": str(error), "status": error.status}
    message = f"{type(error).__name__}: {error}"
    return {"code": LaiBackendError.code, "message": message, "status": LaiBackendError.status}
