"""Publish: STAC items and their rasters over HTTP, searchable, viewable, with time series.

`create_app` and `Settings` are imported when they are first asked for: titiler and GDAL are not
needed by a client of the service, and nothing of the extra `service` by `lai-service --help`, which
prints how to install it.
"""

from typing import TYPE_CHECKING

from lai_service.errors import LaiServiceError

if TYPE_CHECKING:
    from lai_service.app import create_app
    from lai_service.settings import Settings

__all__ = ["LaiServiceError", "Settings", "create_app"]


def __getattr__(name: str) -> object:
    if name == "create_app":
        from lai_service.app import create_app

        return create_app
    if name == "Settings":
        from lai_service.settings import Settings

        return Settings
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
