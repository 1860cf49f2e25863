"""Write a calibration or scores into a bundle: the same data give the same bytes.

Input: a bundle of any network that emulates SL2P, and tables of field measurements or scores.
Output: the bundle with that part of its contract replaced, and the model card beside it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lai_training.bundles.export import list_members, write_members
from lai_training.bundles.model_card import model_card
from lai_training.calibration.calibrate import calibrate
from lai_training.calibration.measurements import FILES, gather_measurements
from lai_udf.atomic import disk_errors, move_finished, work_folder
from lai_udf.predict import read_bundle, read_member


def make_calibration(pairs: Path, further: Path | None = None) -> dict[str, Any]:
    """Return the `calibration` block of `model.json`, see `calibrate.calibrate`."""
    tables = [pairs.name]
    if further is not None:
        tables += [name for name in FILES.values() if (further / name).exists()]
    return calibrate(gather_measurements(pairs, further)) | {"data": ", ".join(tables)}


def rewrite_bundle(bundle: Path, part: str, content: Mapping[str, Any], out: Path) -> Path:
    """Write a bundle with another part of its contract, and its card beside it.

    Args:
        bundle: zip or folder.
        part: `calibration`, replaced; or `metrics`, to which is added.
        content: of `make_calibration`; or scores by name.
        out: zip to write; may be `bundle`.

    Raises:
        LaiModelError: the bundle cannot be opened.
        OutputNotWritableError: the folder refuses.
    """
    description, weights = read_bundle(str(bundle))
    contract = description["properties"]["lai:contract"]
    names = contract.get("graphs", {})
    graphs = {name: read_member(str(bundle), f"{name}.onnx") for name in names}
    kept = [body["weights"] for body in contract.get("bodies", {}).values()]
    others = {name: read_member(str(bundle), name) for name in kept}
    known = contract.get("metrics", {}) if part == "metrics" else {}
    contract[part] = {**known, **content}
    members = list_members(description, {**graphs, "model": weights})
    write_members(out, members | others)
    card = out.with_suffix(".md")
    with work_folder(card.parent) as work, disk_errors(card.parent):
        (work / card.name).write_text(model_card(description), encoding="utf-8")
        move_finished({work / card.name: card})
    return out
