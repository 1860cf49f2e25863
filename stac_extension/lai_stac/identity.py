"""Times and tiles of descriptions; ids come from `lai_udf.identity`."""

from __future__ import annotations

import datetime as dt

from lai_stac.errors import DescriptionError
from lai_udf import identity
from lai_udf.errors import IdentityError


def tile_name(mgrs_tile: str) -> str:
    """Return a tile as STAC's grid extension writes it: `32TQM`, without the leading T.

    Raises:
        DescriptionError: it is no MGRS tile of 100 km.
    """
    try:
        return identity.tile_name(mgrs_tile)
    except IdentityError as error:
        raise DescriptionError(str(error)) from error


def utc(moment: dt.datetime | str) -> dt.datetime:
    """Read a time with zone and return it in UTC.

    Raises:
        DescriptionError: it is not ISO 8601 or names no zone.
    """
    try:
        return identity.utc(moment)
    except IdentityError as error:
        raise DescriptionError(str(error)) from error
