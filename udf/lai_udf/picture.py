"""LAI as a picture: small and transparent where there is no data, or with title and legend.

The colours run from pale straw over green to dark blue-green; their lightness (CIE L*) falls
evenly, so the order of LAI survives in greyscale, in print and for colour-blind readers.
"""

import io
import unicodedata
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from lai_udf.predict import CLOUD_NEAR, UNUSABLE_FLAGS

MAX_SIDE_PX = 512
MIN_SIDE_PX = 256
"""A picture of a few fields is magnified by a whole number until it is about this large."""
LAI_RANGE = (0.0, 6.0)  # m2 m-2; values beyond take the outermost colour
_HEX = "fcf6db e8e4a3 c3d578 90c15c 5ba94e 2b8e49 0e7147 085441 0c3835 0c1e26"
ANCHORS = tuple((r, g, b) for r, g, b in map(bytes.fromhex, _HEX.split()))
"""sRGB of equally spaced LAI from the lower to the upper end of `LAI_RANGE`."""
CLOUD = (233, 236, 240)
NO_DATA = (170, 170, 170)
LEFT_OUT = (130, 80, 170)  # sRGB of the legend
_MIN_WIDTH_PX = 460
_LINE_PX, _MARGIN_PX, _FONT_PX = 22, 8, 13
_DOT_EVERY = 4


def colour_table(
    size: int = 256, anchors: tuple[tuple[int, int, int], ...] = ANCHORS
) -> npt.NDArray[np.uint8]:
    """Return a colour map, shape (size, 3) uint8: that of LAI, rising, or through other anchors."""
    stops, at = np.linspace(0, 1, len(anchors)), np.linspace(0, 1, size)
    channels = [np.interp(at, stops, channel) for channel in zip(*anchors, strict=True)]
    table: npt.NDArray[np.uint8] = np.rint(np.stack(channels, axis=1)).astype("uint8")
    return table


def colour_lai(lai: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Turn LAI (y, x), m2 m-2, into RGBA (4, y, x) uint8; alpha 0 where there is no data."""
    table = colour_table()
    low, high = LAI_RANGE
    valid = np.isfinite(lai)
    position = np.clip((np.where(valid, lai, low) - low) / (high - low), 0, 1)
    index = np.rint(position * (len(table) - 1)).astype("int64")
    picture = np.zeros((4, *lai.shape), dtype="uint8")
    picture[:3] = np.moveaxis(table[index], -1, 0) * valid
    picture[3] = valid * np.uint8(255)
    return picture


def shrink(
    lai: npt.NDArray[Any], max_side: int = MAX_SIDE_PX, step: int | None = None
) -> npt.NDArray[np.float32]:
    """Average blocks (of side `step`) until no side exceeds `max_side`; NaN is left out."""
    step = step or max(1, -(-max(lai.shape) // max_side))
    if step == 1:
        return np.asarray(lai, dtype="float32")
    height, width = lai.shape
    padded = np.pad(
        lai.astype("float32"), [(0, -height % step), (0, -width % step)], constant_values=np.nan
    )
    blocks = padded.reshape(padded.shape[0] // step, step, -1, step)
    valid = np.isfinite(blocks)
    count = valid.sum(axis=(1, 3))
    total = np.where(valid, blocks, 0).sum(axis=(1, 3), dtype="float64")
    mean = np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)
    return np.asarray(mean, dtype="float32")


def magnify(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Repeat the pixels of a small picture, (channel, y, x), up to about `MIN_SIDE_PX`."""
    factor = max(1, MIN_SIDE_PX // max(picture.shape[1:]))
    return picture.repeat(factor, axis=1).repeat(factor, axis=2)


def encode_png(picture: npt.NDArray[np.uint8]) -> bytes:
    """Return a picture, RGBA (4, y, x), as a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(np.moveaxis(picture, 0, -1)).save(buffer, "PNG")
    return buffer.getvalue()


def draw_quicklook(
    lai: npt.NDArray[Any], flags: npt.NDArray[Any] | None, title: str, subtitle: str = ""
) -> bytes:
    """Return a PNG of LAI (y, x) with title, a second line, legend and scale.

    Pixels without LAI are grey, by the reason where flags give it; pixels that statistics leave out
    are dotted.
    """
    step = max(1, -(-max(lai.shape) // MAX_SIDE_PX))
    small = shrink(lai, step=step)
    bits = np.zeros(lai.shape, "uint8") if flags is None else np.nan_to_num(flags).astype("uint8")
    bits = bits[::step, ::step]
    picture = colour_lai(small)
    gone = ~np.isfinite(small)
    picture[:3, gone] = np.array(NO_DATA)[:, None]
    picture[:3, gone & (bits & CLOUD_NEAR > 0)] = np.array(CLOUD)[:, None]
    picture[3] = 255
    left_out = ~gone & (bits & UNUSABLE_FLAGS > 0)
    large = np.moveaxis(magnify(np.concatenate([picture, left_out[None]])), 0, -1)
    rows, columns = np.mgrid[: large.shape[0], : large.shape[1]]
    dots = (large[..., 4] > 0) & (rows % _DOT_EVERY == 0) & (columns % _DOT_EVERY == 0)
    large[dots, :3] = LEFT_OUT
    return _compose(Image.fromarray(large[..., :3]), title, subtitle)


def _compose(image: Image.Image, title: str, subtitle: str) -> bytes:
    """Return the image with two lines above it and the legend below, as a PNG."""
    font = ImageFont.load_default(_FONT_PX)
    title, subtitle = _drawable(title), _drawable(subtitle)
    texts = max(font.getlength(title), font.getlength(subtitle))
    width = max(image.width, _MIN_WIDTH_PX, int(texts) + 1) + 2 * _MARGIN_PX
    above = _MARGIN_PX + _LINE_PX * (2 if subtitle else 1)
    sheet = Image.new("RGB", (width, above + image.height + 2 * _LINE_PX + 2 * _MARGIN_PX), "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((_MARGIN_PX, _MARGIN_PX), title, "black", font)
    if subtitle:
        pen.text((_MARGIN_PX, _MARGIN_PX + _LINE_PX), subtitle, (90, 90, 90), font)
    sheet.paste(image, ((width - image.width) // 2, above))
    y = above + image.height + _MARGIN_PX
    low, high = LAI_RANGE
    x = _write(pen, _MARGIN_PX, y, f"LAI {low:g}", font)
    bar = Image.fromarray(np.repeat(colour_table(140)[None], 12, axis=0))
    sheet.paste(bar, (x, y + 2))
    _write(pen, x + bar.width + 6, y, f"{high:g} m2 m-2 and more", font)
    x, y = _MARGIN_PX, y + _LINE_PX
    for colour, text in (
        (NO_DATA, "no data"),
        (CLOUD, "cloud, shadow, snow"),
        (LEFT_OUT, "dots: left out of statistics"),
    ):
        pen.rectangle((x, y + 2, x + 12, y + 14), fill=colour, outline=(120, 120, 120))
        x = _write(pen, x + 18, y, text, font) + 10
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


def _drawable(text: str) -> str:
    """Return a text in ASCII: Pillow's own font, the same on every machine, has no other glyphs."""
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()


def _write(pen: ImageDraw.ImageDraw, x: int, y: int, text: str, font: Any) -> int:  # noqa: ANN401
    """Write a text; return where the next thing goes."""
    pen.text((x, y), text, "black", font)
    return x + int(pen.textlength(text, font)) + 6
