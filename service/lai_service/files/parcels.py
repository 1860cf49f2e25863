"""The LAI of a place in one item: a pixel, or the area-weighted mean over a polygon.

A pixel counts where LAI has a value and none of the excluded flags is set. The interval of a parcel
is the mean of its pixels' lower and upper ends: right if the errors of neighbouring pixels go
together, and too wide, never too narrow, where they do not.

Published rasters never change under their path, which holds the digest of their bytes. So what was
read once is kept: the second look at a parcel, as a plot after the numbers, reads no file.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import cachetools
import numpy as np
from numpy.typing import NDArray

from lai_service.catalogue.port import Document
from lai_service.files.hrefs import is_relative
from lai_service.files.pixels import physical, stored
from lai_service.files.places import Place

__all__ = ["DEFAULT_EXCLUDE", "LAYERS", "Observation", "observe"]

DEFAULT_EXCLUDE = 8 | 16 | 32 | 64
"""Flags that make a pixel unusable: LAI below or above what is possible, beyond the tolerance
(SNAP calls such a value invalid; the raster keeps it, negative ones too); cloud, shadow or snow
within reach; no data within reach."""
_KEPT: cachetools.LRUCache[bytes, "_Measured | None"] = cachetools.LRUCache(maxsize=20_000)
"""Observations that are kept, some 10 MB: numbers under a digest, no array and no geometry."""
_SLIVER = 1e-6  # a share of a pixel that is rounding of coordinates, not area
_VALUES = {"lai": "lai", "lower": "lai_lower", "upper": "lai_upper", "sd": "lai_sd"}
LAYERS = (*_VALUES.values(), "lai_flags")
"""Assets that are read together; publishing takes them on one grid only."""


@dataclass(frozen=True)
class Observation:
    """LAI of a place at one time."""

    item: str
    """Id of the item."""
    collection: str
    """Id of its collection."""
    datetime: str
    """Acquisition time, RFC 3339."""
    lai: float | None
    """Mean LAI, m2 m-2; None where no pixel is valid."""
    lower: float | None
    """Mean of the lower ends of the 95 % interval, m2 m-2."""
    upper: float | None
    """Mean of the upper ends of the 95 % interval, m2 m-2."""
    sd: float | None
    """Mean of the Monte-Carlo standard deviation, m2 m-2."""
    valid_fraction: float
    """Share of the place's area with valid pixels, 0 to 1."""
    pixels: float
    """Area of the valid part, in pixels."""


def observe(
    item: Document, place: Place, data: Path, exclude_flags: int = DEFAULT_EXCLUDE
) -> Observation | None:
    """Read the LAI of a place from the published rasters of one item.

    Args:
        item: item as stored.
        place: where.
        data: data root.
        exclude_flags: bits of LAI_FLAGS that make a pixel unusable.

    Returns:
        The observation, or None where the item has no LAI raster here or does not meet the place.

    Raises:
        BadRequestError: the place covers more than `MAX_PIXELS` pixels.
        RasterioError: a raster is gone or damaged.
    """
    paths = _paths(item, data)
    if "lai" not in paths:
        return None
    measured = _measure(paths, place, exclude_flags)
    if measured is None:
        return None
    properties = item["properties"]
    return Observation(
        item=item["id"],
        collection=item["collection"],
        datetime=properties.get("datetime") or properties["start_datetime"],
        lai=measured.means["lai"],
        lower=measured.means.get("lower"),
        upper=measured.means.get("upper"),
        sd=measured.means.get("sd"),
        valid_fraction=min(1.0, measured.pixels / measured.area),
        pixels=measured.pixels,
    )


@dataclass(frozen=True)
class _Measured:
    """What the rasters of one item say of a place."""

    means: dict[str, float | None]
    pixels: float
    area: float


def _key(paths: dict[str, Path], place: Place, exclude_flags: int) -> bytes:
    return hashlib.sha256(
        repr((sorted(paths.items()), place.digest, exclude_flags)).encode()
    ).digest()


@cachetools.cached(_KEPT, key=_key, lock=Lock())
def _measure(paths: dict[str, Path], place: Place, exclude_flags: int) -> _Measured | None:
    weights = place.weights(paths["lai"])
    if weights is None:
        return None
    usable = weights.share > _SLIVER
    if "lai_flags" in paths:
        usable &= (stored(paths["lai_flags"], weights.window).values & exclude_flags) == 0
    if not usable.any():  # all under cloud: the others need not be opened
        return _Measured({"lai": None}, 0.0, weights.area)
    layers = {
        name: physical(paths[key], weights.window) for name, key in _VALUES.items() if key in paths
    }
    share = np.where(usable & np.isfinite(layers["lai"]), weights.share, 0.0)
    means = {name: _mean(layer, share) for name, layer in layers.items()}
    return _Measured(means, float(share.sum()), weights.area)


def _paths(item: Document, data: Path) -> dict[str, Path]:
    assets = item.get("assets") or {}
    keys = [key for key in LAYERS if key in assets]
    return {key: data / assets[key]["href"] for key in keys if is_relative(assets[key]["href"])}


def _mean(layer: NDArray[np.float64], share: NDArray[np.float64]) -> float | None:
    total = float(share.sum())
    if total <= 0:
        return None
    return float(np.sum(np.where(share > 0, layer, 0.0) * share) / total)
