"""Train the shipped network and the paper's within some minutes, score them, write pieces.

Input: the folder that `training/gpu/run --prepare` filled, and how many minutes there are. Output
out: `results.tar.00`, `.01` ... of at most 16 MiB each: `runs/restoring` and `runs/paper`, as
`lai-train evaluate` takes them (`export` too, once all epochs are done), and `scores.json`. They
are written after each network: a machine that is taken away leaves what was finished. Runs stay in
the work folder: given again, the shipped network is taken as it is, and the paper's resumes after
its last epoch.
"""

import argparse
import json
import logging
import math
import os
import signal
import tarfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import keras
import numpy as np
from numpy.typing import NDArray

from lai_training.config_files import read_yaml
from lai_training.evaluation.ten_metres import score_wald
from lai_training.learn.config import FitConfig, PoolConfig, RestoreConfig
from lai_training.learn.fit import fit
from lai_training.learn.pools import Constants, load_pool
from lai_training.learn.run_folder import BEST, read_provenance
from lai_training.metrics import Scores, score
from lai_training.networks import PAPER
from lai_training.restore.fit import body_name, fit_bodies, is_body_run
from lai_training.restore.network import BODIES, VARIABLE_SCALES, read_spectra
from lai_training.restore.scenes import Scene
from lai_training.simulation.landscapes import simulate_patches
from lai_training.simulation.spectral_library import shipped_library
from lai_training.sl2p import predict_bands
from lai_udf.atomic import move_finished, work_folder
from lai_udf.predict import (
    BANDS,
    NOMINAL_COSINES,
    build_body_features,
    build_features,
    clear_inputs,
    join_blocks,
    split_blocks,
)

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
ARCHIVE = "results.tar"
PIECE_BYTES = 16 * 2**20
SIMULATION, BODY_SHARE, RESERVE = 0.12, 0.35, 0.12
"""Shares of the minutes: simulated pools, the shipped network; kept for scores and pieces."""
TINY: dict[str, Any] = {"patch_px": 32, "batch": 2, "unscored_border_px": 8}
POOLED_PX = PAPER.window_multiple
PAPER_ITSELF = {"correlation": 0.99, "distance": 0.12, "r_squared": 0.97}
"""What the paper states of its UNet against SNAP (Albughdadi et al. 2020, abstract)."""

logger = logging.getLogger("lai_training")


class Pieces:
    """A file to write to that is many files, none of them larger than a limit."""

    def __init__(self, folder: Path, name: str, limit: int = PIECE_BYTES) -> None:
        self._folder, self._name, self._limit = folder, name, limit
        self._files: list[BinaryIO] = []

    def write(self, data: bytes) -> int:
        """Write bytes into the last piece, and what does not fit into the next."""
        view = memoryview(data)
        while view:
            if not self._files or self._files[-1].tell() >= self._limit:
                path = self._folder / f"{self._name}.{len(self._files):02d}"
                self._files.append(path.open("wb"))
            count = self._limit - self._files[-1].tell()
            self._files[-1].write(view[:count])
            view = view[count:]
        return len(data)

    def close(self) -> None:
        """Close all pieces."""
        for file in self._files:
            file.close()


def write_pieces(work: Path, out: Path) -> None:
    """Pack the runs and the scores of a work folder into pieces; all appear, or none."""
    with work_folder(out) as unfinished:
        pieces = Pieces(unfinished, ARCHIVE)
        with tarfile.open(fileobj=pieces, mode="w|") as archive:  # type: ignore[call-overload]
            for name in ("scores.json", "runs"):
                if (work / name).exists():
                    archive.add(work / name, name)
        pieces.close()
        files = {path: out / path.name for path in sorted(unfinished.iterdir())}
        for stale in set(out.glob(f"{ARCHIVE}.*")) - set(files.values()):
            stale.unlink()
        move_finished(files)


