"""From a finished run to the bundle that ships: pack, calibrate, score.

A draft of the bundle lets the UDF's own code predict the real scenes; what that gives goes into the
final `model.json`. The same data give the same bytes.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import fields
from datetime import date
from pathlib import Path
from typing import Any

from lai_training.bundles.export import list_members, pack_run, write_members
from lai_training.bundles.model_card import model_card
from lai_training.calibration.calibrate import calibrate
from lai_training.calibration.measurements import FILES, gather_measurements
from lai_training.errors import ExportError
from lai_training.evaluation.networks import SL2P, open_networks
from lai_training.evaluation.scores import Case, read_real, run_cases, tabulate_scores
from lai_training.learn.pools import Progress
from lai_training.learn.run_folder import BEST, read_history, read_provenance
from lai_training.metrics import Scores
from lai_training.reporting import write_files
from lai_training.restore.fit import is_body_run
from lai_training.restore.scenes import fit_residual_cloud, list_scenes, read_scenes
from lai_udf.bundle import open_bundle
from lai_udf.predict import read_bundle, read_member

CASES = (
    Case("angles_given", "", angles=True),
    Case("nominal_angles", "", angles=False),
    Case("with_noise", "", angles=False, noise=1.0),
)
"""Of the scores on scenes."""


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
    """Make a calibrated, scored bundle of a run, and its card beside it; return it, verified.

    `pairs` and `further` are as for `measurements.gather_measurements`, `scenes` is a folder of
    scenes to score the emulation on; None = no such scores. `progress` gets (scenes done, all).

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
        metrics = score_emulation(draft, scenes, progress) if scenes else {}
        rewrite_bundle(draft, {"calibration": calibration, "metrics": metrics}, bundle)
    return open_bundle(bundle).path


def score_emulation(
    bundle: Path, folder: Path, progress: Progress | None = None
) -> dict[str, dict[str, Any]]:
    """Score a bundle against SL2P on the real scenes of a folder, all pixels together, by case.

    With noise, `rmse_ratio` is the RMSE relative to `rmse_sl2p`, that of SL2P of the noisy scene.
    """
    scenes = read_real(folder)
    with open_networks([bundle]) as (network,):
        pixels = run_cases(scenes, [network], cases=CASES, progress=progress)
    scored = {result.scene.name for result in pixels}
    scored |= {scene.name for scene in scenes if not scene.scored.any()}
    skipped = [path.name for path in list_scenes(folder) if path.stem not in scored]
    table = tabulate_scores(pixels).query("image == 'all'")
    rows = {(row["case"], row["network"]): row for row in table.to_dict("records")}
    metrics = {}
    for case in CASES:
        scores = {each.name: rows[case.key, network.name][each.name] for each in fields(Scores)}
        if case.noise:
            rmse = rows[case.key, SL2P]["rmse"]
            scores |= {"rmse_sl2p": rmse, "rmse_ratio": scores["rmse"] / rmse}
        rounded = {key: round(value, 5) for key, value in scores.items()}
        facts = {"scenes": len(scored), "skipped": skipped}
        metrics[f"sl2p_on_real_scenes_{case.key}"] = rounded | facts
    return metrics


def _refuse_unfinished(run: Path) -> None:
    """Raise `ExportError` where a network of the paper was not fitted to the end."""
    if not (run / BEST).exists():
        raise ExportError(f"{run} holds no {BEST}: finish the run with lai-train fit first")
    epochs = read_provenance(run)["config"]["epochs"]
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
    bodies = contract.get("bodies", {}).values()
    fine_tuned = {body["weights"]: read_member(str(bundle), body["weights"]) for body in bodies}
    contract |= {**parts, "metrics": {**contract["metrics"], **parts.get("metrics", {})}}
    write_members(out, list_members(description, {**graphs, "model": weights}) | fine_tuned)
    write_files(out.parent, {}, {f"{out.stem}.md": model_card(description)})
    return out
