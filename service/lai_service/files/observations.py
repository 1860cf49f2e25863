"""The LAI of places in published items: `lai_udf.zonal` over the rasters of the data root.

Which pixels count, how they weigh, and what happens where tiles, UTM zones or ±180° meet is defined
there, so that a parcel has the same mean in every tool. Here items become results, of which one
series has one target, model and resolution only.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from rasterio.errors import RasterioError
from rasterio.windows import Window
from shapely.geometry.base import BaseGeometry

from lai_service.catalogue.items import Document
from lai_service.errors import BadRequestError, NotFoundError
from lai_service.files.hrefs import is_relative
from lai_service.files.pixels import grid_of, physical, setting_tags
from lai_stac.fields import CONFIDENCE_LEVEL
from lai_udf.cog import ENCODINGS
from lai_udf.longitudes import bounding_box
from lai_udf.predict import UNUSABLE_FLAGS
from lai_udf.results import FLAGS, SCALING_TAGS, LaiResult, find_two_scalings, group_overpasses
from lai_udf.scenes.metadata import CALLER
from lai_udf.zonal import Observation as Overpass
from lai_udf.zonal import observe_zones, usable_pixels

MAX_PIXELS = 1_000_000
"""Most pixels of the box around places that are read together, and of one place."""
MAX_READ_PIXELS = 1_000_000_000
"""Most pixels of all boxes and dates of one answer: some minutes of work."""
_THREADS = 2
_LAI = "LAI"
_VALUES = {"lai": "lai", "lower": "lai_lower", "upper": "lai_upper", "sd": "lai_sd"}
LAYERS = (*_VALUES.values(), "lai_flags")
"""Assets that are read together; publishing takes them on one grid only."""


@dataclass(frozen=True, slots=True)
class Observation:
    """LAI of a place at one overpass."""

    item: str  # id of the item; several, separated by a space, where tiles meet
    collection: str  # id of its collection
    datetime: str  # acquisition time, RFC 3339
    lai: float | None  # mean LAI, m2 m-2; None where too few pixels are usable
    lower: float | None  # mean of the lower ends of the interval, m2 m-2
    upper: float | None  # mean of the upper ends of the interval, m2 m-2
    sd: float | None  # mean of the Monte-Carlo standard deviation, m2 m-2
    valid_fraction: float  # share of the place's area with usable pixels, 0 to 1
    pixels: float  # area of the usable part, in pixels
    flags: int  # bits of LAI_FLAGS that are set on at least half of the place's area with LAI


@dataclass(frozen=True)
class ResultGroup:
    """What results of one series have in common."""

    target: str  # `sl2p` or `field`
    model: str  # id of the model
    model_version: str  # its version
    samples: int  # Monte-Carlo draws; 0 = none
    resolution: str  # such as `20 m`
    level: float = 0.95  # of the interval, 0 to 1
    region: str = "known"  # `known` or `new`: for which regions the interval is
    calibration: str = ""  # own points that went in, by sha256 or name; empty where there were none
    plausibility: str = "auto"  # `off` where no value and no scaling was doubted
    scaling: str = ""
    """Reflectance scale and offset given by hand, where a product was run with others as well."""


@dataclass(frozen=True)
class PublishedResult(LaiResult):
    """The rasters of an item."""

    item: Document  # the item as stored
    renewed: Callable[[], PublishedResult | None]
    """Return the version that has taken its place; None where there is none."""
    exclude_flags: int = UNUSABLE_FLAGS  # bits that make a pixel unusable

    @cached_property
    def chosen_by(self) -> ResultGroup:
        """Settings of the results that may stand in one line with it."""
        model, version, target, samples, region, _, points, plausibility, resolution = self.settings
        lower = self.item["assets"].get("lai_lower", {})
        level = float(lower.get(CONFIDENCE_LEVEL, 0.95))
        further = region or "known", points, plausibility or "auto", self._given_scaling
        return ResultGroup(target, model, version, int(samples), resolution, level, *further)

    @property
    def _given_scaling(self) -> str:
        run, *graph = (self.tags.get(name, "") for name in SCALING_TAGS)
        return run if CALLER in run else " ".join(filter(None, graph))

    def read(
        self, bands: Sequence[str], window: Window | None = None
    ) -> dict[str, NDArray[np.float64]]:
        """Read bands of the version that is there now; without usable pixels flags and LAI only."""
        assert window is not None
        try:
            return self._read(bands, window)
        except RasterioError:
            newer = self.renewed()
            if newer is None or (newer.grid, {*newer.files}) != (self.grid, {*self.files}):
                raise
            return replace(newer, exclude_flags=self.exclude_flags).read(bands, window)

    def _read(self, bands: Sequence[str], window: Window) -> dict[str, NDArray[np.float64]]:
        found = {
            band: physical(self.files[band][0], window)
            for band in (_LAI, FLAGS)
            if band in self.files
        }
        is_empty = not usable_pixels(found[_LAI], found.get(FLAGS), self.exclude_flags).any()
        for band in bands:
            if band not in found:
                path = self.files[band][0]
                found[band] = (
                    np.full_like(found[_LAI], np.nan) if is_empty else physical(path, window)
                )
        return found


def result_of(
    item: Document, data: Path, latest: Callable[[Document], Document | None]
) -> PublishedResult | None:
    """Return the result that an item describes; None where it has no LAI raster here.

    Args:
        item: as stored.
        data: data root.
        latest: gives the item as it is stored by now, None where it is gone.

    Raises:
        RasterioError: the raster is gone or damaged.
    """
    assets = item.get("assets") or {}
    bands = {ENCODINGS[key.upper()].band: key for key in LAYERS if key in assets}
    files = {
        band: (data / assets[key]["href"], 1)
        for band, key in bands.items()
        if is_relative(assets[key]["href"])
    }
    if _LAI not in files:
        return None
    path = files[_LAI][0]
    properties = item["properties"]
    moment = properties.get("datetime") or properties["start_datetime"]

    def renewed() -> PublishedResult | None:
        newer = latest(item)
        is_other = newer is not None and newer["assets"] != item["assets"]
        return result_of(newer, data, latest) if newer and is_other else None

    try:
        grid, tags = grid_of(path), setting_tags(path)
    except RasterioError:
        if (newer := renewed()) is None:
            raise
        return newer
    return PublishedResult(path.parent, files, grid, tags, properties, moment, item, renewed)


class Wanted(BaseModel):
    """Which results a series is made of."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    target: str | None = None
    """`sl2p` or `field`; `sl2p` where there is one if not given."""
    model: str | None = None
    """Id or version of the model, or `id@version`; the newest if not given."""
    resolution: float | None = Field(default=None, gt=0)
    """Pixel size, metres; 20 where there is one if not given."""
    level: float | None = Field(default=None, gt=0, lt=1)
    """Level of the interval; 0.95 where there is one if not given."""
    region: Literal["known", "new"] | None = None
    """Regions that the interval of field LAI is for; `known` where there is one if not given."""

    def fits(self, kind: ResultGroup) -> bool:
        """Return whether results are wanted."""
        names = (kind.model, kind.model_version, f"{kind.model}@{kind.model_version}")
        return (
            self.target in (None, kind.target)
            and self.model in (None, *names)
            and (self.resolution is None or kind.resolution == f"{self.resolution:g} m")
            and self.level in (None, kind.level)
            and self.region in (None, kind.region)
        )


