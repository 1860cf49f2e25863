"""Crop types of the French parcel register, and the season in which each of them grows.

The register (RPG, `registre parcellaire graphique`, from 2015 on) names a parcel `ID_PARCEL`, its
area in hectares `SURF_PARC` and its main crop `CODE_CULTU`, three letters. `CODE_GROUP` (28
groups), `CULTURE_D1` and `CULTURE_D2` (catch crops) are not used. The seventeen types below are
arable crops, grass and vines that cover most of it; the paper groups its types into four seasons,
and so does this table. Which seventeen the paper takes is not known here: give another table where
it matters.

Growth days are those of southern France within a few weeks; the simulated season uses them, and
nothing that reads real parcels does.

Source of codes and names: RPG nomenclature `CODE_CULTU`, IGN/ASP, licence ouverte.
"""

import enum
from dataclasses import dataclass

from lai_training.simulation.spectral_library import SurfaceClass


class Season(enum.StrEnum):
    """When a crop grows: a figure each (paper, figures 9-12)."""

    WINTER = "winter"
    SPRING = "spring"
    SUMMER = "summer"
    PERENNIAL = "all year"


@dataclass(frozen=True)
class CropType:
    """A crop of the register."""

    code: str
    """`CODE_CULTU`."""
    name: str
    """English name."""
    season: Season
    """Group in tables and figures."""
    days: tuple[float, float, float, float]
    """Day of the year of emergence, full cover, ripening, harvest (or leaf fall)."""
    peak_lai: tuple[float, float]
    """Range of the highest LAI, m2 m-2."""
    lowest_lai: float = 0.05
    """LAI outside the season, m2 m-2."""
    surface: SurfaceClass = SurfaceClass.CROP
    """Kind of canopy, for the simulator."""


CROP_TYPES: tuple[CropType, ...] = (
    CropType("BTH", "soft winter wheat", Season.WINTER, (30, 125, 155, 190), (3.0, 6.5), 0.4),
    CropType("BDH", "durum winter wheat", Season.WINTER, (35, 120, 150, 185), (2.5, 5.5), 0.4),
    CropType("ORH", "winter barley", Season.WINTER, (25, 115, 140, 172), (3.0, 6.5), 0.5),
    CropType("TTH", "winter triticale", Season.WINTER, (30, 125, 155, 195), (3.0, 6.0), 0.5),
    CropType("CZH", "winter rapeseed", Season.WINTER, (20, 105, 145, 182), (3.0, 6.0), 1.0),
    CropType("ORP", "spring barley", Season.SPRING, (75, 140, 165, 195), (2.5, 5.5)),
    CropType("BTP", "soft spring wheat", Season.SPRING, (75, 145, 170, 202), (2.5, 5.5)),
    CropType("BTN", "sugar beet", Season.SPRING, (100, 175, 265, 300), (3.0, 5.5)),
    CropType("PTC", "potato", Season.SPRING, (115, 175, 215, 255), (2.5, 5.0)),
    CropType("MIS", "grain maize", Season.SUMMER, (125, 200, 240, 285), (3.0, 6.5)),
    CropType("MIE", "silage maize", Season.SUMMER, (128, 200, 235, 260), (3.0, 6.5)),
    CropType("TRN", "sunflower", Season.SUMMER, (120, 185, 215, 255), (1.8, 4.5)),
    CropType("SOJ", "soya", Season.SUMMER, (130, 205, 240, 275), (3.0, 6.5)),
    CropType("SOG", "sorghum", Season.SUMMER, (135, 205, 240, 275), (2.0, 5.0)),
    CropType(
        "PPH",
        "permanent grassland",
        Season.PERENNIAL,
        (50, 130, 230, 345),
        (1.5, 4.5),
        0.6,
        SurfaceClass.GRASS,
    ),
    CropType(
        "PTR",
        "temporary grassland",
        Season.PERENNIAL,
        (45, 125, 240, 345),
        (2.0, 5.5),
        0.7,
        SurfaceClass.GRASS,
    ),
    CropType(
        "VRC",
        "wine grapes",
        Season.PERENNIAL,
        (100, 180, 260, 310),
        (0.8, 2.5),
        0.2,
        SurfaceClass.BROADLEAF,
    ),
)
"""Seventeen types, ordered by season."""

CROPS_BY_CODE = {crop.code: crop for crop in CROP_TYPES}


def season_of(code: str) -> str:
    """Return the season of a crop code; `other` for codes outside the table."""
    crop = CROPS_BY_CODE.get(code)
    return str(crop.season) if crop else "other"
