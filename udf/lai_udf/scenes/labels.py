"""Names of bands: the labels of this project, and what others call the same bands."""

import re
from collections.abc import Iterable, Sequence

from lai_udf.errors import MetadataError
from lai_udf.predict import ANGLES, BANDS

SCENE_CLASS_BAND = "SCL"
"""Label of the L2A scene classification; it keeps its class numbers, 0 is no data."""
LABELS = (*BANDS, SCENE_CLASS_BAND, *ANGLES)
"""Labels that a scene may have, in the order in which it is read."""
COMMON_NAMES = {
    "blue": "B02",
    "green": "B03",
    "red": "B04",
    "rededge1": "B05",
    "rededge2": "B06",
    "rededge3": "B07",
    "rededge071": "B05",
    "rededge075": "B06",
    "rededge078": "B07",
    "nir": "B08",
    "nir08": "B8A",
    "swir16": "B11",
    "swir22": "B12",
}
"""Asset keys of Earth Search v1 and common names of the EO extension (1.1 and 2.0)."""
RESOLUTION_SUFFIX = re.compile(r"([-_](10m|20m|60m|jp2))+$", re.IGNORECASE)


def band_label(text: str | None) -> str | None:
    """Return the label for a name of a band, None for a foreign one.

    `b2`, `B02`, `B02_20m` and `blue` are all `B02`; case does not matter.
    """
    name = RESOLUTION_SUFFIX.sub("", (text or "").strip())
    match = re.fullmatch(r"[Bb]0?(\d{1,2}|8[Aa])", name)
    if match:
        number = match[1].upper()
        name = f"B{number}" if number == "8A" else f"B{int(number):02d}"
    lower = name.lower()
    by_lower_case = {label.lower(): label for label in LABELS}
    return by_lower_case.get(lower) or COMMON_NAMES.get(lower.replace("_", ""))


def label_once(names: Iterable[str | None], where: str) -> dict[str, int]:
    """Return the position, from 0, of each label among names.

    Raises:
        MetadataError: two names mean the same band.
    """
    positions: dict[str, int] = {}
    names = list(names)
    for position, name in enumerate(names):
        label = band_label(name)
        if label is None:
            continue
        if label in positions:
            raise MetadataError(
                f"{where}: {names[positions[label]]!r} and {name!r} are both band {label}: "
                "give each band once"
            )
        positions[label] = position
    return positions


def names_in_order(names: Sequence[str], count: int, where: str, what: str = "bands") -> list[str]:
    """Return the names that a caller gives `count` bands in order; none where there are none.

    Raises:
        MetadataError: there are more or fewer.
    """
    if names and len(names) != count:
        raise MetadataError(
            f"{where} has {count} {what}", parameter="bands", expected=f"{count} names"
        )
    return list(names)
