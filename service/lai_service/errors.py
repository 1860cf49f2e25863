"""Everything that the service refuses, and the HTTP status of each refusal.

    LaiServiceError
    ├── BadRequestError          400  a value of the request is wrong
    │   ├── FilterError          400  a CQL2 filter that is broken or asks for too much
    │   └── PatchError           400  a patch that does not fit the document
    ├── UnauthorizedError        401  token missing or unknown
    ├── WritesOffError           403  no token is configured, or the data root is read-only
    ├── ForbiddenPathError       403  a path or href outside the roots
    ├── NotFoundError            404  no such collection, item or file
    ├── ConflictError            409  it exists already
    ├── TooLargeError            413  the request body is above the limit
    ├── InvalidItemError         422  an item, collection or COG that breaks its contract
    ├── BrokenFileError          500  a published raster is gone or damaged: `lai-service repair`
    ├── StorageFullError         507  the disk of the data root or of the catalogue is full
    ├── CatalogueBusyError       503  the catalogue stayed locked; try again
    └── SettingsError            (no status: the service does not start)

`STATUS_CODES` is the one table from error to status; `app.py` hands it to FastAPI.
"""

__all__ = [
    "STATUS_CODES",
    "BadRequestError",
    "BrokenFileError",
    "CatalogueBusyError",
    "ConflictError",
    "FilterError",
    "ForbiddenPathError",
    "InvalidItemError",
    "LaiServiceError",
    "NotFoundError",
    "PatchError",
    "SettingsError",
    "StorageFullError",
    "TooLargeError",
    "UnauthorizedError",
    "WritesOffError",
]


class LaiServiceError(Exception):
    """Base of every error of this package; its text is one sentence for the caller."""


class BadRequestError(LaiServiceError):
    """A parameter or a body that does not mean anything."""


class FilterError(BadRequestError):
    """A CQL2 filter that does not parse, or uses an operator outside the white list."""


class PatchError(BadRequestError):
    """A merge patch or JSON patch that cannot be applied."""


class UnauthorizedError(LaiServiceError):
    """A writing request without a token, or with a wrong one."""


class WritesOffError(LaiServiceError):
    """A writing request to a service that has no token configured, or cannot write itself."""


class ForbiddenPathError(LaiServiceError):
    """A path that leaves the roots the service may read."""


class NotFoundError(LaiServiceError):
    """A collection, item or file that is not there."""


class ConflictError(LaiServiceError):
    """A thing that exists already, where a new one was asked for."""


class TooLargeError(LaiServiceError):
    """A request body above the configured limit."""


class InvalidItemError(LaiServiceError):
    """An item, a collection or a raster that breaks its contract."""


class BrokenFileError(LaiServiceError):
    """A stored item whose raster cannot be read."""


class StorageFullError(LaiServiceError):
    """No space for what was to be stored; nothing of it is."""


class CatalogueBusyError(LaiServiceError):
    """Another writer held the catalogue for longer than the timeout."""


class SettingsError(LaiServiceError):
    """Settings that cannot work together."""


STATUS_CODES: dict[type[LaiServiceError], int] = {
    BadRequestError: 400,
    FilterError: 400,
    PatchError: 400,
    UnauthorizedError: 401,
    WritesOffError: 403,
    ForbiddenPathError: 403,
    NotFoundError: 404,
    ConflictError: 409,
    TooLargeError: 413,
    InvalidItemError: 422,
    BrokenFileError: 500,
    StorageFullError: 507,
    CatalogueBusyError: 503,
    SettingsError: 500,
}
