"""Publish: STAC items and their rasters over HTTP, searchable, viewable, with time series.

`create_app` is imported when it is first asked for: it brings titiler and GDAL, which a client of
the service, such as `lai-service publish`, does not need.
"""

from typing import TYPE_CHECKING

from lai_service.errors import LaiServiceError
from lai_service.settings import Settings

if TYPE_CHECKING:
    from lai_service.app import create_app

__all__ = ["LaiServiceError", "Settings", "create_app"]


def __getattr__(name: str) -> object:
    if name == "create_app":
        from lai_service.app import create_app

        return create_app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
