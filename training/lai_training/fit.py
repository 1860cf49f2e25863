"""Fit a network: a config in, a run folder with the best weights and their whole history out.

A run folder holds `config.yaml` (as run), `provenance.json` (commit, versions, data, seed),
`history.csv` (loss per epoch), `best.keras` (lowest validation loss) and `backup/` (the last
epoch, from which a killed run goes on). Everything is written by Keras' own callbacks.
"""

import json
import logging
import os
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lai_training.errors import LaiTrainingError
from lai_training.networks import SPECS, NetworkSpec, build_network
from lai_training.samples import (
    Normalisation,
    SampleConfig,
    SampleStream,
    make_pool,
    measure_normalisation,
    open_pool,
    steps_for,
)
from lai_training.spectral_library import load_or_make_library

logger = logging.getLogger("lai_training")


class PoolConfig(BaseModel):
    """A pool of simulated, noise-free patches."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    patches: int = Field(ge=8)
    size_px: int = Field(ge=32)
    seed: int


class FitConfig(BaseModel):
    """One experiment; a YAML file of `training/configs`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    network: Literal["seamless", "paper", "mlp"]
    seed: int
    start_from: str | None = None
    """Run (a folder beside this one) whose best weights are the start; none = fresh weights."""
    pool: PoolConfig
    validation: PoolConfig
    samples: SampleConfig
    epochs: int = Field(ge=1)
    steps: int = Field(ge=1)
    """Batches per epoch."""
    optimizer: Literal["adamw", "rmsprop"] = "adamw"
    learning_rate: float = Field(gt=0)
    schedule: Literal["cosine", "constant"] = "cosine"
    weight_decay: float = Field(0.0, ge=0)
    ema_momentum: float | None = Field(None, gt=0, lt=1)
    huber_delta: float | None = Field(None, gt=0)
    """None = mean squared error, as in the paper."""
    spread_steps: int = Field(0, ge=0)
    """Batches spent on teaching the one-pass spread what thirty draws show."""


def read_config(path: Path) -> FitConfig:
    """Read and check a config; raise `LaiTrainingError` naming the key that is wrong."""
    try:
        return FitConfig.model_validate(yaml.safe_load(path.read_text()))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise LaiTrainingError(f"config {path}: {error}") from error


def fit(config: FitConfig, run: Path, *, pools: Path, verbose: int = 1) -> Path:
    """Fit the network of `config`, going on where a killed run stopped.

    Args:
        config: the experiment.
        run: folder of the run.
        pools: folder in which simulated pools are kept between runs.
        verbose: 0 silent, 1 progress bar, 2 one line an epoch (as in Keras).

    Returns:
        `best.keras` in the run folder.

    Raises:
        LaiTrainingError: the loss became NaN.
    """
    run.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(config.seed)
    spec = SPECS[config.network]
    training_pool = load_pool(config.pool, pools)
    normalisation = measure_normalisation(training_pool)
    write_provenance(config, normalisation, run)
    stream = SampleStream(
        training_pool, normalisation, spec, config.samples, steps=config.steps, seed=config.seed
    )
    held_out = SampleStream(
        load_pool(config.validation, pools),
        normalisation,
        spec,
        config.samples.model_copy(update={"masked_draw_share": 0.0}),
        steps=steps_for(config.validation.patches, config.samples),
        seed=config.seed + 1,
        fixed=True,
    )
    model = build_network(config.network)
    if config.start_from:
        model.load_weights(run.parent / config.start_from / "best.keras")
    compile_model(model, config)
    model.fit(
        stream,
        validation_data=held_out,
        epochs=config.epochs,
        verbose=verbose,
        callbacks=_callbacks(stream, config, run),
    )
    best = run / "best.keras"
    if not best.exists():
        raise LaiTrainingError(
            f"{run}: the loss was never a number; lower learning_rate ({config.learning_rate:g})"
        )
    return best


def load_pool(config: PoolConfig, pools: Path) -> np.ndarray:
    """Open a pool of simulated patches; simulate it where it is not there yet."""
    path = pools / f"patches-{config.patches}x{config.size_px}-seed{config.seed}.npy"
    if not path.exists():
        logger.info("simulating %d patches of %d px", config.patches, config.size_px)
        library = load_or_make_library(pools / "spectra-seed1.npz", seed=1)
        make_pool(path, library, patches=config.patches, size_px=config.size_px, seed=config.seed)
    return open_pool(path)


def compile_model(model: keras.Model, config: FitConfig) -> None:
    """Give the model its optimizer and loss; only LAI is fitted, the spread comes later."""
    rate: Any = config.learning_rate
    if config.schedule == "cosine":
        total = config.epochs * config.steps
        rate = keras.optimizers.schedules.CosineDecay(
            config.learning_rate / 20,
            decay_steps=total,
            alpha=1e-3,
            warmup_target=config.learning_rate,
            warmup_steps=min(500, total // 10),
        )
    smoothing = (
        {"use_ema": True, "ema_momentum": config.ema_momentum} if config.ema_momentum else {}
    )
    if config.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(
            rate, weight_decay=config.weight_decay, clipnorm=1.0, **smoothing
        )
    else:
        optimizer = keras.optimizers.RMSprop(rate, **smoothing)
    loss = keras.losses.Huber(config.huber_delta) if config.huber_delta else "mse"
    losses = [loss] + [None] * (len(model.outputs) - 1)
    metrics = [["mae"]] + [[] for _ in model.outputs[1:]]
    model.compile(
        optimizer=optimizer,
        loss=losses if len(losses) > 1 else loss,
        weighted_metrics=metrics if len(losses) > 1 else metrics[0],
        jit_compile=False,
    )


def _callbacks(
    stream: SampleStream, config: FitConfig, run: Path
) -> list[keras.callbacks.Callback]:
    callbacks: list[keras.callbacks.Callback] = [
        keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: setattr(stream, "epoch", epoch)
        ),
        keras.callbacks.TerminateOnNaN(),
    ]
    if config.ema_momentum:  # validation and checkpoints see the averaged weights
        callbacks.append(keras.callbacks.SwapEMAWeights(swap_on_epoch=True))
    return [
        *callbacks,
        keras.callbacks.ModelCheckpoint(run / "best.keras", save_best_only=True),
        keras.callbacks.CSVLogger(run / "history.csv", append=True),
        keras.callbacks.BackupAndRestore(run / "backup", delete_checkpoint=False),
    ]


def write_provenance(config: FitConfig, normalisation: Normalisation, run: Path) -> None:
    """Write what it takes to repeat the run beside its weights."""
    provenance = {
        "commit": _commit(),
        "backend": keras.backend.backend(),
        "versions": {name: version(name) for name in ("keras", "numpy", "sentinel2-lai")},
        "normalisation": normalisation.contract(),
        "config": config.model_dump(),
    }
    for name, text in (
        ("provenance.json", json.dumps(provenance, indent=2)),
        ("config.yaml", yaml.safe_dump(config.model_dump(), sort_keys=False)),
    ):
        temporary = run / f".{name}"
        temporary.write_text(text)
        os.replace(temporary, run / name)


def _commit() -> str:
    """Return the commit of the working tree, with a mark where it is not clean."""
    describe = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    here = Path(__file__).parent
    result = subprocess.run(describe, cwd=here, capture_output=True, text=True, check=False)
    return result.stdout.strip() or "unknown"


def spec_of(run: Path) -> tuple[NetworkSpec, dict[str, Any]]:
    """Return the network's promises and the provenance of a finished run."""
    provenance: dict[str, Any] = json.loads((run / "provenance.json").read_text())
    return SPECS[provenance["config"]["network"]], provenance
