"""Small files, pictures too, appear whole or not at all, as rasters do (`lai_udf.atomic`)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from lai_stac.errors import OutputError, RasterError
from lai_udf.atomic import disk_errors, move_finished, work_folder
from lai_udf.errors import OutputNotWritableError
from lai_udf.picture import colour_lai, encode_png, magnify, shrink


def replace_file(path: Path, content: bytes) -> Path:
    """Put `content` at `path`; what was there before stays until the new file is whole.

    Raises:
        OutputError: the folder cannot be written; what was there before is still there.
    """
    try:
        with work_folder(path.parent) as work, disk_errors(path.parent):
            (work / path.name).write_bytes(content)
            move_finished({work / path.name: path})
    except OutputNotWritableError as error:
        raise OutputError(error.word()) from error
    return path


def write_json(path: Path, document: Mapping[str, Any]) -> Path:
    """Write a STAC document; raises as `replace_file`."""
    return replace_file(path, (json.dumps(document, indent=2, allow_nan=False) + "\n").encode())


def write_thumbnail(lai: npt.NDArray[Any], path: Path) -> Path:
    """Write a PNG of LAI, of at most 512 px a side, in the colours of `lai_udf.picture`.

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
