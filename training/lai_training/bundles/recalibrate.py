"""Write the calibration into a bundle: the same data give the same bytes, whatever the network.

Comes in: a bundle of any network that emulates SL2P, and tables of field measurements. Goes out:
the bundle with its `calibration` replaced, and the model card beside it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lai_training.bundles.export import write_bundle
from lai_training.bundles.model_card import model_card
from lai_training.calibration.calibrate import calibrate
from lai_training.calibration.measurements import (
    FILES,
    GROUNDED,
    Measurements,
    from_grounded,
    from_pairs,
    from_wheat,
    join,
)
from lai_training.calibration.pairs import read_pairs
from lai_udf.atomic import disk_errors, move_finished, work_folder
from lai_udf.predict import read_bundle, read_member


def gather_measurements(pairs: Path, further: Path | None = None) -> dict[str, Measurements]:
    """Return the measurements of every variable.

    Args:
        pairs: CSV of field pairs of LAI.
        further: folder with some of the tables of `measurements.FILES`; None = LAI of the pairs
            alone.

    Raises:
        PairsError: a table cannot be read.
    """
    lai = from_pairs(read_pairs(pairs))
    more = gather_further(further)
    found = {"LAI": lai if more is None else join([lai, more])}
    if further is not None:
        if (path := further / FILES[GROUNDED]).exists():
            found["FAPAR"] = from_grounded(path, "FAPAR")
        if (path := further / FILES["green_cover"]).exists():
            found["FCOVER"] = from_wheat(path, "FCOVER")
    return found


def gather_further(folder: Path | None) -> Measurements | None:
    """Return the LAI of the further tables in a folder, None where there is none of them."""
    if folder is None:
        return None
    readers = {GROUNDED: from_grounded, "lai": from_wheat}
    paths = {name: folder / FILES[name] for name in readers}
    parts = [readers[name](path, "LAI") for name, path in paths.items() if path.exists()]
    return join(parts) if parts else None


def make_calibration(pairs: Path, further: Path | None = None) -> dict[str, Any]:
    """Return the `calibration` block of `model.json`, see `calibrate.calibrate`."""
    tables = [pairs.name]
    if further is not None:
        tables += [name for name in FILES.values() if (further / name).exists()]
    return calibrate(gather_measurements(pairs, further)) | {"data": ", ".join(tables)}


def recalibrate(bundle: Path, calibration: Mapping[str, Any], out: Path) -> Path:
    """Write a bundle with another calibration, and its card beside it.

    Args:
        bundle: zip or folder.
        calibration: of `make_calibration`.
        out: zip to write; may be `bundle`.

    Raises:
        LaiModelError: the bundle cannot be opened.
        OutputNotWritableError: the folder refuses.
    """
    description, weights = read_bundle(str(bundle))
    contract = description["properties"]["lai:contract"]
    names = contract.get("graphs", {})
    graphs = {name: read_member(str(bundle), f"{name}.onnx") for name in names}
    contract["calibration"] = dict(calibration)
    write_bundle(out, description, {**graphs, "model": weights})
    card = out.with_suffix(".md")
    with work_folder(card.parent) as work, disk_errors(card.parent):
        (work / card.name).write_text(model_card(description), encoding="utf-8")
        move_finished({work / card.name: card})
    return out


def store_calibration(calibration: Mapping[str, Any], path: Path) -> Path:
    """Write a calibration as JSON, to be put into another bundle later."""
    with work_folder(path.parent) as work, disk_errors(path.parent):
        (work / path.name).write_text(json.dumps(calibration, indent=1) + "\n", encoding="utf-8")
        move_finished({work / path.name: path})
    return path
