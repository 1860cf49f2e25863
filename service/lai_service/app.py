"""The application: `create_app(settings)` puts the packages together, and holds no logic."""

import errno
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from pathlib import Path

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic_settings import SettingsConfigDict
from stac_fastapi.api.app import StacApi
from stac_fastapi.api.models import (
    ItemCollectionUri,
    create_get_request_model,
    create_post_request_model,
)
from stac_fastapi.extensions.fields import FieldsExtension
from stac_fastapi.extensions.filter import FilterConformanceClasses, FilterExtension
from stac_fastapi.extensions.pagination import TokenPaginationExtension
from stac_fastapi.extensions.query import QueryExtension
from stac_fastapi.extensions.sort import SearchSortExtension, SortConformanceClasses
from stac_fastapi.types.config import ApiSettings
from stac_fastapi.types.extension import ApiExtension
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import DEFAULT_EXCLUDED_CONTENT_TYPES, GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse

from lai_service.api.aggregations import Aggregations
from lai_service.api.collection_search import collection_search_extension
from lai_service.api.limits import (
    OPEN_READS,
    BodyLimit,
    HeadAsGet,
    Metrics,
    PictureCaching,
    RequestLog,
    TokenGuard,
    problem,
)
from lai_service.api.publish_route import Intake, add_publish
from lai_service.api.stac_api import FiltersClient, SearchBody, StacClient
from lai_service.api.timeseries import add_timeseries
from lai_service.api.transactions import Transactions
from lai_service.catalogue.databases import open_catalogue
from lai_service.catalogue.port import Catalogue
from lai_service.errors import LaiServiceError, NoPermissionError, SettingsError, StorageFullError
from lai_service.files.hrefs import DATA_ROUTE
from lai_service.files.published_files import PublishedFiles
from lai_service.settings import Settings, read_settings, warn_of_unknown_variables
from lai_service.web.api_page import word_offline
from lai_service.web.browser import add_browser
from lai_service.web.map_page import add_map_page
from lai_service.web.mosaic import add_mosaic
from lai_service.web.tiles import PREFIX, add_tiles

_log = logging.getLogger("lai_service")
_LACKING = (
    FilterConformanceClasses.COLLECTIONS,
    FilterConformanceClasses.FUNCTIONS,
    FilterConformanceClasses.ACCENT_INSENSITIVE_COMPARISON,
    FilterConformanceClasses.BASIC_SPATIAL_FUNCTIONS_PLUS,
)
"""What filters cannot do."""


def create_app(settings: Settings | None = None, catalogue: Catalogue | None = None) -> FastAPI:
    """Build the service.

    Args:
        settings: what to serve; read from the environment where not given.
        catalogue: database; the one of the settings where not given.

    Returns:
        An ASGI application: the STAC API at `/`, files at `/data`, tiles at `/cog`, `/publish`,
        `/timeseries`, `/browser` and `/_mgmt`.

    Raises:
        SettingsError: the settings cannot work.
    """
    if settings is None:
        settings = read_settings()
        warn_of_unknown_variables()
    tokens = settings.tokens()
    settings.check_roots()
    if settings.is_writable():
        settings.data.mkdir(parents=True, exist_ok=True)
    elif not settings.data.is_dir():
        raise SettingsError(f"{settings.data} does not exist and cannot be made")
    else:
        settings = settings.model_copy(update={"read_only": True})
        _log.warning("%s cannot be written: the service only reads", settings.data)
    catalogue = catalogue or open_catalogue(settings)
    app = FastAPI(
        title=settings.title,
        description=settings.description,
        version="1",
        openapi_url="/api",
        docs_url="/api.html",
        redoc_url=None,
        lifespan=partial(_lifespan, catalogue=catalogue),
    )
    app.state.catalogue = catalogue
    app.add_exception_handler(LaiServiceError, _on_error)
    app.add_exception_handler(RecursionError, _on_too_deep)
    app.add_exception_handler(OSError, _on_os_error)
    _add_stac(app, settings, catalogue)
    word_offline(app)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    add_publish(app, Intake(catalogue, settings))
    metrics = Metrics()
    app.add_api_route("/_mgmt/metrics", metrics.response, include_in_schema=False)
    add_timeseries(app, catalogue, settings.data, settings.models)
    app.mount(f"/{DATA_ROUTE}", PublishedFiles(directory=settings.data), name="data")
    add_browser(app, settings)
    add_mosaic(app, settings, catalogue)
    add_map_page(app, catalogue)
    add_tiles(app, settings.data)  # last: its many routes are only built when one is asked for
    # The last one added is the first one asked.
    app.add_middleware(PictureCaching, prefix=PREFIX)
    app.add_middleware(
        GZipMiddleware,
        minimum_size=1024,
        compresslevel=5,
        thread_minimum_size=1024 * 1024,  # a page of 50 items takes less than to change threads
        exclude_content_types=(*DEFAULT_EXCLUDED_CONTENT_TYPES, "image/*"),  # COGs keep ranges
    )
    app.add_middleware(HeadAsGet)
    app.add_middleware(BodyLimit, open_paths=OPEN_READS, max_body_bytes=settings.max_body_bytes)
    if settings.read_only:
        app.add_middleware(TokenGuard, tokens=(), closed="the data root is read-only")
    elif not settings.writes_checked_by_proxy:
        app.add_middleware(TokenGuard, tokens=tokens)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=list(settings.cors_origins),
        allow_methods=["GET", "HEAD", "OPTIONS", "POST"],
        allow_headers=["Content-Type", "Range", "If-Range"],
        expose_headers=["Content-Range", "Content-Length", "Accept-Ranges", "ETag", "X-Request-ID"],
        max_age=600,
    )
    app.add_middleware(RequestLog, metrics=metrics)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI, catalogue: Catalogue) -> AsyncIterator[None]:
    yield
    catalogue.close()


