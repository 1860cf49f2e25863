"""Assets of an LAI item: one COG per output band, what its numbers mean, and how to draw it.

Where STAC has a field for a fact it is stated there: `bands` (name, type, no data, unit,
statistics), raster (scale, offset, resolution, histogram), classification (flag bits), file
(checksum, size), projection (grid). Only what kind of uncertainty a band is goes into
``laiq:``. Scale and offset turn stored numbers into the unit; statistics and histogram are in
that unit already.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pystac

from lai_stac import fields
from lai_stac.errors import RasterError
from lai_stac.product import Product
from lai_stac.statistics import INTERVAL_LEVEL, ProductCounts
from lai_udf import predict
from lai_udf.cog import ENCODINGS, FLAG_MEANINGS, GAP_DAYS, Encoding, describe_variable
from lai_udf.grid import Grid
from lai_udf.picture import LAI_RANGE
from lai_udf.smoothing import LONG_NAMES as SERIES_NAMES

THUMBNAIL = "thumbnail.png"

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
"""Colour maps of `lai-service`; the others take `ylgn` of matplotlib."""

FLAG_DESCRIPTIONS = {
    predict.INPUT_OUT_OF_DOMAIN: "The reflectance lies outside the definition domain of SL2P",
    predict.CLIPPED_TO_MIN: "Slightly below the valid range and set to its minimum",
    predict.CLIPPED_TO_MAX: "Slightly above the valid range and set to its maximum",
    predict.OUTPUT_TOO_LOW: "Below the valid range by more than the tolerance; kept",
    predict.OUTPUT_TOO_HIGH: "Above the valid range by more than the tolerance; kept",
    predict.CLOUD_NEAR: "Cloud, cloud shadow or snow, here or close by",
    predict.NO_DATA_NEAR: "No data, here or close by",
    predict.RESIDUAL_CLOUD: "Suspected: cloud or haze that the classification missed",
}
"""Meaning of the flags whose names `lai_udf.cog` gives."""

COMPONENTS = ["epistemic", "aleatoric", "input", "representativeness"]
"""What an interval calibrated on field measurements answers for: all that made them differ."""


def build_assets(
    product: Product, counts: ProductCounts, *, samples: int, level: float = INTERVAL_LEVEL
) -> dict[str, pystac.Asset]:
    """Describe the COGs of a folder, and its thumbnail where there is one.

    Args:
        product: the COGs; hrefs are relative to their folder.
        counts: of all their pixels.
        samples: Monte-Carlo draws behind `LAI_SD`; 0 = the network's own estimate.
        level: of the interval, 0 to 1.

    Raises:
        RasterError: a file cannot be read.
    """
    grid, directory = product.grid, product.directory
    assets = {}
    for band, (path, _) in product.files.items():
        encoding = ENCODINGS[band]
        filled = band in counts.filled or band != "LAI_SD"
        title = asset_title(band, samples, band not in counts.filled, level, product.is_series)
        extra = {
            "bands": [_band(encoding, title, grid, counts)],
            "raster:bands": [_raster_band(encoding, grid)],
            **_projection_fields(grid),
            **(_meaning(band, samples, level, product.is_series) if filled else {}),
            **file_fields(path),
        }
        if band.endswith("_FLAGS"):
            extra["classification:bitfields"] = bitfields()
        assets[encoding.key] = pystac.Asset(
            href=f"./{path.name}",
            title=title,
            media_type=pystac.MediaType.COG,
            roles=["data"],
            extra_fields=extra,
        )
    if (directory / THUMBNAIL).is_file():
        assets["thumbnail"] = pystac.Asset(
            href=f"./{THUMBNAIL}",
            title="Leaf area index, colours from 0 (pale) to 6 m² m⁻² (dark)",
            media_type=pystac.MediaType.PNG,
            roles=["thumbnail"],
            extra_fields=file_fields(directory / THUMBNAIL),
        )
    return assets


def file_fields(path: Path) -> dict[str, Any]:
    """Return size in bytes and checksum (multihash sha2-256) of a file.

    Raises:
        RasterError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = path.stat().st_size
    except OSError as error:
        raise RasterError(f"cannot read {path} ({error.strerror}): write the COGs first") from error
    return {"file:checksum": f"1220{digest}", "file:size": size}


def bitfields() -> list[dict[str, Any]]:
    """Return the flag bits as `classification:bitfields`."""
    return [
        {
            "name": name,
            "description": FLAG_DESCRIPTIONS[bit],
            "offset": bit.bit_length() - 1,
            "length": 1,
            "classes": [
                {"value": 0, "name": "no", "description": "Does not hold"},
                {"value": 1, "name": "yes", "description": FLAG_DESCRIPTIONS[bit]},
            ],
        }
        for bit, name in FLAG_MEANINGS.items()
    ]


