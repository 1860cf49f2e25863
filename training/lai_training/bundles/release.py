"""From a finished run to the bundle that ships: pack, calibrate, score.

A draft of the bundle lets the UDF's own code predict the real scenes; what that gives goes into the
final `model.json`. The same data give the same bytes.
"""

import tempfile
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from lai_training.bundles.export import list_members, pack_run, write_members
from lai_training.bundles.model_card import model_card
from lai_training.calibration.calibrate import calibrate
from lai_training.calibration.measurements import FILES, gather_measurements
from lai_training.errors import ExportError
from lai_training.learn.checkpoints import BEST, read_history
from lai_training.learn.pools import Progress
from lai_training.learn.run_folder import spec_of
from lai_training.reporting import write_files
from lai_training.restore.fit import is_body_run
from lai_training.restore.scenes import fit_residual_cloud, read_scenes
from lai_training.scores.emulation import find_scenes, score_scenes
from lai_udf.bundle import open_bundle
from lai_udf.predict import read_bundle, read_member

SCENE_CASES = {
    "angles_given": (0.0, True),
    "nominal_angles": (0.0, False),
    "with_noise": (1.0, False),
}
"""Of the scores on scenes: level of band noise, and whether angles are given."""


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

    `pairs` is a CSV of field pairs for the calibration, `further` a folder of further field
    measurements (`measurements.gather_measurements`), `scenes` a folder of GeoTIFF scenes to score
    the emulation on; None = no such scores. `progress` is called with (scenes done, all), once for
    each of `SCENE_CASES`. Returns the bundle, verified.

    Raises:
        ExportError: the run is not finished.
        PairsError: the table cannot be calibrated on.
        EvaluationError: the folder holds no scene.
    """
    rule = None
    if not is_body_run(run):
        _refuse_unfinished(run)
    elif scenes is not None:
        rule = fit_residual_cloud(read_scenes(scenes))
    with tempfile.TemporaryDirectory() as folder:
        members = pack_run(run, version=version, residual_cloud=rule)
        draft = write_members(Path(folder) / "draft.zip", members)
        calibration = make_calibration(pairs, further) | {"date": date.today().isoformat()}
        metrics: dict[str, Any] = {}
        if scenes is not None:
            files = find_scenes(scenes)
            for name, (noise, angles) in SCENE_CASES.items():
                scores = score_scenes(files, draft, noise=noise, angles=angles, progress=progress)
                metrics[f"sl2p_on_real_scenes_{name}"] = scores
        rewrite_bundle(draft, {"calibration": calibration, "metrics": metrics}, bundle)
    return open_bundle(bundle).path


def _refuse_unfinished(run: Path) -> None:
    """Raise `ExportError` where a network of the paper was not fitted to the end."""
    if not (run / BEST).exists():
        raise ExportError(f"{run} holds no {BEST}: finish the run with lai-train fit first")
    epochs = spec_of(run)[1]["config"]["epochs"]
    if (done := len(read_history(run, epochs))) < epochs:
        raise ExportError(
            f"{run} has {done} of {epochs} epochs: finish it with lai-train fit first"
        )


def make_calibration(pairs: Path, further: Path | None = None) -> dict[str, Any]:
    """Return the `calibration` block of `model.json`, see `calibrate.calibrate`."""
    tables = [pairs.name]
    if further is not None:
        tables += [name for name in FILES.values() if (further / name).exists()]
    return calibrate(gather_measurements(pairs, further)) | {"data": ", ".join(tables)}


def rewrite_bundle(bundle: Path, parts: Mapping[str, Mapping[str, Any]], out: Path) -> Path:
    """Write a bundle with other parts of its contract, and its card beside it; may be itself.

    Parts are `calibration`, which is replaced, and `metrics`, scores by name, which are added.

    Raises:
        LaiModelError: the bundle cannot be opened.
        OutputNotWritableError: the folder refuses.
    """
    description, weights = read_bundle(str(bundle))
    contract = description["properties"]["lai:contract"]
    graphs = {name: read_member(str(bundle), f"{name}.onnx") for name in contract.get("graphs", {})}
    kept = [body["weights"] for body in contract.get("bodies", {}).values()]
    others = {name: read_member(str(bundle), name) for name in kept}
    known = contract.get("metrics", {})
    contract |= parts
    contract["metrics"] = {**known, **parts.get("metrics", {})}
    write_members(out, list_members(description, {**graphs, "model": weights}) | others)
    card = out.with_suffix(".md")
    write_files(card.parent, {}, {card.name: model_card(description)})
    return out
