"""Tiles, previews, points and statistics of published rasters, by titiler.

`url` names a published file: its path below the data root or its `/data` address here. Anything
else, in particular any other address, is refused before GDAL sees it.
"""

from collections.abc import Callable, Coroutine
from functools import cache
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query
from fastapi.routing import APIRoute
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError, RasterioIOError
from rio_tiler.errors import RioTilerError, TileOutsideBounds
from stac_fastapi.types.requests import get_base_url
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from titiler.core.dependencies import create_colormap_dependency
from titiler.core.factory import TilerFactory

from lai_service.api.limits import check_picture, turns
from lai_service.api.problems import problem
from lai_service.errors import BadRequestError, BrokenFileError, ForbiddenPathError
from lai_service.files.hrefs import DATA_ROUTE, is_safe_path
from lai_service.files.rasters import GDAL_ENVIRONMENT, is_tiff
from lai_service.files.storage import resolve_below
from lai_service.web.colours import colour_maps
from lai_service.web.pictures import render_picture

__all__ = ["PREFIX", "add_tiles", "published_raster"]

PREFIX = "/cog"
PICTURES_AT_ONCE = 4
"""Pictures that are made at the same time; each may take some 100 MB."""


def published_raster(url: str, base_url: str, data: Path) -> Path:
    """Return the published raster that a `url` parameter names.

    Args:
        url: path relative to the data root, or an address below `<base_url>data/`.
        base_url: address of this service with its final slash.
        data: data root.

    Raises:
        ForbiddenPathError: the url names anything but a file below the data root.
        NotFoundError: there is no such file.
        BadRequestError: the file is no TIFF.
    """
    own = f"{base_url}{DATA_ROUTE}/"
    path = unquote(urlsplit(url).path[len(urlsplit(own).path) :]) if url.startswith(own) else url
    if not is_safe_path(path) or path.startswith("."):
        raise ForbiddenPathError(f"{url!r} is not a file published here")
    file = resolve_below(data / path, [data])
    if not file.is_file() or not is_tiff(file):
        raise BadRequestError(f"{url!r} is not a published raster")
    return file


def _raster_path(
    request: Request,
    url: Annotated[str, Query(description="Published file: path or /data address")],
) -> str:
    return str(published_raster(url, get_base_url(request), request.app.state.data))


class _Route(APIRoute):
    """Refuses values that titiler hands on unchecked: `bidx`, `nodata`, `colormap`, a box, …."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handler(request)
            except (ArithmeticError, LookupError, TypeError, ValueError) as error:
                raise HTTPException(400, f"a parameter cannot be used: {error}") from error
            except CPLE_BaseError as error:  # an area without width, for one
                raise HTTPException(400, "GDAL cannot read such an area or size") from error

        return answer


@cache  # the same for every application, and most of the time of making one
def _titiler() -> APIRouter:
    factory = TilerFactory(
        router=APIRouter(route_class=_Route),
        router_prefix=PREFIX,
        path_dependency=_raster_path,
        colormap_dependency=create_colormap_dependency(colour_maps()),
        environment_dependency=lambda: dict(GDAL_ENVIRONMENT),
        process_dependency=lambda: None,  # no hill shades of LAI
        render_func=render_picture,
    )
    return factory.router


def add_tiles(app: FastAPI, data: Path) -> None:
    """Add titiler's routes under `/cog` to an application."""
    app.state.data = data
    app.include_router(
        _titiler(),
        prefix=PREFIX,
        tags=["Tiles"],
        dependencies=[
            Depends(check_picture),
            Depends(turns(PICTURES_AT_ONCE), scope="function"),
        ],
    )
    app.add_exception_handler(TileOutsideBounds, _answer(404))
    app.add_exception_handler(RioTilerError, _answer(400))
    app.add_exception_handler(RasterioError, _answer(400))
    app.add_exception_handler(RasterioIOError, _broken)


def _broken(request: Request, error: Exception) -> JSONResponse:
    """Answer for a file that GDAL cannot read, whose words would show where it lies."""
    name = request.query_params.get("url")
    return problem(
        BrokenFileError(f"{name!r} is damaged or was just replaced; run lai-service repair")
    )


def _answer(status: int) -> Callable[[Request, Exception], JSONResponse]:
    def handler(request: Request, error: Exception) -> JSONResponse:
        name = type(error).__name__.removesuffix("Error")
        return JSONResponse({"code": name, "description": str(error)}, status)

    return handler
