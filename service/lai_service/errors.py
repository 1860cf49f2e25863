"""Everything that the service refuses, and the HTTP status of each refusal."""


class LaiServiceError(Exception):
    """Base of every error of this package; its text is one sentence for the caller."""

    status = 500  # HTTP status of the answer


class BadRequestError(LaiServiceError):
    """A parameter or a body that does not mean anything."""

    status = 400


class FilterError(BadRequestError):
    """A CQL2 filter that does not parse, or uses an operator outside the white list."""


class PatchError(BadRequestError):
    """A merge patch or JSON patch that cannot be applied."""


class UnauthorizedError(LaiServiceError):
    """A writing request without a token, or with a wrong one."""

    status = 401


class WritesOffError(LaiServiceError):
    """A writing request to a service without a token, or over a data root that is read-only."""

    status = 403


class ForbiddenPathError(LaiServiceError):
    """A path that leaves the roots the service may read."""

    status = 403


class NotFoundError(LaiServiceError):
    """A collection, item or file that is not there."""

    status = 404


class ConflictError(LaiServiceError):
    """A thing that exists already, where a new one was asked for."""

    status = 409


class TooLargeError(LaiServiceError):
    """A request body above the configured limit."""

    status = 413


class InvalidItemError(LaiServiceError):
    """An item, a collection or a raster that breaks its contract."""

    status = 422


class BrokenFileError(LaiServiceError):
    """A stored item whose raster is gone or damaged: `lai-service repair`."""


class NoPermissionError(LaiServiceError):
    """The user that the service runs as may not read or write a file."""


class StorageFullError(LaiServiceError):
    """No space for what was to be stored; nothing of it is."""

    status = 507


class CatalogueBusyError(LaiServiceError):
    """Another writer held the catalogue for longer than the timeout."""

    status = 503


class SettingsError(LaiServiceError):
    """Settings that cannot work: the service does not start."""
