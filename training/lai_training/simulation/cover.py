"""What grows in each parcel on a given day: crop calendars, surfaces and LAI.

Input: land use of parcels, the day of the year and a spectral library. Output: `ParcelCover`, two
surfaces of the library per parcel, how they are mixed, the mean LAI and how it varies inside.

Calendars are those of temperate Europe with a month of play; they only need to give landscapes in
which bare, growing, full and ripe fields lie side by side as they do in real scenes.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lai_training.simulation.parcels import LandUse
from lai_training.simulation.spectral_library import GREEN, TABLES, SpectralLibrary, SurfaceClass

Array = NDArray[np.float64]
Index = NDArray[np.intp]


CALENDARS = TABLES / "calendars.csv"
"""Of the kinds of vegetation on each land use: their share among its parcels; days of the year when
growth starts, of full cover, when leaves begin to dry, and of harvest or leaf fall; ranges of the
highest and lowest LAI, m2 m-2."""
DAYS = ["emerges", "peaks", "ripens", "ends"]
WOODY = (SurfaceClass.BROADLEAF, SurfaceClass.CONIFER)
VILLAGE_SURFACES = (SurfaceClass.BUILT, SurfaceClass.GRASS, SurfaceClass.BROADLEAF)
BESIDE_BUILT = (
    SurfaceClass.CROP, SurfaceClass.GRASS, SurfaceClass.BROADLEAF, SurfaceClass.BUILT,
)  # fmt: skip
"""What shares a pixel with a building or a road."""


@dataclass(frozen=True)
class ParcelCover:
    """State of each parcel on the day; arrays of shape (parcel,)."""

    first: Index
    """Surface of the library that covers most of the parcel."""
    second: Index
    """Surface mixed in, by `second_share`."""
    second_share: Array
    """Mean share of the second surface, 0-1."""
    lai: Array
    """Mean LAI of green surfaces, m2 m-2; on others the position on the ladder, 0-1."""
    green: NDArray[np.bool_]
    """Whether `lai` is LAI."""
    variation: Array
    """Relative standard deviation of LAI within the parcel."""
    row_contrast: Array
    """Relative amplitude of rows or tramlines."""
    shade: Array
    """Relative standard deviation of illumination: slopes, and shadows between crowns."""


@cache
def read_calendars() -> dict[LandUse, dict[str, NDArray[Any]]]:
    """Return the columns of `CALENDARS` by land use, surfaces by their numbers."""
    table = pd.read_csv(CALENDARS)
    table["surface"] = [int(SurfaceClass[name]) for name in table["surface"]]
    return {
        LandUse[str(use)]: {str(name): rows[name].to_numpy() for name in rows}
        for use, rows in table.groupby("land_use", sort=False)
    }


def season(
    day: Array, emerges: Array, peaks: Array, ripens: Array, ends: Array
) -> tuple[Array, Array]:
    """Shape of the growing season.

    Args are days of the year, 1-366, of one shape: start of growth, full cover, start of drying,
    harvest or leaf fall. Returns (share of the peak LAI 0-1, share of leaves that are dry 0-1).
    """
    grown = np.clip((day - emerges) / np.maximum(peaks - emerges, 1), 0, 1)
    grown = grown * grown * (3 - 2 * grown)
    dry = np.clip((day - ripens) / np.maximum(ends - ripens, 1), 0, 1)
    return grown * (1 - 0.7 * dry) * (day < ends), dry * (day < ends)


def _pick(library: SpectralLibrary, surface: Index, rng: np.random.Generator) -> Index:
    """Draw one surface of the library for each wanted class, shape (n,)."""
    chosen = np.zeros(len(surface), np.intp)
    for each in np.unique(surface):
        wanted = surface == each
        chosen[wanted] = rng.choice(library.of_class(SurfaceClass(each)), wanted.sum())
    return chosen


def draw_cover(
    land_use: NDArray[np.uint8],
    day_of_year: float,
    library: SpectralLibrary,
    rng: np.random.Generator,
    *,
    snow_share: float = 0.0,
) -> ParcelCover:
    """Draw what covers each parcel on a day of the year (1-366, northern temperate zone).

    `land_use` is the `LandUse` of each parcel, (parcel,); `snow_share` the share of them under
    snow.
    """
    n = len(land_use)
    surface, lai, dry = _grow(land_use, day_of_year, rng)
    _build(land_use, surface, lai, rng)
    surface[rng.random(n) < snow_share] = SurfaceClass.SNOW

    has_leaves = np.isin(surface, [*GREEN, SurfaceClass.SENESCENT])
    second_class = np.where(
        (dry > 0) & has_leaves & (surface != SurfaceClass.CONIFER), SurfaceClass.SENESCENT, surface
    )
    built = surface == SurfaceClass.BUILT
    second_class[built] = rng.choice(np.array(BESIDE_BUILT), built.sum())
    if snow_share > 0:
        second_class[rng.random(n) < 0.5] = SurfaceClass.SNOW  # patchy, under trees
    return ParcelCover(
        first=_pick(library, surface, rng),
        second=_pick(library, second_class, rng),
        second_share=np.maximum(dry, rng.beta(1.0, 2.5, n)),
        lai=lai,
        green=has_leaves,
        variation=np.where(has_leaves, rng.gamma(2.0, 0.13, n), 0.1),
        row_contrast=np.where(rng.random(n) < 0.3, rng.uniform(0, 0.25, n), 0.0),
        shade=np.where(np.isin(surface, WOODY), 0.10, 0.04) * rng.uniform(0.3, 1.5, n),
    )


def _grow(
    land_use: NDArray[np.uint8], day_of_year: float, rng: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]:
    """Grow the plants of each parcel by their calendar; land without plants is bare.

    Returns surface class, LAI (m2 m-2; of bare land drawn) and share of dry leaves (0-1),
    (parcel,).
    """
    n = len(land_use)
    surface = np.full(n, SurfaceClass.BARE, np.intp)
    lai = rng.random(n)
    dry = np.zeros(n)
    for use, calendars in read_calendars().items():
        here = np.flatnonzero(land_use == use)
        shares = calendars["share"]
        kind = rng.choice(len(shares), len(here), p=shares / shares.sum())
        table = {name: column[kind] for name, column in calendars.items()}
        days = np.stack([table[name] for name in DAYS], axis=1).astype(np.float64)
        days = days + rng.normal(0, 14, (len(here), 1)) + rng.normal(0, 5, (len(here), 4))
        grown, dry_here = season(np.full(len(here), day_of_year), *days.T)
        peak = rng.uniform(table["peak_lai_min"], table["peak_lai_max"])
        lowest = rng.uniform(table["lowest_lai_min"], table["lowest_lai_max"])
        lai[here] = np.maximum(lowest, peak * grown)
        dry[here] = dry_here
        surface[here] = table["surface"]
        stubble = here[(day_of_year > days[:, 3]) & (lai[here] < 0.5)]
        surface[stubble[rng.random(len(stubble)) < 0.5]] = SurfaceClass.SENESCENT
    return surface, lai, dry


def _build(
    land_use: NDArray[np.uint8],
    surface: NDArray[np.intp],
    lai: NDArray[np.float64],
    rng: np.random.Generator,
) -> None:
    """Put villages, roads and waters on their parcels, in place; villages have gardens."""
    for use, choices in (
        (LandUse.VILLAGE, VILLAGE_SURFACES),
        (LandUse.ROAD, (SurfaceClass.BUILT,)),
        (LandUse.LAKE, (SurfaceClass.WATER,)),
        (LandUse.RIVER, (SurfaceClass.WATER,)),
    ):
        here = np.flatnonzero(land_use == use)
        surface[here] = rng.choice(np.array(choices), len(here))
    garden = (land_use == LandUse.VILLAGE) & np.isin(surface, GREEN)
    lai[garden] = rng.uniform(0.5, 4.5, garden.sum())
