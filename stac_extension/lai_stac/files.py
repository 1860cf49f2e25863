"""Files appear whole or not at all, as rasters do (`lai_udf.atomic`): JSON, thumbnails, models.

A bundle is a zip for machines; a catalogue wants the model as an Item at an address, so that
`derived_from` leads somewhere, and the network beside it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from lai_stac.errors import DescriptionError, OutputError, RasterError
from lai_stac.validation import validate_item
from lai_udf.atomic import disk_errors, move_finished, work_folder
from lai_udf.errors import OutputNotWritableError
from lai_udf.picture import colour_lai, encode_png, magnify, shrink
from lai_udf.predict import LaiModelError, read_bundle, read_member


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


def write_model_item(bundle: Path, directory: Path) -> Path:
    """Unpack a model bundle into `directory/<id>/`: `<id>.json` and the networks of its assets.

    They are written first: the Item never points to a file that is not there. Written
    twice, the same bundle gives the same files.

    Args:
        bundle: zip or folder with `model.json` and `model.onnx`.
        directory: home of the models; made if missing.

    Returns:
        The path of the Item; its href, seen from a product, is the `model_href` of `build_item`.

    Raises:
        DescriptionError: the bundle cannot be read.
        InvalidItemError: `model.json` is no valid MLM Item.
        OutputError: the files cannot be written.
    """
    try:
        description, _ = read_bundle(str(bundle))
        files = {
            Path(asset["href"]).name: read_member(str(bundle), Path(asset["href"]).name)
            for asset in description["assets"].values()
        }
    except LaiModelError as error:
        raise DescriptionError(str(error)) from error
    validate_item(description)
    home = directory / str(description["id"])
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make {home} ({error.strerror})") from error
    for name, content in files.items():
        replace_file(home / name, content)
    return write_json(home / f"{description['id']}.json", description)
