"""Crop types of the French parcel register, and the season in which each of them grows.

The register (RPG, `registre parcellaire graphique`, from 2015 on) names a parcel `ID_PARCEL`, its
area in hectares `SURF_PARC` and its main crop `CODE_CULTU`, three letters. `CODE_GROUP` (28
groups), `CULTURE_D1` and `CULTURE_D2` (catch crops) are not used. The seventeen types of the
paper's tables 7 to 9 come first in each of its four seasons, others that cover much land after
them; another table may be given where it matters.

Source of codes and names: RPG nomenclature `CODE_CULTU`, IGN/ASP, licence ouverte.
"""

import enum


class Season(enum.StrEnum):
    """When a crop grows: a figure each (paper, figures 9-12)."""

    WINTER = "winter"
    SPRING = "spring"
    SUMMER = "summer"
    PERENNIAL = "all year"


CROPS = {
    Season.WINTER: {
        "BDH": "durum winter wheat",
        "BTH": "soft winter wheat",
        "CZH": "winter rapeseed",
        "ORH": "winter barley",
        "SGH": "winter rye",
        "TTH": "winter triticale",
    },
    Season.SPRING: {
        "BDP": "durum spring wheat",
        "BTP": "soft spring wheat",
        "CZP": "spring rapeseed",
        "ORP": "spring barley",
        "BTN": "sugar beet",
        "PTC": "potato",
    },
    Season.SUMMER: {
        "MID": "sweet maize",
        "MIE": "silage maize",
        "MIS": "grain maize",
        "SOG": "sorghum",
        "SOJ": "soya",
        "TRN": "sunflower",
    },
    Season.PERENNIAL: {
        "PPH": "permanent grassland",
        "J6S": "fallow",
        "PTR": "temporary grassland",
        "VRC": "wine grapes",
    },
}
"""Code -> English name, by season."""
NAMES = {code: name for crops in CROPS.values() for code, name in crops.items()}
SEASONS = {code: str(season) for season, crops in CROPS.items() for code in crops}


def season_of(code: str) -> str:
    """Return the season of a crop code; `other` for codes outside the table."""
    return SEASONS.get(code, "other")
