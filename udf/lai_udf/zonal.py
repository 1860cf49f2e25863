"""Zonal statistics of LAI over polygons or a whole raster, and which pixels count.

A pixel is usable where LAI has a value and none of `lai_udf.predict.UNUSABLE_FLAGS` is set. It
weighs by the exact share of it inside the polygon (`lai_udf.zones`). Below `MIN_VALID_SHARE` of
the polygon there is no mean. Item statistics, `lai-train parcels` and the service's `/timeseries`
call this module, so that one parcel has one number.

`observe_zones` is the short way, from results on disk, overpass by overpass: ground that several
tiles or UTM zones hold counts once. Underneath, `weigh_zones` computes the shares once per grid,
`take_pixels` picks those of one date, `join_pixels` joins those of several grids, and
`describe_pixels` computes.
"""

import datetime as dt
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window
from shapely.geometry.base import BaseGeometry

from lai_udf.grid import Grid
from lai_udf.predict import UNUSABLE_FLAGS
from lai_udf.results import FLAGS, LaiResult, group_overpasses
from lai_udf.zones import SLIVER, AnyCrs, Zones, share_between_grids, weigh_zones

Floats = NDArray[np.float64]
Index = NDArray[np.intp]
Layers = Mapping[str, NDArray[Any]]
MIN_VALID_SHARE = 0.5  # where less of a polygon or raster is usable there is no mean and no spread
FLAG_BITS = tuple(1 << bit for bit in range(8))
LAI = "lai"  # name of the layer that decides, with the flags, which pixels count
ReadMore = Callable[[LaiResult, Window], Layers]
_TOGETHER = 100_000
"""Pixels from which on the overpasses read so far are described: small zones cost calls."""


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
        alike = (self.flags is None) == (other.flags is None)
        return alike and self.layers.keys() == other.layers.keys()


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
        bits = np.zeros(self.pixels.shape, np.intp)
        for bit, share in self.flag_shares.items():
            bits |= np.where(share >= MIN_VALID_SHARE, bit, 0)
        return bits

    def of_zones(self, zones: slice) -> "ZonalStatistics":
        """Return the statistics of some of the zones."""

        def cut(value: Any) -> Any:  # noqa: ANN401  (an array, or arrays by key)
            if isinstance(value, np.ndarray):
                return value[zones]
            return {key: each[zones] for key, each in value.items()}

        return ZonalStatistics(**{name: cut(value) for name, value in vars(self).items()})


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
    apart = [replace(date, zone=date.zone + n) for date, n in zip(dates, ends, strict=False)]
    area_px = np.concatenate([date.area_px for date in dates])
    stacked = replace(join_pixels(apart), area_px=area_px)
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
        counted = np.isfinite(values) & enough[zone]
        zones, values, weights = zone[counted], values[counted], weight[counted]
        area = _add_up(zones, weights, count)
        mean[name] = _divide(_add_up(zones, weights * values, count), area)
        squared = weights * (values - mean[name][zones]) ** 2
        deviation[name] = np.sqrt(_divide(_add_up(zones, squared, count), area))
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
    valid = np.isfinite(pixels.layers[LAI])
    zone, weight, flags = pixels.zone[valid], pixels.weight[valid], pixels.flags[valid]
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


@dataclass(frozen=True)
class Observation:
    """Statistics of zones at one overpass."""

    results: tuple[LaiResult, ...]  # its rasters
    datetime: dt.datetime  # of the first of them, UTC
    met: Index  # numbers of the zones that meet a raster
    statistics: ZonalStatistics  # of all zones, by asset key (`lai`, `lai_sd`, …)


def observe_zones(
    geometries: Sequence[BaseGeometry | None],
    crs: AnyCrs,
    results: Sequence[LaiResult],
    *,
    exclude_flags: int = UNUSABLE_FLAGS,
    min_valid_share: float = MIN_VALID_SHARE,
    read_more: ReadMore | None = None,
) -> Iterator[Observation]:
    """Yield the statistics of zones, in order of time.

    Args:
        geometries: as for `lai_udf.zones.weigh_zones`.
        crs: of the geometries.
        results: see `lai_udf.results.find_results`.
        exclude_flags: bits that make a pixel unusable.
        min_valid_share: least usable share of a zone that has a mean, 0-1.
        read_more: returns further layers of a result in a window, (y, x), by name.

    Raises:
        GeometryError: a geometry cannot be repaired.
        RasterError: a result cannot be read, or does not state its time.
    """
    weighed: dict[tuple[Grid, ...], list[Zones]] = {}
    rules: dict[str, Any] = {"exclude_flags": exclude_flags, "min_valid_share": min_valid_share}
    describe = partial(describe_pixels, **rules)
    batch: list[tuple[list[LaiResult], ZonePixels]] = []
    size = 0
    for group in group_overpasses(results):
        by_grid: dict[Grid, list[LaiResult]] = {}
        for result in group:
            by_grid.setdefault(result.grid, []).append(result)
        grids = tuple(by_grid)
        if grids not in weighed:
            weighed[grids] = _weigh(geometries, crs, grids)
        taken = zip(weighed[grids], by_grid.values(), strict=True)
        parts = [_take(zones, same_grid, read_more) for zones, same_grid in taken]
        pixels = parts[0] if len(parts) == 1 else join_pixels(parts)
        if batch and (size > _TOGETHER or not pixels.has_layers_of(batch[0][1])):
            yield from _describe(batch, describe)
            batch, size = [], 0
        batch.append((group, pixels))
        size += len(pixels.zone) + len(pixels.area_px)
    if batch:
        yield from _describe(batch, describe)


def _describe(
    batch: Sequence[tuple[list[LaiResult], ZonePixels]],
    describe: Callable[[ZonePixels], ZonalStatistics],
) -> Iterator[Observation]:
    """Compute the statistics of overpasses at once: the zones of each are zones of their own."""
    together, zones = stack_pixels([pixels for _, pixels in batch])
    statistics = describe(together)
    for (group, pixels), part in zip(batch, zones, strict=True):
        met = np.unique(pixels.zone)
        yield Observation(tuple(group), group[0].datetime, met, statistics.of_zones(part))


def _weigh(
    geometries: Sequence[BaseGeometry | None], crs: AnyCrs, grids: Sequence[Grid]
) -> list[Zones]:
    """Return the zones on each grid; ground that several grids hold goes to one of them."""
    if len(grids) == 1:
        return [weigh_zones(geometries, crs, grids[0])]
    pieces = share_between_grids(geometries, crs, grids)
    return [weigh_zones(shapes, crs, grid) for shapes, grid in zip(pieces, grids, strict=True)]


def _take(zones: Zones, results: Sequence[LaiResult], read_more: ReadMore | None) -> ZonePixels:
    """Read the pixels of zones; where results of one grid overlap, the first with LAI counts."""
    layers: dict[str, NDArray[Any]] = {}
    for result in results:
        bands = list(result.files)
        if zones.zone.size:
            read = result.read(bands, zones.window)
            read |= read_more(result, zones.window) if read_more else {}
        else:  # nothing to read
            read = {band: np.empty((0, 0)) for band in bands}
        gaps = ~np.isfinite(layers["LAI"]) if layers else None
        for name, layer in read.items():
            old = layers.get(name)
            layers[name] = layer if old is None or gaps is None else np.where(gaps, layer, old)
    flags = layers.pop(FLAGS, None)
    return take_pixels(zones, {name.lower(): layer for name, layer in layers.items()}, flags)
