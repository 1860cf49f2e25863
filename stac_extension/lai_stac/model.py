"""The model of a product as a STAC Item of its own, so that `derived_from` leads somewhere.

A bundle is a zip for machines; a catalogue wants the Item inside it at an address, and the
network beside it.
"""

from __future__ import annotations

from pathlib import Path

from lai_stac.errors import DescriptionError, OutputError
from lai_stac.files import replace_file, write_json
from lai_stac.validation import validate_item
from lai_udf.predict import LaiModelError, read_bundle, read_member


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
