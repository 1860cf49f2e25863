"""Assets of an LAI item: one COG per output band, each with what its numbers mean.

Where a fact has a home in STAC it is said there: `bands` (name, type, no data, unit,
statistics), raster (scale, offset, resolution, histogram), classification (flag bits), file
(checksum, size), projection (grid). Only what kind of uncertainty a band is goes into
``laiq:``. Scale and offset turn stored numbers into the unit; statistics and histogram are in
that unit already.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pystac
import xarray as xr

from lai_stac import fields
from lai_stac.errors import RasterError
from lai_stac.statistics import INTERVAL_LEVEL, band_statistics, histogram
from lai_udf.cog import ENCODINGS, Encoding
from lai_udf.grid import Grid
from lai_udf.zonal import usable_pixels

THUMBNAIL = "thumbnail.png"

FLAG_BITS: tuple[tuple[str, str], ...] = (
    ("input_out_of_domain", "The reflectance lies outside the definition domain of SL2P"),
    ("clipped_to_min", "LAI was slightly below the valid range and is set to its minimum"),
    ("clipped_to_max", "LAI was slightly above the valid range and is set to its maximum"),
    ("output_too_low", "LAI is below the valid range by more than the tolerance; kept"),
    ("output_too_high", "LAI is above the valid range by more than the tolerance; kept"),
    ("cloud_within_reach", "Cloud, cloud shadow or snow lies within the reach of the network"),
    ("nodata_within_reach", "No data lies within the reach of the network"),
)
"""Name and meaning of the bits of `LAI_FLAGS`, bit 0 first; see `lai_udf.predict`."""

COMPONENTS = ["epistemic", "aleatoric", "input", "representativeness"]
"""What an interval calibrated on field measurements answers for: all that made them differ."""


def build_assets(
    directory: Path, cube: xr.DataArray, inside: npt.NDArray[np.bool_], *, samples: int
) -> dict[str, pystac.Asset]:
    """Describe the COGs of a folder, and its thumbnail where there is one.

    Args:
        directory: holds `lai.tif` and its neighbours; hrefs are relative to it.
        cube: what they hold, dims (bands, y, x), physical units, NaN = no data.
        inside: (y, x), pixels within the footprint.
        samples: Monte-Carlo draws behind `LAI_SD`; 0 = the network's own estimate.

    Raises:
        RasterError: a file cannot be read.
    """
    grid = Grid.of_data_array(cube, str(directory))
    usable = inside & usable_pixels(cube.sel(bands="LAI").values, _flags(cube))
    assets = {}
    for band in (str(label) for label in cube.coords["bands"].values):
        encoding = ENCODINGS[band]
        values = cube.sel(bands=band).values
        path = directory / f"{encoding.key}.tif"
        empty = not np.isfinite(values).any()
        extra = {
            "bands": [_band(encoding, np.where(usable, values, np.nan), inside)],
            **_raster_fields(encoding, grid),
            **_projection_fields(grid),
            **({} if band == "LAI_SD" and empty else _laiq_fields(band, samples)),
            **file_fields(path),
        }
        if band == "LAI_FLAGS":
            extra["classification:bitfields"] = bitfields()
        assets[encoding.key] = pystac.Asset(
            href=f"./{path.name}",
            title=asset_title(band, samples, empty),
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
            "description": meaning,
            "offset": offset,
            "length": 1,
            "classes": [
                {"value": 0, "name": "no", "description": "Does not hold"},
                {"value": 1, "name": "yes", "description": meaning},
            ],
        }
        for offset, (name, meaning) in enumerate(FLAG_BITS)
    ]


def asset_title(band: str, samples: int, empty: bool) -> str:
    """Return the title of an output band; `LAI_SD` is empty where nothing was drawn."""
    if band != "LAI_SD":
        return ENCODINGS[band].title
    if empty:
        return "Standard deviation of LAI (empty: no Monte-Carlo draws)"
    source = f"of {samples} Monte-Carlo dropout draws" if samples else "estimated by the network"
    return f"Standard deviation of LAI {source}"


def _band(
    encoding: Encoding, values: npt.NDArray[Any], inside: npt.NDArray[np.bool_]
) -> dict[str, Any]:
    """Describe the one band of a file: STAC 1.1 `bands`, with statistics in its unit."""
    band: dict[str, Any] = {
        "name": encoding.band,
        "description": encoding.title,
        "data_type": encoding.dtype,
    }
    if encoding.nodata is None:
        return band  # flags: every number is data, and their mean says nothing
    band |= {"nodata": encoding.nodata, "unit": encoding.unit}
    statistics = band_statistics(values, inside)
    if statistics is not None:
        band["statistics"] = statistics
        if encoding.band == "LAI":
            band["raster:histogram"] = histogram(values[inside])
    return band


def _flags(cube: xr.DataArray) -> npt.NDArray[Any] | None:
    """Return the flags (y, x) of a product that has them."""
    return cube.sel(bands="LAI_FLAGS").values if "LAI_FLAGS" in cube["bands"].values else None


def _raster_fields(encoding: Encoding, grid: Grid) -> dict[str, Any]:
    resolution = {"raster:spatial_resolution": abs(grid.transform.a), "raster:sampling": "area"}
    if encoding.nodata is None:
        return resolution
    return {"raster:scale": encoding.scale, "raster:offset": 0.0, **resolution}


def _projection_fields(grid: Grid) -> dict[str, Any]:
    return {
        "proj:shape": [grid.height, grid.width],
        "proj:transform": [float(value) for value in grid.transform[:6]],
        "proj:bbox": [float(value) for value in grid.bounds],
    }


def _laiq_fields(band: str, samples: int) -> dict[str, Any]:
    """Say what kind of uncertainty a band is; nothing for flags."""
    if band == "LAI_SD" and samples:
        return {
            fields.UNCERTAINTY_TYPE: "standard_deviation",
            fields.COVERAGE_FACTOR: 1,
            fields.UNCERTAINTY_METHOD: "mc_dropout",
            fields.UNCERTAINTY_COMPONENTS: ["epistemic"],
            fields.MC_SAMPLES: samples,
        }
    if band == "LAI_SD":
        return {
            fields.UNCERTAINTY_TYPE: "standard_deviation",
            fields.COVERAGE_FACTOR: 1,
            fields.UNCERTAINTY_METHOD: "heteroscedastic",
            fields.UNCERTAINTY_COMPONENTS: ["aleatoric"],
        }
    if band in ("LAI_LOWER", "LAI_UPPER"):
        return {
            fields.UNCERTAINTY_TYPE: f"interval_{band.removeprefix('LAI_').lower()}",
            fields.CONFIDENCE_LEVEL: INTERVAL_LEVEL,
            fields.UNCERTAINTY_METHOD: "conformal",
            fields.UNCERTAINTY_COMPONENTS: list(COMPONENTS),
        }
    if band == "LAI":
        return {fields.QUANTITY: "effective", fields.ELEMENTS: "green"}
    return {}
