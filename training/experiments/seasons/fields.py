"""A simulated season over parcels: the same fields on many dates, with their true LAI.

Input: a size, a seed and dates. Output, folder by folder: what a user of `lai-train parcels`
has: `parcels.gpkg` in the layout of the French register, a LAI item folder per date with SL2P
beside it, and, which no real season has, `truth.csv`, the mean true LAI of every parcel and date.

A parcel keeps its crop, its canopies of the spectral library, its pattern of good and poor spots
and its place through the season; LAI follows the crop's calendar, moved by a few weeks per parcel.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import geopandas as gpd
import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from rasterio.features import shapes
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from experiments.seasons.calendars import CALENDARS
from lai_training.simulation.cover import ParcelCover, season
from lai_training.simulation.landscapes import SimulatedScene, render
from lai_training.simulation.observation import (
    NoiseModel,
    add_clouds,
    add_haze_and_gain,
    add_noise,
    classify_clouds,
    classify_land,
    spread_points,
)
from lai_training.simulation.parcels import LandUse, ParcelMap, draw_parcels
from lai_training.simulation.simulate import label_scene
from lai_training.simulation.spectral_library import SpectralLibrary, SurfaceClass
from lai_udf.grid import Grid
from lai_udf.zonal import describe_pixels, take_pixels
from lai_udf.zones import weigh_zones

Floats = NDArray[np.float64]

MIN_PARCEL_PX = 20
"""Smaller pieces of the landscape are not parcels of the register."""
CLOUDY_SHARE = 0.3
"""Share of the dates with clouds, by default."""


@dataclass(frozen=True, eq=False)
class SimulatedDate:
    """One date of a season."""

    scene: xr.DataArray
    """Observed reflectance, SCL and angles, as `lai_udf.scenes.read.read_scene` returns them."""
    true_lai: NDArray[np.float32]
    """Of the ground, (y, x), m2 m-2."""


@dataclass(frozen=True, eq=False)
class FieldYear:
    """What a landscape keeps through the year; arrays of shape (parcel,) for `ParcelMap`."""

    parcels: ParcelMap
    crop: NDArray[np.intp]
    """Index into `CALENDARS`; -1: no crop but bare ground."""
    first: NDArray[np.intp]
    """Green canopy, surface of the library."""
    dry: NDArray[np.intp]
    """Senescent canopy, surface of the library."""
    days: Floats
    """(parcel, 4): emergence, full cover, ripening, harvest."""
    peak_lai: Floats
    lowest_lai: Floats
    variation: Floats
    """Relative standard deviation of LAI inside the parcel."""


def season_dates(count: int, year: int = 2020) -> list[datetime]:
    """Spread overpasses evenly from mid-February to mid-November."""
    first = datetime(year, 2, 15, 10, 56, 21, tzinfo=UTC)
    step = 270 / max(count - 1, 1)
    return [first + timedelta(days=round(step * number)) for number in range(count)]


def draw_field_year(size_px: int, library: SpectralLibrary, rng: np.random.Generator) -> FieldYear:
    """Draw fields and what grows in them."""
    parcels = draw_parcels(size_px, size_px, rng, block_px=55.0)
    n = len(parcels.land_use)
    crop = rng.integers(0, len(CALENDARS), n)
    fields = np.isin(parcels.land_use, [LandUse.ARABLE, LandUse.PASTURE, LandUse.FOREST])
    crop[~fields] = -1
    surface = np.array([kind.surface for kind in CALENDARS])[crop]
    surface[crop < 0] = SurfaceClass.BARE
    dry = rng.choice(library.of_class(SurfaceClass.SENESCENT), n)
    first = np.array([rng.choice(library.of_class(SurfaceClass(each))) for each in surface])
    days = np.array([kind.days for kind in CALENDARS], np.float64)[crop]
    days += rng.normal(0, 9, (n, 1)) + rng.normal(0, 3, (n, 4))
    low, high = np.array([kind.peak_lai for kind in CALENDARS])[crop].T
    return FieldYear(
        parcels=parcels,
        crop=crop,
        first=first,
        dry=np.where(crop < 0, first, dry),
        days=days,
        peak_lai=rng.uniform(low, high),
        lowest_lai=np.array([kind.lowest_lai for kind in CALENDARS])[crop],
        variation=rng.gamma(2.0, 0.1, n),
    )


def outline_parcels(year: FieldYear, grid: Grid) -> gpd.GeoDataFrame:
    """Return the cropped parcels as polygons: `parcel`, `crop`, `geometry`.

    A parcel of the map may fall into pieces; each piece of at least 20 px is a parcel here.
    """
    label = np.where(year.crop[year.parcels.parcel] >= 0, year.parcels.parcel + 1, 0)
    rows: dict[str, list[str]] = {"parcel": [], "crop": []}
    outlines: list[BaseGeometry] = []
    found = shapes(label.astype(np.int32), mask=label > 0, transform=grid.transform)
    for geometry, value in found:
        outline = shape(geometry)
        if outline.area >= MIN_PARCEL_PX * abs(grid.transform.a * grid.transform.e):
            rows["parcel"].append(str(len(outlines) + 1))
            rows["crop"].append(CALENDARS[year.crop[int(value) - 1]].code)
            outlines.append(outline)
    return gpd.GeoDataFrame(rows, geometry=outlines, crs=grid.crs)


def cover_on(year: FieldYear, day: float) -> ParcelCover:
    """Return the state of every field on a day of the year."""
    n = len(year.crop)
    grown, dry = season(np.full(n, day), *year.days.T)
    green = year.crop >= 0
    return ParcelCover(
        first=year.first,
        second=year.dry,
        second_share=np.where(green, dry * 0.8, 0.0),
        lai=np.where(green, np.maximum(year.lowest_lai, year.peak_lai * grown), 0.5),
        green=green,
        variation=year.variation,
        row_contrast=np.zeros(n),
        shade=np.full(n, 0.03),
    )


def simulate_season(
    year: FieldYear,
    dates: Sequence[datetime],
    library: SpectralLibrary,
    rng: np.random.Generator,
    *,
    seed: int = 0,
    noise: NoiseModel | None = None,
    cloudy_share: float = CLOUDY_SHARE,
) -> Iterator[SimulatedDate]:
    """Simulate every date of a season.

    Args:
        year: the fields.
        dates: times of acquisition with zone.
        library: the spectra that `year` points to.
        rng: source of haze, noise and clouds.
        seed: of the pattern inside the fields, the same on all dates.
        noise: of the observation.
        cloudy_share: share of the dates with clouds, 0-1.

    Yields:
        Scene and true LAI, date by date.
    """
    noise = noise or NoiseModel()
    for date in dates:
        day = float(date.timetuple().tm_yday)
        pattern = np.random.default_rng(seed)
        clean, lai = render(year.parcels, cover_on(year, day), library, pattern)
        clean = add_haze_and_gain(spread_points(clean, rng)[None], rng)[0]
        observed, classes = clean, classify_land(lai)
        if rng.random() < cloudy_share:
            observed, opacity, depth = add_clouds(clean, rng, cover=rng.uniform(0.1, 0.6))
            classes = classify_clouds(classes, opacity, depth)
        observed = add_noise(observed, rng, noise)
        view = (rng.uniform(1, 10), 105.0)
        scene = SimulatedScene(
            boa_reflectance=clean,
            observed_reflectance=observed,
            true_lai=lai,
            scene_classification=classes,
            parcel_id=year.parcels.parcel.astype(np.int32),
        )
        yield SimulatedDate(label_scene(scene, date, view, seed), lai)


def label_parcels(parcels: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Return parcels with the columns of the French register."""
    hectares = (parcels.area / 10_000).round(2)
    named = parcels.rename(columns={"parcel": "ID_PARCEL", "crop": "CODE_CULTU"})
    return named.assign(SURF_PARC=hectares)


def mean_truth(parcels: gpd.GeoDataFrame, date: SimulatedDate) -> pd.DataFrame:
    """Return `parcel`, `datetime`, `truth`: the mean true LAI of each parcel, seen or not."""
    grid = Grid.of_data_array(date.scene, "the simulated scene")
    zones = weigh_zones(list(parcels.geometry), parcels.crs, grid)
    truth = describe_pixels(take_pixels(zones, {"lai": date.true_lai})).mean["lai"]
    time = pd.to_datetime(date.scene.attrs["datetime"], utc=True)
    return pd.DataFrame(parcels[["parcel"]]).assign(datetime=time, truth=truth)
