"""Publish: STAC items and their rasters over HTTP, searchable, viewable, with time series."""

from lai_service.app import create_app
from lai_service.errors import LaiServiceError
from lai_service.settings import Settings

__all__ = ["LaiServiceError", "Settings", "create_app"]
