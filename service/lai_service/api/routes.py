"""Routes of our own, beside the STAC API: publish, files, metrics, the browser."""

from fastapi import FastAPI
from starlette.responses import Response

from lai_service.api.publish_route import add_publish
from lai_service.api.timeseries import add_timeseries
from lai_service.catalogue.port import Catalogue
from lai_service.files.hrefs import DATA_ROUTE
from lai_service.files.openeo_results import ResultsPublisher
from lai_service.files.published_files import PublishedFiles
from lai_service.files.publishing import Publisher
from lai_service.ops.metrics import Metrics
from lai_service.settings import Settings
from lai_service.web.browser import add_browser
from lai_service.web.map_page import add_map_page
from lai_service.web.mosaic import add_mosaic

__all__ = ["add_routes"]


def add_routes(
    app: FastAPI,
    settings: Settings,
    catalogue: Catalogue,
    publisher: Publisher,
    metrics: Metrics,
) -> None:
    """Add our routes to an application."""
    add_publish(app, publisher, ResultsPublisher(catalogue, settings))

    @app.get("/_mgmt/metrics", include_in_schema=False)
    def prometheus() -> Response:
        return metrics.response()

    add_timeseries(app, catalogue, settings.data, settings.models)
    app.mount(f"/{DATA_ROUTE}", PublishedFiles(directory=settings.data), name="data")
    add_browser(app, settings)
    add_mosaic(app, settings, catalogue)
    add_map_page(app, catalogue)
