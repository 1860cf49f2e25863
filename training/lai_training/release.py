"""From a finished run to the bundle that ships: teach the spread, calibrate, score, pack.

Two passes: a first bundle without calibration lets the UDF's own code predict the field pairs
and the real scenes; what that gives goes into the final `model.json`.
"""

import logging
import tempfile
from pathlib import Path
from typing import Any

import keras

from lai_training.calibrate import KNOTS, calibrate
from lai_training.emulation import pair_with_field, score_scenes
from lai_training.export import describe_model, export_onnx, write_bundle
from lai_training.fit import FitConfig, load_pool, spec_of
from lai_training.pairs import read_pairs
from lai_training.samples import measure_normalisation
from lai_training.spread import teach_spread
from lai_udf.bundle import open_bundle

logger = logging.getLogger("lai_training")

NO_CALIBRATION: dict[str, Any] = {
    "intervals": {
        "sl2p": {"lai": KNOTS.tolist(), "lower": [0.0] * len(KNOTS), "upper": [0.0] * len(KNOTS)}
    }
}


def add_spread(run: Path, *, pools: Path, verbose: int = 1) -> None:
    """Teach the spread head of a run's best weights; networks without one are left alone."""
    spec, provenance = spec_of(run)
    config = FitConfig.model_validate(provenance["config"])
    if not config.spread_steps:
        return
    pool = load_pool(config.pool, pools)
    teach_spread(
        run / "best.keras",
        pool,
        measure_normalisation(pool),
        spec,
        config.samples,
        steps=config.spread_steps,
        seed=config.seed + 2,
        verbose=verbose,
    )


def release(run: Path, bundle: Path, *, version: str, pairs: Path, scenes: Path | None) -> Path:
    """Make a calibrated, scored bundle of a run.

    Args:
        run: folder of a finished run.
        bundle: zip to write.
        version: semantic version of the model.
        pairs: CSV of field pairs for the calibration.
        scenes: folder of GeoTIFF scenes to score the emulation on; None = no such scores.

    Returns:
        The bundle, verified.
    """
    model = keras.models.load_model(run / "best.keras", compile=False)
    with tempfile.TemporaryDirectory() as folder:
        weights = export_onnx(model, Path(folder) / "model.onnx")
        draft = describe_model(
            run, weights, version=version, calibration=NO_CALIBRATION, metrics={}
        )
        first = write_bundle(Path(folder) / "draft.zip", draft, weights)
        table = read_pairs(pairs)
        calibration = {**calibrate(pair_with_field(table, first)), "data": pairs.name}
        metrics: dict[str, Any] = {}
        if scenes is not None:
            files = sorted(scenes.glob("*.tif"))
            metrics["sl2p_on_real_scenes_nominal_angles"] = score_scenes(files, first)
            metrics["sl2p_on_real_scenes_with_noise"] = score_scenes(files, first, noise=1.0)
    final = describe_model(run, weights, version=version, calibration=calibration, metrics=metrics)
    write_bundle(bundle, final, weights)
    return open_bundle(bundle).path
