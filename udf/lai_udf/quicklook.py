"""The picture of a result for people: LAI with title, date, legend and scale; PNG.

The colours are those of every picture of LAI (`lai_udf.picture`). Pixels without LAI are grey, by
the reason where flags say it; pixels that statistics leave out are dotted.
"""

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from lai_udf.picture import LAI_RANGE, MAX_SIDE_PX, colour_lai, colour_table, magnify, shrink
from lai_udf.predict import CLOUD_NEAR, UNUSABLE_FLAGS

CLOUD = (233, 236, 240)
NO_DATA = (170, 170, 170)
LEFT_OUT = (130, 80, 170)
"""sRGB of the legend."""
_MIN_WIDTH_PX = 460
_LINE_PX, _MARGIN_PX, _FONT_PX = 22, 8, 13
_DOT_EVERY = 4


def draw_quicklook(
    lai: npt.NDArray[Any], flags: npt.NDArray[Any] | None, title: str, subtitle: str = ""
) -> bytes:
    """Return a PNG of LAI.

    Args:
        lai: m2 m-2, (y, x), NaN = no data.
        flags: `LAI_FLAGS`, (y, x); None: reasons are unknown.
        title: what and when, such as `LAI 2024-06-21, 32TPU`.
        subtitle: a second line, such as the product.
    """
    step = max(1, -(-max(lai.shape) // MAX_SIDE_PX))
    small = shrink(lai, step=step)
    bits = np.zeros(lai.shape, "uint8") if flags is None else np.nan_to_num(flags).astype("uint8")
    bits = bits[::step, ::step]
    picture = colour_lai(small)
    gone = ~np.isfinite(small)
    cloud = gone & (bits & CLOUD_NEAR > 0)
    for channel in range(3):
        picture[channel][gone] = NO_DATA[channel]
        picture[channel][cloud] = CLOUD[channel]
    picture[3] = 255
    left_out = ~gone & (bits & UNUSABLE_FLAGS > 0)
    large = np.moveaxis(magnify(np.concatenate([picture, left_out[None]])), 0, -1)
    rows, columns = np.mgrid[: large.shape[0], : large.shape[1]]
    dots = (large[..., 4] > 0) & (rows % _DOT_EVERY == 0) & (columns % _DOT_EVERY == 0)
    large[dots, :3] = LEFT_OUT
    return _compose(Image.fromarray(large[..., :3]), title, subtitle)


def _compose(image: Image.Image, title: str, subtitle: str) -> bytes:
    """Return the image with two lines above it and the legend below, as a PNG."""
    width = max(image.width, _MIN_WIDTH_PX) + 2 * _MARGIN_PX
    above = _MARGIN_PX + _LINE_PX * (2 if subtitle else 1)
    sheet = Image.new("RGB", (width, above + image.height + 2 * _LINE_PX + 2 * _MARGIN_PX), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(_FONT_PX)
    pen.text((_MARGIN_PX, _MARGIN_PX), title, "black", font)
    if subtitle:
        pen.text((_MARGIN_PX, _MARGIN_PX + _LINE_PX), subtitle, (90, 90, 90), font)
    sheet.paste(image, ((width - image.width) // 2, above))
    y = above + image.height + _MARGIN_PX
    low, high = LAI_RANGE
    x = _write(pen, _MARGIN_PX, y, f"LAI {low:g}", font)
    bar = Image.fromarray(np.repeat(colour_table(140)[None], 12, axis=0))
    sheet.paste(bar, (x, y + 2))
    _write(pen, x + bar.width + 6, y, f"{high:g} m² m⁻² and more", font)
    x, y = _MARGIN_PX, y + _LINE_PX
    for colour, text in (
        (NO_DATA, "no data"),
        (CLOUD, "cloud, shadow, snow"),
        (LEFT_OUT, "left out of statistics"),
    ):
        pen.rectangle((x, y + 2, x + 12, y + 14), fill=colour, outline=(120, 120, 120))
        x = _write(pen, x + 18, y, text, font) + 10
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


def _write(pen: ImageDraw.ImageDraw, x: int, y: int, text: str, font: Any) -> int:  # noqa: ANN401
    """Write a text; return where the next thing goes."""
    pen.text((x, y), text, "black", font)
    return x + int(pen.textlength(text, font)) + 6
