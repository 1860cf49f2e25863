"""Zonal statistics of LAI over polygons or a whole raster, and which pixels count.

A pixel is usable where LAI has a value and none of `lai_udf.predict.UNUSABLE_FLAGS` is set. It
weighs by the exact share of it inside the polygon (`lai_udf.zones`). Below `MIN_VALID_SHARE` of
the polygon there is no mean. Item statistics, `lai-train parcels` and the service's `/timeseries`
call this module, so that one parcel has one number.

`lai_udf.observe` is the short way, from results on disk. Underneath, `weigh_zones` computes
the shares once per grid, `take_pixels` picks those of one date, `describe_pixels` computes; pixels
of several grids, as of a parcel across two UTM zones, are joined before by `join_pixels`.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lai_udf.predict import (
    UNUSABLE_FLAGS,
)
from lai_udf.zones import SLIVER, Zones, repair, share_between_grids, weigh_zones

__all__ = [
    "FLAG_BITS",
    "MIN_VALID_SHARE",
    "ZonalStatistics",
    "ZonePixels",
    "Zones",
    "describe_pixels",
    "join_pixels",
    "repair",
    "share_between_grids",
    "stack_pixels",
    "take_pixels",
    "usable_pixels",
    "weigh_zones",
]

Floats = NDArray[np.float64]
Index = NDArray[np.intp]
Layers = Mapping[str, NDArray[Any]]

MIN_VALID_SHARE = 0.5  # where less of a polygon or raster is usable there is no mean and no spread


FLAG_BITS = tuple(1 << bit for bit in range(8))
LAI = "lai"  # name of the layer that decides, with the flags, which pixels count


def usable_pixels(
    lai: NDArray[Any], flags: NDArray[Any] | None = None, exclude_flags: int = UNUSABLE_FLAGS
) -> NDArray[np.bool_]:
    """Return where a pixel counts, bool: LAI has a value, and no bit of `exclude_flags` is set.

    A pixel whose flags are NaN does not count; without flags LAI alone decides.
    """
    usable: NDArray[np.bool_] = np.isfinite(lai)
    if flags is not None:
        usable &= (_bits(flags) & exclude_flags) == 0
    return usable


@dataclass(frozen=True, eq=False)
class ZonePixels:
    """The pixels of zones on one date; a row per pixel and zone that meet, shape (k,)."""

    zone: Index  # number of the zone
    weight: Floats  # share of the pixel inside the zone, 0-1
    layers: Layers  # values by name, `lai` among them
    flags: NDArray[np.uint8] | None  # `LAI_FLAGS`
    area_px: Floats  # area of the whole zones in pixels, shape (zones,)

    def has_layers_of(self, other: "ZonePixels") -> bool:
        """Return whether the same is known of these pixels as of others."""
        known = (self.flags is None) == (other.flags is None)
        return known and self.layers.keys() == other.layers.keys()


@dataclass(frozen=True, eq=False)
class ZonalStatistics:
    """Statistics of zones, shape (zones,); NaN where less than the least share is usable."""

    mean: Mapping[str, Floats]  # weighted mean by layer, in the layer's unit
    standard_deviation: Mapping[str, Floats]
    """Weighted, of the pixels about their mean; it is not the error of the mean."""
    valid_share: Floats
    """Share of the zone's whole area that is usable, 0-1; area off the raster is not."""
    pixels: Floats  # usable area in pixels
    n_effective: Floats
    """Pixels of equal weight that average independent errors as well: (sum w)^2 / sum w^2."""
    flag_shares: Mapping[int, Floats]
    """By bit of `LAI_FLAGS`: share of the area with LAI on which it is set; empty without flags."""

    @property
    def flags(self) -> Index:
        """Bits that are set on at least half of the area with LAI; 0 without flags."""
        found = np.zeros(self.pixels.shape, np.intp)
        for bit, share in self.flag_shares.items():
            found |= np.where(share >= MIN_VALID_SHARE, bit, 0)
        return found

    def of_zones(self, zones: slice) -> "ZonalStatistics":
        """Return the statistics of some of the zones."""
        cut: dict[str, Any] = {
            name: value[zones]
            if isinstance(value, np.ndarray)
            else {key: each[zones] for key, each in value.items()}
            for name, value in vars(self).items()
        }
        return ZonalStatistics(**cut)


