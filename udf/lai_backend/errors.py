"""What can go wrong in the back-end, as one family of errors.

Each error carries the openEO error code and the HTTP status that the server answers with; a batch
job writes the same sentence into its log.
"""

from typing import Any, ClassVar


class LaiBackendError(Exception):
    """Base of all errors of the back-end; the message states what, where and what to do."""

    code: ClassVar[str] = "Internal"  # openEO error code
    status: ClassVar[int] = 500  # HTTP status

    def __init_subclass__(cls, code: str = "Internal", status: int = 500) -> None:
        cls.code, cls.status = code, status


class SettingsError(LaiBackendError):
    """The server was started with settings that contradict each other or cannot work."""


class GraphError(LaiBackendError, code="ProcessGraphInvalid", status=400):
    """The process graph cannot be resolved: missing node, no result."""


class UnknownProcessError(LaiBackendError, code="ProcessUnsupported", status=400):
    """There is no process of that name."""


class ParameterError(LaiBackendError, code="ProcessParameterInvalid", status=400):
    """An argument of a process has a wrong value."""


class UnsupportedError(LaiBackendError, code="FeatureUnsupported", status=501):
    """The request is valid openEO, but this back-end does not do it."""


class NoDataError(LaiBackendError, code="NoDataAvailable", status=400):
    """No data lie in the spatial and temporal extent asked for."""


class SourceError(LaiBackendError, code="SourceUnreadable", status=400):
    """A collection, STAC item or raster asset cannot be read."""


class AccessError(LaiBackendError, code="PathNotAllowed", status=403):
    """A path or address lies outside what the operator of the back-end allows."""


class ArchiveError(LaiBackendError, code="UdfDependencyInvalid", status=400):
    """A UDF dependency archive cannot be fetched, is broken, or tries to escape its folder."""


class UdfError(LaiBackendError, code="UdfFailed", status=400):
    """The user's code raised an error or broke the contract of UDFs."""


class MemoryLimitError(LaiBackendError, code="OutOfMemory", status=400):
    """The job needs more memory than it may have."""


class BusyError(LaiBackendError, code="TooManyRequests", status=429):
    """As many synchronous requests as there may be are at work."""


class ResultError(LaiBackendError, code="StorageFailure", status=500):
    """The result cannot be written."""


class WorkerError(LaiBackendError, code="WorkerDied", status=500):
    """The worker process ended without an outcome: killed, out of memory, or crashed."""


def describe_error(error: BaseException) -> dict[str, Any]:
    """Return any exception as `code`, `message` and HTTP `status`, for the outcome of a worker."""
    if isinstance(error, LaiBackendError):
        return {"code": error.code, "message": str(error), "status": error.status}
    message = f"{type(error).__name__}: {error}"
    return {"code": LaiBackendError.code, "message": message, "status": LaiBackendError.status}