def choose(
    results: Sequence[PublishedResult], wanted: Wanted
) -> tuple[list[PublishedResult], ResultGroup, list[ResultGroup]]:
    """Choose the results of one series: one target, model, number of draws, resolution, interval.

    Args:
        results: at least one.
        wanted: which of them.

    Returns:
        The results, what they have in common, and what others there are.

    Raises:
        NotFoundError: there is none of those wanted.
    """
    is_mixed = find_two_scalings(results) is not None
    kinds = [one.chosen_by if is_mixed else replace(one.chosen_by, scaling="") for one in results]
    counts = Counter(kinds)
    fit = [kind for kind in counts if wanted.fits(kind)]
    if not fit:
        there = "; ".join(sorted({_name(kind) for kind in counts}))
        raise NotFoundError(
            f"no item here has that target, model, resolution, level or region; there are {there}"
        )

    def rank(kind: ResultGroup) -> tuple[Any, ...]:
        newest = tuple(int(number) for number in re.findall(r"\d+", kind.model_version))
        usual = kind.target == "sl2p", kind.resolution == "20 m", kind.level == 0.95
        as_usual = kind.region == "known", kind.plausibility == "auto", not kind.scaling
        return *usual, *as_usual, newest, counts[kind], kind.model

    best = max(fit, key=rank)
    others = sorted((kind for kind in counts if kind != best), key=_name)
    return [one for one, kind in zip(results, kinds, strict=True) if kind == best], best, others