async def _on_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, LaiServiceError)
    return problem(error)


async def _on_too_deep(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"code": "BadRequest", "description": "the body is nested too deep"}, 400)


async def _on_os_error(request: Request, error: Exception) -> JSONResponse:
    """Answer what the operator mends: a full disk, rights. Any other fault is ours to look at."""
    assert isinstance(error, OSError)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return problem(StorageFullError("the disk is full; nothing was stored"))
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        _log.error("%s %s: %s", request.method, request.url.path, error)
        name = Path(str(error.filename or "a file")).name  # where it lies is nobody's business
        return problem(
            NoPermissionError(f"the user that the service runs as may not read or write {name}")
        )
    raise error


async def _on_http(request: Request, error: Exception) -> JSONResponse:
    """Give the refusals of the frameworks below us the same form as ours."""
    assert isinstance(error, HTTPException)
    code = HTTPStatus(error.status_code).phrase.title().replace(" ", "")
    body = {"code": code, "description": str(error.detail)}
    return JSONResponse(body, error.status_code, error.headers)


async def _on_invalid(request: Request, error: Exception) -> JSONResponse:
    """Answer 400 with the first thing that is wrong, and without repeating the body."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    text = f"{place}: {first['msg']}"
    return JSONResponse({"code": "BadRequest", "description": text}, 400)


class _StacSettings(ApiSettings):
    """Settings of stac-fastapi, from our own only: it would read a `.env` and bare names."""

    model_config = SettingsConfigDict(env_file=None, env_prefix="LAI_SERVICE_STAC_", extra="ignore")


def _add_stac(app: FastAPI, settings: Settings, catalogue: Catalogue) -> None:
    api_settings = _StacSettings(
        stac_fastapi_title=settings.title,
        stac_fastapi_description=settings.description,
        stac_fastapi_landing_id=settings.landing_id,
        stac_fastapi_version="1",
        enable_response_models=False,
    )
    searching: list[ApiExtension] = [
        FilterExtension(
            client=FiltersClient(catalogue=catalogue),
            conformance_classes=[one for one in FilterConformanceClasses if one not in _LACKING],
        ),
        SearchSortExtension(
            conformance_classes=[
                SortConformanceClasses.ITEM_SEARCH_SORT,
                "https://api.stacspec.org/v1.0.0/item-search#sort",  # pystac-client looks for it
            ]
        ),
        FieldsExtension(),
        QueryExtension(),
        TokenPaginationExtension(),
    ]
    writing = Transactions(catalogue=catalogue, data=settings.data)
    collections = collection_search_extension()
    StacApi(
        settings=api_settings,
        app=app,
        client=StacClient(
            catalogue=catalogue,
            landing_page_id=settings.landing_id,
            title=settings.title,
            description=settings.description,
        ),
        extensions=[*searching, collections, Aggregations(catalogue=catalogue), writing],
        title=settings.title,
        description=settings.description,
        stac_version="1.1.0",
        exceptions={},
        middlewares=[],
        health_check=lambda: {"status": "UP", **catalogue.health()},
        collections_get_request_model=collections.GET,
        search_get_request_model=create_get_request_model(searching),
        search_post_request_model=create_post_request_model(searching, SearchBody),
        items_get_request_model=create_get_request_model(searching, ItemCollectionUri),
    )
