"""The name of an item: a function of place, time, model and target, never of the clock.

The same result described twice has the same id, so that publishing it twice changes nothing.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re

from lai_stac.errors import DescriptionError
from lai_udf.grid import Grid

MGRS_TILE = re.compile(r"^T?(\d{1,2})([C-HJ-NP-X])([A-HJ-NP-Z][A-HJ-NP-V])$")


def item_id(
    *,
    datetime: dt.datetime | str,
    model_version: str,
    grid: Grid | None = None,
    mgrs_tile: str | None = None,
    target: str = "sl2p",
) -> str:
    """Return ``lai_s2_<place>_<time>_<model version>``, with ``_field`` for that target.

    Args:
        datetime: time of the observation, with its zone (an ISO string or a datetime).
        model_version: semantic version of the model; dots become dashes.
        grid: grid of the raster; its hash is the place where there is no tile.
        mgrs_tile: such as `32TQM` or `T32TQM`.
        target: `sl2p` or `field`; the two are different products of the same scene.

    Returns:
        Lower-case letters, digits, `_` and `-` only.

    Raises:
        DescriptionError: neither tile nor grid, a time without zone, or an unknown target.
    """
    if target not in ("sl2p", "field"):
        raise DescriptionError(f'target {target!r} is unknown: use "sl2p" or "field"')
    if mgrs_tile is None and grid is None:
        raise DescriptionError("an item id needs a place: give mgrs_tile or grid")
    place = tile_name(mgrs_tile).lower() if mgrs_tile else place_hash(grid)
    moment = utc(datetime).strftime("%Y%m%dt%H%M%S")
    version = re.sub(r"[^a-z0-9]+", "-", model_version.lower()).strip("-")
    return "_".join(["lai_s2", place, moment, version, *(["field"] if target == "field" else [])])


def place_hash(grid: Grid | None) -> str:
    """Return eight hexadecimal digits that stand for CRS, corner, pixel and size of a grid."""
    return hashlib.sha256(str(grid).encode()).hexdigest()[:8]


def tile_name(mgrs_tile: str) -> str:
    """Return a tile as STAC's grid extension writes it: `32TQM`, without the leading T.

    Raises:
        DescriptionError: it is no MGRS tile of 100 km.
    """
    found = MGRS_TILE.match(mgrs_tile.upper())
    if found is None or not 1 <= int(found[1]) <= 60:
        raise DescriptionError(f"{mgrs_tile!r} is no MGRS tile: write it like 32TQM")
    return f"{int(found[1]):02d}{found[2]}{found[3]}"


def utc(moment: dt.datetime | str) -> dt.datetime:
    """Read a time with zone and return it in UTC.

    Raises:
        DescriptionError: it is not ISO 8601 or names no zone.
    """
    try:
        read = dt.datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    except ValueError as error:
        raise DescriptionError(f"{moment!r} is no ISO 8601 time: {error}") from error
    if read.tzinfo is None:
        raise DescriptionError(f"{moment!r} has no time zone: append Z for UTC")
    return read.astimezone(dt.UTC)