def _name(kind: ResultGroup) -> str:
    model = f"{kind.target} {kind.model}@{kind.model_version}"
    return f"{model} {kind.resolution} {kind.level:g} {kind.region} {kind.scaling}".strip()


def observe(
    results: Sequence[PublishedResult],
    places: Sequence[BaseGeometry],
    exclude_flags: int,
    least: float,
) -> list[list[Observation]]:
    """Read the LAI of places, in order of time.

    Args:
        results: those of one series.
        places: points, polygons and multipolygons in degrees.
        exclude_flags: bits of LAI_FLAGS that make a pixel unusable.
        least: usable share of a place that has a mean.

    Returns:
        A list for every place.

    Raises:
        BadRequestError: a place covers more than `MAX_PIXELS` pixels, or all places and dates more
            than `MAX_READ_PIXELS`.
        RasterError, RasterioError: a raster is gone or damaged.
    """
    results = [replace(result, exclude_flags=exclude_flags) for result in results]
    groups = group_overpasses(results)
    pixel = min(result.grid.pixel_m for result in results)
    found: list[list[Observation]] = [[] for _ in places]
    batches = list(_batches(places, pixel))
    if sum(pixels for _, pixels in batches) * len(groups) > MAX_READ_PIXELS:
        raise BadRequestError(
            f"{len(groups)} dates of these places are more than {MAX_READ_PIXELS} pixels; give a "
            "shorter time or smaller places"
        )

    def look(shapes: Sequence[BaseGeometry], share: Sequence[LaiResult]) -> list[Overpass]:
        overpasses = observe_zones(
            shapes, "EPSG:4326", share, exclude_flags=exclude_flags, min_valid_share=least
        )
        return list(overpasses)

    with ThreadPoolExecutor(_THREADS) as readers:
        for batch, _ in batches:
            shapes = [places[number] for number in batch]
            shares = [
                [result for group in groups[first::_THREADS] for result in group]
                for first in range(_THREADS)
            ]
            overpasses = [
                one for some in readers.map(partial(look, shapes), shares) for one in some
            ]
            for overpass in sorted(overpasses, key=lambda one: one.datetime):
                for position in overpass.met:
                    found[batch[position]].append(_observation(overpass, int(position)))
    return found


def _batches(places: Sequence[BaseGeometry], pixel_m: float) -> Iterator[tuple[list[int], float]]:
    """Put places together whose common box is small; yield their numbers and the box's pixels.

    Raises:
        BadRequestError: the box of one place is too large.
    """
    boxes = [_box(place) for place in places]
    order = sorted(range(len(places)), key=boxes.__getitem__)
    batch: list[int] = []
    box: tuple[float, ...] | None = None
    for number in order:
        own = boxes[number]
        if _pixels(own, pixel_m) > MAX_PIXELS:
            raise BadRequestError(
                f"the place spans more than {MAX_PIXELS} pixels of {pixel_m:g} m; give smaller ones"
            )
        joined = own if box is None else (*map(min, box[:2], own[:2]), *map(max, box[2:], own[2:]))
        if box is not None and _pixels(joined, pixel_m) > MAX_PIXELS:
            yield batch, _pixels(box, pixel_m)
            batch, joined = [], own
        batch.append(number)
        box = joined
    if box is not None:
        yield batch, _pixels(box, pixel_m)


def _box(place: BaseGeometry) -> tuple[float, ...]:
    """Return the box of a place, in degrees that run on beyond 180° where it crosses it."""
    west, south, east, north = bounding_box(place)
    return west, south, east + (360 if east < west else 0), north


def _pixels(box: tuple[float, ...], pixel_m: float) -> float:
    west, south, east, north = box
    metres = 111_320.0
    across = (east - west) * metres * math.cos(math.radians((south + north) / 2))
    return across * (north - south) * metres / pixel_m**2


def _observation(overpass: Overpass, place: int) -> Observation:
    items = [result.item for result in overpass.results if isinstance(result, PublishedResult)]
    statistics = overpass.statistics
    means = {
        name: _number(statistics.mean[key][place]) if key in statistics.mean else None
        for name, key in _VALUES.items()
    }
    properties = items[0]["properties"]
    return Observation(
        item=" ".join(item["id"] for item in items),
        collection=items[0]["collection"],
        datetime=properties.get("datetime") or properties["start_datetime"],
        valid_fraction=float(statistics.valid_share[place]),
        pixels=float(statistics.pixels[place]),
        flags=int(statistics.flags[place]),
        **means,
    )


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