def asset_title(
    band: str,
    samples: int | None,
    empty: bool,
    level: float | None = INTERVAL_LEVEL,
    series: bool = False,
) -> str:
    """Return the title of an output band; `LAI_SD` is empty where nothing estimates it.

    Of several items samples and level are None.
    """
    if series and band in ("LAI_SD", GAP_DAYS):
        name = SERIES_NAMES[band]
    else:
        name = describe_variable(band, level=level, samples=samples)["long_name"]
    if band.endswith("_SD") and empty:
        name += " (empty: nothing estimates it)"
    return name[0].upper() + name[1:]


def describe_renders(
    bands: Iterable[str], samples: int = 0, series: bool = False
) -> dict[str, Any]:
    """Return `renders` for the output bands that have colours, by asset key.

    Ranges are of the stored numbers, as programs apply them.
    """
    renders = {}
    for band in bands:
        if band in RANGES:
            encoding = ENCODINGS[band]
            low, high = (round(value / encoding.scale) for value in RANGES[band])
            renders[encoding.key] = {
                "title": asset_title(band, samples, empty=False, series=series),
                "assets": [encoding.key],
                "rescale": [[low, high]],
                "nodata": predict.NO_DATA_ON_DISK,
                "colormap_name": COLOUR_MAPS.get(band, "ylgn"),
            }
    return renders


def _band(encoding: Encoding, title: str, grid: Grid, counts: ProductCounts) -> dict[str, Any]:
    """Describe the one band of a file: STAC 1.1 `bands`, with statistics in its unit."""
    band: dict[str, Any] = {"name": encoding.band, "description": title}
    band |= {
        _STAC_1_1.get(name, name): value for name, value in _raster_band(encoding, grid).items()
    }
    if encoding.nodata is None:
        return band  # flags: every number is data, and their mean is meaningless
    statistics = counts.band_statistics(encoding.band)
    if statistics is not None:
        band["statistics"] = statistics
        if encoding.band == "LAI":
            band["raster:histogram"] = counts.histogram()
    return band


_STAC_1_1 = {
    name: f"raster:{name}" for name in ("sampling", "spatial_resolution", "scale", "offset")
}
"""Fields of `raster:bands` whose name in `bands` differs."""


def _raster_band(encoding: Encoding, grid: Grid) -> dict[str, Any]:
    """Describe a band as `raster:bands`, where older programs look for scale and no data."""
    band: dict[str, Any] = {
        "data_type": encoding.dtype,
        "sampling": "area",
        "spatial_resolution": grid.pixel_m,
    }
    if encoding.nodata is None:
        return band
    scaling = {"scale": encoding.scale, "offset": 0.0}
    return {**band, "nodata": encoding.nodata, "unit": encoding.unit, **scaling}


def _projection_fields(grid: Grid) -> dict[str, Any]:
    return {
        "proj:shape": [grid.height, grid.width],
        "proj:transform": [float(value) for value in grid.transform[:6]],
        "proj:bbox": [float(value) for value in grid.bounds],
    }


def _meaning(band: str, samples: int, level: float, series: bool) -> dict[str, Any]:
    """Return what a band is: its variable, or the kind of its uncertainty; nothing for flags."""
    variable, _, part = band.partition("_")
    if part in ("DAYS", "FLAGS"):
        return {}
    if not part:
        lai = {fields.QUANTITY: "effective", fields.ELEMENTS: "green"} if band == "LAI" else {}
        return {fields.VARIABLE: variable, **lai}
    of = {fields.UNCERTAINTY_OF: variable.lower()}
    if part in ("LOWER", "UPPER"):
        return {
            **of,
            fields.ERROR_CORRELATION: {"space": {"degree": "partial"}},
            fields.UNCERTAINTY_TYPE: f"interval_{part.lower()}",
            fields.CONFIDENCE_LEVEL: level,
            fields.UNCERTAINTY_METHOD: "conformal",
            fields.UNCERTAINTY_COMPONENTS: list(COMPONENTS),
        }
    # Of draws, or of a head of the network that learnt their spread; of a series what another
    # acquisition would differ by.
    drawn = {fields.MC_SAMPLES: samples} if samples else {}
    return {
        **of,
        fields.UNCERTAINTY_TYPE: "standard_deviation",
        fields.COVERAGE_FACTOR: 1,
        fields.UNCERTAINTY_METHOD: "mc_dropout" if samples else "other",
        fields.UNCERTAINTY_COMPONENTS: (
            ["aleatoric", "input"] if series and not samples else ["epistemic"]
        ),
        **drawn,
    }
