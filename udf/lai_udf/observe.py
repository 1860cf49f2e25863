"""Statistics of zones from results on disk, overpass by overpass.

In: polygons and results (`lai_udf.results`). Out: one observation per overpass, whatever tiles and
UTM zones it was cut into: ground that several rasters hold counts once.
"""

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window
from shapely.geometry.base import BaseGeometry

from lai_udf.grid import Grid
from lai_udf.predict import UNUSABLE_FLAGS
from lai_udf.results import FLAGS, LaiResult, group_overpasses
from lai_udf.zonal import (
    MIN_VALID_SHARE,
    Index,
    ZonalStatistics,
    ZonePixels,
    Zones,
    describe_pixels,
    join_pixels,
    share_between_grids,
    stack_pixels,
    take_pixels,
    weigh_zones,
)

Layers = Mapping[str, NDArray[Any]]
ReadMore = Callable[[LaiResult, Window], Layers]
_TOGETHER = 100_000
"""Pixels from which on the overpasses read so far are described: small zones cost calls."""


@dataclass(frozen=True)
class Observation:
    """Statistics of zones at one overpass."""

    results: tuple[LaiResult, ...]  # its rasters
    datetime: dt.datetime  # of the first of them, UTC
    met: Index  # numbers of the zones that meet a raster
    statistics: ZonalStatistics  # of all zones, by asset key (`lai`, `lai_sd`, …)


def observe_zones(
    geometries: Sequence[BaseGeometry | None],
    crs: Any,  # noqa: ANN401  (whatever pyproj reads)
    results: Sequence[LaiResult],
    *,
    exclude_flags: int = UNUSABLE_FLAGS,
    min_valid_share: float = MIN_VALID_SHARE,
    read_more: ReadMore | None = None,
) -> Iterator[Observation]:
    """Yield the statistics of zones, in order of time.

    Args:
        geometries: as for `lai_udf.zonal.weigh_zones`.
        crs: of the geometries.
        results: see `lai_udf.results.find_results`.
        exclude_flags: bits that make a pixel unusable.
        min_valid_share: least usable share of a zone that has a mean, 0-1.
        read_more: returns further layers of a result in a window, (y, x), by name.

    Raises:
        GeometryError: a geometry cannot be repaired.
        RasterError: a result cannot be read, or does not state its time.
    """
    known: dict[tuple[Grid, ...], list[Zones]] = {}
    describe = partial(
        describe_pixels,
        exclude_flags=exclude_flags,
        min_valid_share=min_valid_share,
    )
    batch: list[tuple[list[LaiResult], ZonePixels]] = []
    size = 0
    for group in group_overpasses(results):
        by_grid: dict[Grid, list[LaiResult]] = {}
        for result in group:
            by_grid.setdefault(result.grid, []).append(result)
        grids = tuple(by_grid)
        if grids not in known:
            known[grids] = _weigh(geometries, crs, grids)
        taken = zip(known[grids], by_grid.values(), strict=True)
        parts = [_take(zones, own, read_more) for zones, own in taken]
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
    found = describe(together)
    for (group, pixels), own in zip(batch, zones, strict=True):
        met = np.unique(pixels.zone)
        yield Observation(tuple(group), group[0].datetime, met, found.of_zones(own))


def _weigh(
    geometries: Sequence[BaseGeometry | None],
    crs: Any,  # noqa: ANN401
    grids: Sequence[Grid],
) -> list[Zones]:
    """Return the zones on each grid; ground that several grids hold goes to one of them."""
    if len(grids) == 1:
        return [weigh_zones(geometries, crs, grids[0])]
    pieces = share_between_grids(geometries, crs, grids)
    return [weigh_zones(own, crs, grid) for own, grid in zip(pieces, grids, strict=True)]


def _take(zones: Zones, results: Sequence[LaiResult], read_more: ReadMore | None) -> ZonePixels:
    """Read the pixels of zones; where results of one grid overlap, the first with LAI counts."""
    layers: dict[str, NDArray[Any]] = {}
    for result in results:
        bands = list(result.files)
        if zones.zone.size:
            found = result.read(bands, zones.window)
            found |= read_more(result, zones.window) if read_more else {}
        else:  # nothing to read
            found = {band: np.empty((0, 0)) for band in bands}
        gaps = ~np.isfinite(layers["LAI"]) if layers else None
        for name, layer in found.items():
            old = layers.get(name)
            layers[name] = layer if old is None or gaps is None else np.where(gaps, layer, old)
    flags = layers.pop(FLAGS, None)
    return take_pixels(zones, {name.lower(): layer for name, layer in layers.items()}, flags)
