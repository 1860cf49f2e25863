"""Write a calibration or scores into a bundle: the same data give the same bytes.

Input: a bundle of any network that emulates SL2P, and tables of field measurements or scores.
Output: the bundle with that part of its contract replaced, and the model card beside it.
"""

import tempfile
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import keras

from lai_training.bundles.export import export_onnx, list_members, write_members
from lai_training.bundles.model_card import model_card
from lai_training.bundles.model_item import describe_model
from lai_training.calibration.calibrate import calibrate
from lai_training.calibration.measurements import FILES, gather_measurements
from lai_training.errors import ExportError
from lai_training.learn.checkpoints import BEST, read_history
from lai_training.learn.pools import Progress
from lai_training.learn.run_folder import spec_of
from lai_training.restore.bundle import pack_run
from lai_training.restore.fit import is_body_run
from lai_training.restore.scenes import fit_residual_cloud, read_scenes
from lai_training.scores.emulation import find_scenes, score_scenes
from lai_udf.atomic import disk_errors, move_finished, work_folder
from lai_udf.bundle import open_bundle
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


SCENE_CASES = {
    "angles_given": (0.0, True),
    "nominal_angles": (0.0, False),
    "with_noise": (1.0, False),
}
"""Of the scores on scenes: level of band noise, and whether angles are given."""
NO_CALIBRATION: dict[str, Any] = {}

Make = Callable[[dict[str, Any], dict[str, Any]], dict[str, bytes]]
"""From calibration and scores to the members of a bundle."""


def _pack_network(run: Path, version: str) -> Make:
    """Return how a bundle of contract 1 is packed from the run of one network."""
    if not (run / BEST).exists():
        raise ExportError(f"{run} holds no {BEST}: finish the run with lai-train fit first")
    epochs = spec_of(run)[1]["config"]["epochs"]
    if (done := len(read_history(run, epochs))) < epochs:
        raise ExportError(
            f"{run} has {done} of {epochs} epochs: finish it with lai-train fit first"
        )
    model = keras.models.load_model(run / BEST, compile=False)
    with tempfile.TemporaryDirectory() as folder:
        graphs = export_onnx(model, Path(folder) / "model.onnx")

    def make(calibration: dict[str, Any], metrics: dict[str, Any]) -> dict[str, bytes]:
        described = describe_model(
            run, graphs, version=version, calibration=calibration, metrics=metrics
        )
        return list_members(described, graphs)

    return make


def _pack_bodies(run: Path, version: str, scenes: Path | None) -> Make:
    """Return how a bundle of contract 2 is packed from the run of both bodies."""
    rule = fit_residual_cloud(read_scenes(scenes)) if scenes is not None else None

    def make(calibration: dict[str, Any], metrics: dict[str, Any]) -> dict[str, bytes]:
        return pack_run(
            run, version=version, calibration=calibration, residual_cloud=rule, metrics=metrics
        )

    return make


def release(
    run: Path,
    bundle: Path,
    *,
    version: str,
    pairs: Path,
    scenes: Path | None,
    further: Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """Make a calibrated, scored bundle of a run, and its model card beside it (`.md`).

    Args:
        run: folder of a finished run.
        bundle: zip to write.
        version: semantic version of the model.
        pairs: CSV of field pairs for the calibration.
        further: folder of further field measurements, see `recalibrate.gather_measurements`.
        scenes: folder of GeoTIFF scenes to score the emulation on; None = no such scores.
        progress: called with (scenes done, all), once for each of `SCENE_CASES`.

    Returns:
        The bundle, verified.

    Raises:
        ExportError: the run is not finished.
        PairsError: the table cannot be calibrated on.
        EvaluationError: the folder holds no scene.
    """
    make = _pack_bodies(run, version, scenes) if is_body_run(run) else _pack_network(run, version)
    with tempfile.TemporaryDirectory() as folder:
        first = write_members(Path(folder) / "draft.zip", make(NO_CALIBRATION, {}))
        calibration = make_calibration(pairs, further) | {"date": date.today().isoformat()}
        metrics: dict[str, Any] = {}
        if scenes is not None:
            files = find_scenes(scenes)
            for name, (noise, angles) in SCENE_CASES.items():
                scores = score_scenes(files, first, noise=noise, angles=angles, progress=progress)
                metrics[f"sl2p_on_real_scenes_{name}"] = scores
    write_members(bundle, make(calibration, metrics))
    final = open_bundle(bundle).description
    card = bundle.with_suffix(".md")
    with work_folder(card.parent) as work, disk_errors(card.parent):
        (work / card.name).write_text(model_card(final), encoding="utf-8")
        move_finished({work / card.name: card})
    return open_bundle(bundle).path
