"""Fit a network: a config in, a run folder with the best weights and their whole history out.

The folder holds what `learn.run_folder` writes: provenance and, after every epoch, `best.keras`,
`history.csv` and the backup from which a killed run resumes.
"""

import math
import time
from pathlib import Path

import keras

from lai_training.datasets.pool import open_prepared
from lai_training.errors import FitError
from lai_training.learn.config import FitConfig, PreparedConfig
from lai_training.learn.pools import (
    Constants,
    Pool,
    Progress,
    load_pool,
    measure_normalisation,
    measure_range,
    normalise_by_range,
)
from lai_training.learn.run_folder import (
    BEST,
    AveragedWeights,
    KeepRun,
    describe_data,
    refuse_other_config,
    restore,
    write_provenance,
)
from lai_training.learn.samples import PoolStream
from lai_training.networks import SPECS, build_network


def fit(
    config: FitConfig,
    run: Path,
    *,
    pools: Path,
    progress: Progress | None = None,
    until: float | None = None,
    workers: int = 1,
) -> Path:
    """Fit the network of `config`, going on where a killed run stopped; return its `best.keras`.

    `pools` is the folder in which simulated pools are kept between runs. `progress` is called with
    (patches simulated, all), then (batches done, all); at `until`, a `time.monotonic()`, the fit
    ends with what it has; `workers` are threads that make samples.

    Raises:
        FitError: the folder holds another experiment or a damaged backup, patches do not fit
            the config, or the loss became NaN.
        PrepareError: a pool of real patches is missing or damaged.
        OutputNotWritableError: a folder refuses.
    """
    refuse_other_config(config, run)
    keras.utils.set_random_seed(config.seed)
    training, held_out = (
        load_pool(pool, pools, progress) for pool in (config.pool, config.validation)
    )
    for pool in (training, held_out):
        if (side := pool.reflectance.shape[-1]) < config.samples.patch_px:
            raise FitError(
                f"patches of the pool have {side} px, samples.patch_px is "
                f"{config.samples.patch_px}: lower it, or make a pool of larger patches"
            )
    normalisation = _normalise(config, training)
    model = build_network(config.network)
    compile_model(model, config)
    done = restore(model, run, steps=config.steps)
    if done == 0:
        pools_used = {"pool": config.pool, "validation": config.validation}
        data = {name: describe_data(pool) for name, pool in pools_used.items()}
        write_provenance(run, config, normalisation=normalisation, data=data)
    if done < config.epochs:
        stream = _stream(training, normalisation, config, workers)
        # Keras moves a stream on when it builds a model, too.
        set_epoch = keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: setattr(stream, "epoch", epoch)
        )
        total = config.epochs * config.steps
        keep = KeepRun(run, epochs_done=done, patches=config.steps * config.samples.batch)
        # Validation and checkpoints see the averaged weights.
        averaged = [AveragedWeights(resumed=done > 0)] if config.ema_momentum else []
        watch = watch_batches(model, progress, until, done * config.steps, total)
        model.fit(
            stream,
            validation_data=_stream(held_out, normalisation, config, workers, held_out=True),
            initial_epoch=done,
            epochs=config.epochs,
            shuffle=False,  # a resumed run gets the batches in the same order as a whole one
            verbose=0,
            callbacks=[set_epoch, *averaged, watch, keep],  # they act in this order
        )
    best = run / BEST
    if not best.exists():
        raise FitError(f"{best} is missing though the run is complete: delete {run}, fit anew")
    return best


def _normalise(config: FitConfig, pool: Pool) -> Constants:
    """Return the constants that the config asks for, measured on the training pool."""
    if config.normalisation == "mean_std":
        return measure_normalisation(pool.reflectance)
    if isinstance(config.pool, PreparedConfig):
        limits = open_prepared(Path(config.pool.prepared), config.pool.split).manifest.normalisation
        return normalise_by_range(limits.lowest, limits.highest)
    return measure_range(pool.reflectance)


def _stream(
    pool: Pool, normalisation: Constants, config: FitConfig, workers: int, *, held_out: bool = False
) -> PoolStream:
    """Return training samples, others in every epoch; held out: the same, without dropout."""
    samples, steps = config.samples, config.steps
    if held_out:
        samples = samples.model_copy(update={"masked_draw_share": 0.0})
        steps = math.ceil(len(pool.reflectance) / samples.batch)
    seed, spec = config.seed + held_out, SPECS[config.network]
    draws = {"steps": steps, "seed": seed, "workers": workers, "fixed": held_out}
    return PoolStream(pool, normalisation, spec, samples, **draws)


def compile_model(model: keras.Model, config: FitConfig) -> None:
    """Give the model its optimizer and loss."""
    total = config.epochs * config.steps
    rate: float | keras.optimizers.schedules.LearningRateSchedule = config.learning_rate
    if config.schedule == "cosine":
        rate = schedule_cosine(config.learning_rate, total, alpha=1e-3, warmup=500)
    smoothing = {}
    if config.ema_momentum:
        smoothing = {"use_ema": True, "ema_momentum": config.ema_momentum}
    if config.optimizer == "adamw":
        decay = {"weight_decay": config.weight_decay, "clipnorm": 1.0}
        optimizer = keras.optimizers.AdamW(rate, **decay, **smoothing)
    else:
        optimizer = keras.optimizers.RMSprop(rate, **smoothing)
    huber = keras.losses.Huber(config.huber_delta) if config.huber_delta else None
    model.compile(
        optimizer=optimizer,
        loss=huber or keras.losses.MeanSquaredError(),
        weighted_metrics=["mae"],
        jit_compile=compiles(),
    )


def schedule_cosine(
    rate: float, total: int, *, alpha: float, warmup: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Return a rate that rises over at most `warmup` of `total` batches, then falls to `alpha`."""
    return keras.optimizers.schedules.CosineDecay(
        rate / 20,
        decay_steps=total,
        alpha=alpha,
        warmup_target=rate,
        warmup_steps=max(1, min(warmup, total // 10)),
    )


def compiles() -> bool:
    """Return whether the backend must compile a step: JAX is slow without, others gain nothing."""
    return bool(keras.backend.backend() == "jax")


def watch_batches(
    model: keras.Model, progress: Progress | None, until: float | None, done: int, total: int
) -> keras.callbacks.Callback:
    """Return a callback that counts batches from `done` on, and ends a fit when its time is over.

    `until` is a `time.monotonic()`: the first batch done after it is the last; the epoch ends
    there, with its validation and its files.
    """
    batches = iter(range(done + 1, total + 1))

    def watch(batch: int, logs: object) -> None:
        if progress:
            progress(next(batches), total)
        if until is not None and time.monotonic() >= until:
            model.stop_training = True

    return keras.callbacks.LambdaCallback(on_train_batch_end=watch)
