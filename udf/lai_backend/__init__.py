"""An openEO back-end for one machine: the unmodified `openeo` client connects to it."""

from lai_backend.errors import LaiBackendError
from lai_backend.settings import Settings

__all__ = ["LaiBackendError", "Settings"]
