"""How to draw an item: the render extension, read by titiler and the pages of `lai-service`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lai_stac.assets import asset_title
from lai_udf.cog import ENCODINGS
from lai_udf.picture import LAI_RANGE
from lai_udf.predict import NO_DATA_ON_DISK

RENDER_URI = "https://stac-extensions.github.io/render/v2.0.0/schema.json"

RANGES: dict[str, tuple[float, float]] = {
    "LAI": LAI_RANGE,
    "LAI_SD": (0.0, 1.0),
    "FAPAR": (0.0, 1.0),
    "FCOVER": (0.0, 1.0),
    "CCC": (0.0, 300.0),
    "CWC": (0.0, 0.3),
}
"""Lower and upper end of the colours, in the unit of the band."""
COLOUR_MAPS = {"LAI": "lai", "LAI_SD": "lai_sd"}
"""Colour maps of `lai-service`; the others take one that every program knows."""


def describe_renders(bands: Iterable[str], samples: int = 0) -> dict[str, Any]:
    """Return `renders` for the output bands that have colours, by asset key.

    Ranges are of the stored numbers, as programs apply them.
    """
    renders = {}
    for band in bands:
        if band in RANGES:
            encoding = ENCODINGS[band]
            low, high = (round(value / encoding.scale) for value in RANGES[band])
            renders[encoding.key] = {
                "title": asset_title(band, samples, empty=False),
                "assets": [encoding.key],
                "rescale": [[low, high]],
                "nodata": NO_DATA_ON_DISK,
                "colormap_name": COLOUR_MAPS.get(band, "ylgn"),
            }
    return renders
