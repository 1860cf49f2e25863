"""A small picture of LAI for people who browse, in the colours of `lai_udf.picture`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy.typing as npt

from lai_stac.errors import RasterError
from lai_stac.files import replace_file
from lai_udf.picture import colour_lai, encode_png, magnify, shrink


def write_thumbnail(lai: npt.NDArray[Any], path: Path) -> Path:
    """Write a PNG of LAI of at most 512 px a side, whole or not at all.

    Args:
        lai: m2 m-2, (y, x), NaN = no data.
        path: where to; the folder is made if missing.

    Raises:
        OutputError: the file cannot be written.
        RasterError: GDAL has no PNG driver.
    """
    try:
        content = encode_png(magnify(colour_lai(shrink(lai))))
    except OSError as error:
        raise RasterError(f"GDAL cannot draw the PNG of {path} ({error})") from error
    return replace_file(path, content)
