"""Tiles, previews, points and statistics of published rasters, by titiler.

`url` names a published file: its path below the data root or its `/data` address here. Anything
else, in particular any other address, is refused before GDAL opens it.

Pictures are encoded by Pillow in place of GDAL, without a long hold of the interpreter: GDAL packs
a PNG of 2048 x 2048 pixels in a second or two and lets no other thread run meanwhile, not even the
one that answers `/_mgmt/ping`. Pillow packs it piece by piece.
"""

import io
from collections.abc import Callable, Coroutine
from functools import cache
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

import numpy as np
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query
from fastapi.routing import APIRoute
from numpy.typing import NDArray
from PIL import Image
from rasterio._err import CPLE_BaseError
from rasterio.dtypes import dtype_ranges
from rasterio.errors import RasterioError, RasterioIOError
from rio_tiler.colormap import apply_cmap
from rio_tiler.errors import RioTilerError, TileOutsideBounds
from rio_tiler.models import ImageData
from stac_fastapi.types.requests import get_base_url
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from titiler.core.dependencies import create_colormap_dependency
from titiler.core.factory import TilerFactory
from titiler.core.resources.enums import ImageType
from titiler.core.utils import render_image, rescale_array

from lai_service.api.limits import MAX_JP2_PX, check_picture, known_query, problem, turns
from lai_service.errors import BadRequestError, BrokenFileError, ForbiddenPathError, NotFoundError
from lai_service.files.hrefs import DATA_ROUTE, is_safe_path
from lai_service.files.storage import GDAL_ENVIRONMENT, is_tiff, resolve_below
from lai_service.web.colours import colour_maps

PREFIX = "/cog"
PICTURES_AT_ONCE = 4  # pictures that are made at the same time; each may take some 100 MB


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
    try:
        file = resolve_below(data / path, [data])
    except NotFoundError as error:  # whose message would show where the data root is
        raise NotFoundError(f"{url!r} is not published here") from error
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
            Depends(known_query),
            Depends(check_picture),
            Depends(turns(PICTURES_AT_ONCE), scope="function"),
        ],
    )
    app.add_exception_handler(TileOutsideBounds, _answer(404))
    app.add_exception_handler(RioTilerError, _answer(400))
    app.add_exception_handler(RasterioError, _answer(400))
    app.add_exception_handler(RasterioIOError, _broken)


def _broken(request: Request, error: Exception) -> JSONResponse:
    """Answer for a file that GDAL cannot read, whose message would show its path."""
    name = request.query_params.get("url", "a raster of this tile")
    return problem(
        BrokenFileError(f"{name} cannot be read: damaged, or just replaced; run lai-service repair")
    )


def _answer(status: int) -> Callable[[Request, Exception], JSONResponse]:
    def handler(request: Request, error: Exception) -> JSONResponse:
        name = type(error).__name__.removesuffix("Error")
        return JSONResponse({"code": name, "description": str(error)}, status)

    return handler


_KINDS = ("PNG", "JPEG", "WEBP")
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


def render_picture(
    image: ImageData,
    colormap: Any = None,  # noqa: ANN401  (as titiler takes them)
    output_format: ImageType | None = None,
    add_mask: bool = True,
    rescale: Any = None,  # noqa: ANN401
    color_formula: str | None = None,
    **options: Any,  # noqa: ANN401
) -> tuple[bytes, str]:
    """Return a picture and its media type, pixel for pixel that of titiler's `render_image`.

    A JPEG 2000 of more than `MAX_JP2_PX` a side is made smaller.
    """
    if rescale:
        with np.errstate(invalid="ignore"):  # NaN below the mask
            image.rescale(rescale)
    if color_formula:
        image.apply_color_formula(color_formula)
    if output_format is None:
        output_format = ImageType.jpeg if image.mask.all() else ImageType.png
    kind = output_format.driver
    excess = max(image.width, image.height) / MAX_JP2_PX
    if kind == "JP2OpenJPEG" and excess > 1:
        image = image.resize(round(image.height / excess), round(image.width / excess))
    channels = _channels(image, colormap, kind, add_mask)
    if channels is None:
        return render_image(image, colormap, output_format, add_mask, **options)
    content = io.BytesIO()
    pixels = np.ascontiguousarray(np.moveaxis(channels, 0, -1))
    picture = Image.frombytes(_MODES[len(channels)], (image.width, image.height), pixels.data)
    picture.save(content, kind, compress_level=3, **output_format.profile)
    return content.getvalue(), output_format.mediatype


def _channels(
    image: ImageData,
    colormap: Any,  # noqa: ANN401
    kind: str,
    add_mask: bool,
) -> NDArray[np.uint8] | None:
    """Return what Pillow packs, shape (channels, y, x); None where GDAL has to make the picture."""
    data, mask = image.data, image.mask
    if kind not in _KINDS or (data.dtype == np.uint16 and kind == "PNG" and not colormap):
        return None
    if colormap:
        data, alpha = apply_cmap(data, colormap)
        mask = np.where(mask != 0, alpha, 0)
    elif data.dtype != np.uint8:
        ends = image.dataset_statistics or (dtype_ranges[str(data.dtype)],)
        data = rescale_array(data.copy(), mask, in_range=ends)
    if kind == "WEBP" and len(data) == 1:
        data = np.repeat(data, 3, axis=0)
    if kind == "JPEG":
        return data if len(data) in (1, 3) else None
    if add_mask:
        data = np.concatenate((data, mask[np.newaxis]))
    return data.astype(np.uint8) if len(data) in _MODES else None
