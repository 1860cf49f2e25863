"""Fit both bodies: a config and scenes in, a run folder with Keras weights out.

The folder holds `body_20m.keras`, `body_10m.keras`, `config.yaml`, `history.csv` and
`provenance.json` (commit, versions, scenes, constants); `lai-train export` makes a bundle of it.
"""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
from keras import ops

from lai_training.learn.config import BodyConfig, PoolConfig, RestoreConfig
from lai_training.learn.fit import compiles, schedule_cosine, watch_batches
from lai_training.learn.pools import Constants, Progress, load_pool
from lai_training.learn.run_folder import HISTORY, write_provenance
from lai_training.restore.network import BODIES, READOUT, BodySpec, attach_head, build_body
from lai_training.restore.samples import BodyStream, Patches, measure_constants, measure_detail
from lai_training.restore.scenes import Scene
from lai_training.sl2p.tables import VARIABLES
from lai_udf.atomic import new_files
from lai_udf.predict import BANDS

SIMULATED_PX, SIMULATED_SEED = 64, 7
SPREAD_20M = np.full(len(BANDS), 0.01, dtype="float32")
"""Unit of the bands' part of the loss at 20 m, reflectance."""

logger = logging.getLogger("lai_training")


def body_name(resolution: int) -> str:
    """Return the file name of the Keras weights of a body."""
    return f"body_{resolution}m.keras"


def is_body_run(run: Path) -> bool:
    """Return whether a folder is a finished run of both bodies."""
    return all((run / body_name(resolution)).exists() for resolution in BODIES)


def fit_bodies(
    config: RestoreConfig,
    scenes: Sequence[Scene],
    run: Path,
    *,
    pools: Path,
    progress: Progress | None = None,
    until: float | None = None,
    workers: int = 1,
) -> Path:
    """Fit both bodies to real scenes and write the run; return its folder.

    `pools` is the folder in which simulated pools are kept between runs. `progress` gets
    (batches done, all) of each body; at `until`, a `time.monotonic()`, the fit ends with what it
    has; `workers` are threads that make samples. Raises `OutputNotWritableError` where a folder
    refuses.
    """
    simulated = None
    if config.simulated_patches and config.simulated_share:
        size = {"patches": config.simulated_patches, "size_px": SIMULATED_PX}
        simulated = load_pool(PoolConfig(**size, seed=SIMULATED_SEED), pools).reflectance
    patches = Patches(scenes, simulated)
    normalisation: dict[str, Constants] = {}
    history: list[dict[str, Any]] = []
    with new_files(run) as work:
        for left, (resolution, spec) in zip((2, 1), BODIES.items(), strict=True):
            now = time.monotonic()
            stop = None if until is None else now + max(until - now, 0) / left
            body, constants, losses = fit_body(
                config, patches, spec, progress=progress, until=stop, workers=workers
            )
            body.save(work / body_name(resolution))
            normalisation[str(resolution)] = constants
            history += [
                {"resolution": resolution, "epoch": epoch, "loss": loss}
                for epoch, loss in enumerate(losses)
            ]
            logger.info("body of %d m: loss %.5f", resolution, losses[-1])
        pd.DataFrame(history).to_csv(work / HISTORY, index=False)
        names = [scene.name for scene in scenes]
        write_provenance(work, config, scenes=names, normalisation=normalisation)
    return run


def fit_body(
    config: RestoreConfig,
    patches: Patches,
    spec: BodySpec,
    *,
    progress: Progress | None = None,
    until: float | None = None,
    workers: int = 1,
) -> tuple[keras.Model, Constants, list[float]]:
    """Fit one body; return it, its normalisation and the loss of each epoch."""
    settings = config.body(spec.resolution)
    keras.utils.set_random_seed(config.seed)
    constants = measure_constants(patches.real, spec.side)
    body = build_body(spec)
    network = attach_head(body, spec)
    spread = measure_detail(patches.real) if spec.side > 1 else SPREAD_20M
    total = settings.epochs * settings.steps
    schedule = schedule_cosine(settings.learning_rate, total, alpha=0.01, warmup=100)
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=1e-4, clipnorm=1.0)
    network.compile(optimizer, loss=make_loss(settings, spread), jit_compile=compiles())
    watch = watch_batches(network, progress, until, 0, total)
    stream = BodyStream(patches, spec, config, constants, workers=workers)
    history = network.fit(
        stream, epochs=settings.epochs, shuffle=False, verbose=0, callbacks=[watch]
    )
    kernel = body.get_layer(READOUT).kernel
    kernel.assign(kernel * settings.strength)
    return body, constants, [float(loss) for loss in history.history["loss"]]


def make_loss(
    config: BodyConfig, spread: np.ndarray
) -> Callable[[keras.KerasTensor, keras.KerasTensor], keras.KerasTensor]:
    """Return the loss: squared errors of five variables where SL2P is valid, and of ten bands."""
    values = slice(0, len(VARIABLES))
    bands = slice(len(VARIABLES), len(VARIABLES) + len(BANDS))
    of_values = np.array(config.variable_weights, dtype="float32")
    of_bands = (config.band_weight / np.maximum(spread, 1e-4) ** 2).astype("float32")

    def loss(target: keras.KerasTensor, made: keras.KerasTensor) -> keras.KerasTensor:
        error = ops.square(made - target[..., : bands.stop])
        valid = ops.sum(error[..., values] * of_values, axis=-1) * target[..., bands.stop]
        return ops.mean(valid) + ops.mean(ops.sum(error[..., bands] * of_bands, axis=-1))

    return loss