def take_pixels(zones: Zones, layers: Layers, flags: NDArray[Any] | None = None) -> ZonePixels:
    """Pick the pixels of zones from the rasters of one date.

    Args:
        zones: on the grid of the rasters.
        layers: values by name, `lai` among them, (y, x) of the grid or of `zones.window`; NaN = no
            data.
        flags: `LAI_FLAGS`, same shape.
    """
    return ZonePixels(
        zone=zones.zone,
        weight=zones.share,
        layers={name: zones.pick(layer) for name, layer in layers.items()},
        flags=None if flags is None else _bits(zones.pick(flags)),
        area_px=zones.area_px,
    )


def join_pixels(parts: Sequence[ZonePixels]) -> ZonePixels:
    """Join the pixels that the same zones have on several grids, see `share_between_grids`."""
    names = set.intersection(*(set(part.layers) for part in parts))
    flags = [part.flags for part in parts if part.flags is not None]
    return ZonePixels(
        zone=np.concatenate([part.zone for part in parts]),
        weight=np.concatenate([part.weight for part in parts]),
        layers={n: np.concatenate([part.layers[n] for part in parts]) for n in sorted(names)},
        flags=np.concatenate(flags) if len(flags) == len(parts) else None,
        area_px=np.sum([part.area_px for part in parts], axis=0),
    )


def stack_pixels(dates: Sequence[ZonePixels]) -> tuple[ZonePixels, list[slice]]:
    """Put the pixels of several dates with the same layers together, each with zones of its own.

    Returns:
        The pixels, and the zones of each date.
    """
    ends = np.cumsum([0, *(len(date.area_px) for date in dates)])
    flags = [date.flags for date in dates if date.flags is not None]
    stacked = ZonePixels(
        zone=np.concatenate([date.zone + n for date, n in zip(dates, ends, strict=False)]),
        weight=np.concatenate([date.weight for date in dates]),
        layers={n: np.concatenate([date.layers[n] for date in dates]) for n in dates[0].layers},
        flags=np.concatenate(flags) if flags else None,
        area_px=np.concatenate([date.area_px for date in dates]),
    )
    return stacked, [slice(int(a), int(b)) for a, b in itertools.pairwise(ends)]


def describe_pixels(
    pixels: ZonePixels,
    *,
    exclude_flags: int = UNUSABLE_FLAGS,
    min_valid_share: float = MIN_VALID_SHARE,
) -> ZonalStatistics:
    """Compute the statistics of zones from the pixels of one date.

    A layer may have gaps where LAI has none: its mean is over the rest. Zones with a smaller usable
    share than `min_valid_share` have no mean.
    """
    count = len(pixels.area_px)
    use = usable_pixels(pixels.layers[LAI], pixels.flags, exclude_flags)
    zone, weight = pixels.zone[use], pixels.weight[use]
    total = _add_up(zone, weight, count)
    share = np.nan_to_num(np.minimum(_divide(total, pixels.area_px), 1.0))
    enough = (share >= min_valid_share - SLIVER) & (total > 0)
    mean: dict[str, Floats] = {}
    deviation: dict[str, Floats] = {}
    for name, layer in pixels.layers.items():
        values = np.asarray(layer[use], np.float64)
        known = np.isfinite(values) & enough[zone]
        own, values, weights = zone[known], values[known], weight[known]
        area = _add_up(own, weights, count)
        mean[name] = _divide(_add_up(own, weights * values, count), area)
        squared = weights * (values - mean[name][own]) ** 2
        deviation[name] = np.sqrt(_divide(_add_up(own, squared, count), area))
    effective = _divide(total**2, _add_up(zone, weight**2, count))
    return ZonalStatistics(
        mean=mean,
        standard_deviation=deviation,
        valid_share=share,
        pixels=total,
        n_effective=np.where(enough, effective, 0.0),
        flag_shares=_flag_shares(pixels, count),
    )


def _flag_shares(pixels: ZonePixels, count: int) -> dict[int, Floats]:
    if pixels.flags is None:
        return {}
    known = np.isfinite(pixels.layers[LAI])
    zone, weight, flags = pixels.zone[known], pixels.weight[known], pixels.flags[known]
    total = _add_up(zone, weight, count)
    return {
        bit: _divide(_add_up(zone, weight * ((flags & bit) > 0), count), total) for bit in FLAG_BITS
    }


def _bits(flags: NDArray[Any]) -> NDArray[np.uint8]:
    """Return flags as bits; NaN becomes all of them."""
    if flags.dtype.kind == "f":
        flags = np.where(np.isfinite(flags), flags, 255.0)
    return flags.astype(np.uint8)


def _add_up(zone: Index, values: Floats, count: int) -> Floats:
    return np.bincount(zone, weights=values, minlength=count).astype(np.float64)


def _divide(values: Floats, by: Floats) -> Floats:
    result = np.full(values.shape, np.nan)
    np.divide(values, by, out=result, where=by > 0)
    return result
