"""Pictures without a long hold of the interpreter: encoded by Pillow in place of GDAL.

GDAL packs a PNG of 2048 x 2048 pixels in a second or two and lets no other thread run meanwhile,
not even the one that answers `/_mgmt/ping`. Pillow packs it piece by piece.
"""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rasterio.dtypes import dtype_ranges
from rio_tiler.colormap import apply_cmap
from rio_tiler.models import ImageData
from titiler.core.resources.enums import ImageType
from titiler.core.utils import render_image, rescale_array

from lai_service.errors import BadRequestError

__all__ = ["render_picture"]

MAX_JP2_PX = 512
"""Longest side of a JPEG 2000, which only GDAL can make."""
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

    Raises:
        BadRequestError: a JPEG 2000 of more than `MAX_JP2_PX` a side.
    """
    if rescale:
        image.rescale(rescale)
    if color_formula:
        image.apply_color_formula(color_formula)
    if output_format is None:
        output_format = ImageType.jpeg if image.mask.all() else ImageType.png
    kind = output_format.driver
    if kind == "JP2OpenJPEG" and max(image.width, image.height) > MAX_JP2_PX:
        raise BadRequestError(f"a JPEG 2000 has at most {MAX_JP2_PX} pixels a side; use PNG")
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
