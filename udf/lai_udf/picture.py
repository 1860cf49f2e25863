"""LAI as a small picture: RGBA PNG, transparent where there is no data.

The colours run from pale straw over green to dark blue-green; their lightness (CIE L*) falls
evenly, so the order of LAI survives in greyscale, in print and for colour-blind readers.
"""

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

MAX_SIDE_PX = 512
MIN_SIDE_PX = 256
"""A picture of a few fields is magnified by a whole number until it is about this large."""

LAI_RANGE = (0.0, 6.0)
"""m2 m-2; values beyond take the outermost colour."""

ANCHORS: tuple[tuple[int, int, int], ...] = (
    (252, 246, 219),
    (232, 228, 163),
    (195, 213, 120),
    (144, 193, 92),
    (91, 169, 78),
    (43, 142, 73),
    (14, 113, 71),
    (8, 84, 65),
    (12, 56, 53),
    (12, 30, 38),
)
"""sRGB of equally spaced LAI from the lower to the upper end of `LAI_RANGE`."""


def colour_table(size: int = 256) -> npt.NDArray[np.uint8]:
    """Return the colour map, shape (size, 3) uint8, LAI rising."""
    stops = np.linspace(0, 1, len(ANCHORS))
    anchors = np.array(ANCHORS, dtype="float64")
    at = np.linspace(0, 1, size)
    return np.stack(
        [np.rint(np.interp(at, stops, anchors[:, c])) for c in range(3)], axis=1
    ).astype("uint8")


def colour_lai(lai: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Turn LAI into a picture.

    Args:
        lai: m2 m-2, (y, x), NaN = no data.

    Returns:
        RGBA, (4, y, x) uint8; alpha 0 where there is no data.
    """
    table = colour_table()
    low, high = LAI_RANGE
    known = np.isfinite(lai)
    position = np.clip((np.where(known, lai, low) - low) / (high - low), 0, 1)
    index = np.rint(position * (len(table) - 1)).astype("int64")
    picture = np.zeros((4, *lai.shape), dtype="uint8")
    picture[:3] = np.moveaxis(table[index], -1, 0) * known
    picture[3] = known * np.uint8(255)
    return picture


def shrink(
    lai: npt.NDArray[Any], max_side: int = MAX_SIDE_PX, step: int | None = None
) -> npt.NDArray[np.float32]:
    """Average blocks of pixels until no side exceeds `max_side`; NaN is left out of the mean.

    Args:
        lai: (y, x), NaN = no data.
        max_side: px.
        step: side of the blocks, px, in place of `max_side`.
    """
    step = step or max(1, -(-max(lai.shape) // max_side))
    if step == 1:
        return np.asarray(lai, dtype="float32")
    height, width = lai.shape
    padded = np.pad(
        lai.astype("float32"), [(0, -height % step), (0, -width % step)], constant_values=np.nan
    )
    blocks = padded.reshape(padded.shape[0] // step, step, -1, step)
    known = np.isfinite(blocks)
    count = known.sum(axis=(1, 3))
    total = np.where(known, blocks, 0).sum(axis=(1, 3), dtype="float64")
    mean = np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)
    return np.asarray(mean, dtype="float32")


def magnify(picture: npt.NDArray[np.uint8], min_side: int = MIN_SIDE_PX) -> npt.NDArray[np.uint8]:
    """Repeat the pixels of a small picture, (channel, y, x), up to about `min_side`."""
    factor = max(1, min_side // max(picture.shape[1:]))
    return picture.repeat(factor, axis=1).repeat(factor, axis=2)


def encode_png(picture: npt.NDArray[np.uint8]) -> bytes:
    """Return a picture, RGBA (4, y, x), as a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(np.moveaxis(picture, 0, -1)).save(buffer, "PNG")
    return buffer.getvalue()