def read_carried(path: Path) -> list[Scene]:
    """Return the scenes that `prepare` packed; none where it packed none."""
    if not path.is_file():
        return []
    with np.load(path) as stored:
        names = dict.fromkeys(key.rpartition("/")[0] for key in stored.files)
        return [
            Scene(
                name,
                stored[f"{name}/reflectance"],
                stored[f"{name}/scored"],
                str(stored[f"{name}/place"]),
            )
            for name in names
        ]


def choose_paper(config: FitConfig, seconds: float, cores: int) -> FitConfig:
    """Return the paper's config with as many patches as can be simulated in some seconds."""
    library = shipped_library("training")
    pool, validation = config.pool, config.validation
    if not (isinstance(pool, PoolConfig) and isinstance(validation, PoolConfig)):
        return config
    began = time.monotonic()
    simulate_patches(4, pool.size_px, np.random.default_rng(0), library, patches_per_scene=4)
    pace = (time.monotonic() - began) / 4
    count = int(min(pool.patches, max(64, seconds * cores / pace)))
    held_out = max(16, min(validation.patches, count // 16))
    return config.model_copy(
        update={
            "pool": pool.model_copy(update={"patches": count}),
            "validation": validation.model_copy(update={"patches": held_out}),
            "steps": max(1, math.ceil(min(config.steps, count / config.samples.batch))),
        }
    )


def take_until(scenes: Sequence[Scene], moment: float) -> Iterator[Scene]:
    """Yield scenes with vegetation, most first, until a moment of `time.monotonic()`."""
    for scene in sorted(scenes, key=lambda scene: -int(scene.scored.sum())):
        if time.monotonic() < moment and scene.scored.any():
            yield scene


def predict_lai(
    model: keras.Model, reflectance: NDArray[np.float32], normalisation: Constants
) -> NDArray[np.float32]:
    """Return LAI of (10, y, x) reflectance, NaN = no data, at nominal angles, (y, x)."""
    height, width = reflectance.shape[1:]
    pads = [(0, 0), (0, -height % POOLED_PX), (0, -width % POOLED_PX)]
    image = np.pad(reflectance, pads, constant_values=np.nan)
    inputs = clear_inputs(image, np.array(NOMINAL_COSINES, dtype="float32")[:, None, None])
    features = build_features(inputs, {"normalisation": normalisation})
    ones = np.ones((1, model.inputs[1].shape[-1]), dtype="float32")
    lai = model([features.transpose(1, 2, 0)[None], ones], training=False)
    image_of_lai: NDArray[np.float32] = keras.ops.convert_to_numpy(lai)[0, :height, :width, 0]
    return image_of_lai


def score_paper(run: Path, scenes: Iterable[Scene]) -> dict[str, Any]:
    """Return the scores of the paper's network against SL2P on real scenes, nominal angles."""
    model = keras.models.load_model(run / BEST, compile=False)
    normalisation = read_provenance(run)["normalisation"]
    known: list[NDArray[np.floating[Any]]] = []
    found: list[NDArray[np.floating[Any]]] = []
    for scene in scenes:
        lai = predict_lai(model, scene.reflectance, normalisation)
        bands = dict(zip(BANDS, scene.reflectance, strict=True))
        known.append(predict_bands(bands)[0][scene.scored])
        found.append(lai[scene.scored])
    scores: Scores = score(np.concatenate(known), np.concatenate(found))
    return {**asdict(scores), "paper": PAPER_ITSELF}


def restore_by(run: Path, resolution: int = 10) -> Any:  # noqa: ANN401 (a method of `ten_metres`)
    """Return the body of a run as a method of `score_wald`, run by Keras."""
    spec = BODIES[resolution]
    body = keras.models.load_model(run / body_name(resolution), compile=False)
    constants = read_provenance(run)["normalisation"][str(resolution)]
    cosines = np.array(NOMINAL_COSINES, dtype="float32")

    def predict(degraded: NDArray[np.float32]) -> dict[str, NDArray[np.floating[Any]]]:
        blocks = split_blocks(degraded, spec.side)
        features = build_body_features(blocks, constants).transpose(1, 2, 0)[None]
        correction = body([features, np.ones((1, spec.width), "float32")], training=False)
        shape = (*blocks.shape[2:], spec.side**2, len(BANDS))
        added = keras.ops.convert_to_numpy(correction)[0].reshape(shape).transpose(2, 3, 0, 1)
        values = read_spectra(join_blocks(blocks + added, spec.side), cosines)
        units = zip(VARIABLE_SCALES.items(), values, strict=True)
        return {name: value * scale for (name, scale), value in units}

    return predict


def train(given: argparse.Namespace) -> Path:
    """Simulate, fit, score and pack; return the folder of the pieces."""
    began = time.monotonic() - (time.time() - float(os.environ.get("LAI_STARTED", time.time())))
    total = 60 * given.minutes
    end = began + total * (1 - RESERVE)
    cores = os.cpu_count() or 1
    work, runs, pools = given.work, given.work / "runs", given.work / "pools"
    pools.mkdir(parents=True, exist_ok=True)
    scenes = read_carried(given.carried / "scenes.npz")
    results: dict[str, Any] = {"backend": keras.backend.backend(), "cores": cores}

    def finish(name: str, scores: Any) -> None:  # noqa: ANN401 (what JSON holds)
        results[name] = scores
        (work / "scores.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        write_pieces(work, given.out)
        logger.info("%s is in %s after %.0f s", name, given.out, time.monotonic() - began)

    kept = runs / "paper" / "config.yaml"
    paper = read_yaml(kept if kept.exists() else CONFIGS / "paper.yaml", FitConfig)
    if not kept.exists():
        if given.tiny:
            sample = paper.samples.model_copy(update=TINY)
            small = paper.pool.model_copy(update={"size_px": 32, "patches": 64})
            update = {"samples": sample, "pool": small, "steps": 2, "epochs": 2}
            update["validation"] = small.model_copy(update={"seed": 10})
            paper = paper.model_copy(update=update)
        paper = choose_paper(paper, SIMULATION * total, cores)
    for pool in (paper.pool, paper.validation):
        load_pool(pool, pools, cores=cores)
    if scenes:
        restoring = read_yaml(CONFIGS / "restoring.yaml", RestoreConfig)
        if given.tiny:
            few = {"epochs": 1, "steps": 2, "batch": 2, "patch_px": 16}
            bodies = {
                f"body_{size}m": restoring.body(size).model_copy(update=few) for size in (20, 10)
            }
            restoring = restoring.model_copy(update={"simulated_patches": 8, **bodies})
        run = runs / "restoring"
        if not is_body_run(run):
            until = time.monotonic() + BODY_SHARE * max(end - time.monotonic(), 0)
            fit_bodies(restoring, scenes, run, pools=pools, until=until, workers=cores)
        finish("restoring", "fitted")
        moment = time.monotonic() + RESERVE * total / 3
        table = score_wald(take_until(scenes, moment), [], further={"restoring": restore_by(run)})
        finish("wald_on_the_scenes_it_was_fitted_on", table.to_dict("records"))
    fit(paper, runs / "paper", pools=pools, until=end, workers=cores)
    finish("paper", "fitted")
    moment = time.monotonic() + RESERVE * total / 3
    if scenes:
        scores = score_paper(runs / "paper", take_until(scenes, moment))
        finish("paper_on_real_scenes", scores)
    return Path(given.out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="training/gpu/run", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="all that the command may take")
    out = Path(os.environ.get("OUT", "build/gpu/results"))
    parser.add_argument("--out", type=Path, default=out, help="folder of the pieces; default $OUT")
    parser.add_argument("--work", type=Path, default=Path("build/gpu/work"), help="pools and runs")
    parser.add_argument("--carried", type=Path, default=Path("build/gpu/carried"))
    parser.add_argument("--tiny", action="store_true", help="dry run: small patches, two batches")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    given = parser.parse_args()
    began = float(os.environ.get("LAI_STARTED", time.time()))
    signal.alarm(max(1, int(began + 60 * given.minutes - time.time())))  # never longer
    print(train(given))
