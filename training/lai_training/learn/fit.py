"""Fit a network: a config in, a run folder with the best weights and their whole history out.

The folder holds what `learn.run_folder` says of the run, and what `learn.checkpoints` writes after
every epoch: `best.keras`, `history.csv` and the backup from which a killed run goes on.
"""

from collections.abc import Callable
from pathlib import Path

import keras

from lai_training.errors import FitError
from lai_training.learn.checkpoints import BEST, AveragedWeights, KeepRun, StopAt, restore
from lai_training.learn.config import FitConfig, PreparedConfig
from lai_training.learn.pools import (
    Normalisation,
    Pool,
    load_pool,
    measure_normalisation,
    measure_range,
    normalise_by_range,
    open_real,
)
from lai_training.learn.recipe import compile_model
from lai_training.learn.run_folder import (
    refuse_other_config,
    write_provenance,
)
from lai_training.learn.samples import SampleStream, steps_for
from lai_training.networks import SPECS, build_network

Progress = Callable[[int, int], None]
"""Told (done, all)."""


def fit(
    config: FitConfig,
    run: Path,
    *,
    pools: Path,
    verbose: int = 0,
    progress: Progress | None = None,
    until: float | None = None,
    workers: int = 1,
) -> Path:
    """Fit the network of `config`, going on where a killed run stopped.

    Args:
        config: the experiment.
        run: folder of the run.
        pools: folder in which simulated pools are kept between runs.
        verbose: 0 silent, 1 bar, 2 one line an epoch, printed by Keras.
        progress: called with (patches simulated, all), then (batches done, all).
        until: `time.monotonic()` at which the fit ends with what it has; None: when it is done.
        workers: threads that make samples.

    Returns:
        `best.keras` in the run folder.

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
    refuse_unfit(config, training, held_out)
    normalisation = _normalise(config, training)
    model = build_network(config.network)
    compile_model(model, config)
    done = restore(model, run, steps=config.steps)
    if done == 0:
        write_provenance(config, normalisation, run)
    if done < config.epochs:
        stream = _stream(training, normalisation, config)
        held_out_stream = _held_out_stream(held_out, normalisation, config)
        stream.workers = held_out_stream.workers = workers
        callbacks = _callbacks(stream, config, run, done, progress)
        if until is not None:
            callbacks.append(StopAt(until))
        model.fit(
            stream,
            validation_data=held_out_stream,
            initial_epoch=done,
            epochs=config.epochs,
            shuffle=False,  # a resumed run sees the batches in the same order as a whole one
            verbose=verbose,
            callbacks=callbacks,
        )
    best = run / BEST
    if not best.exists():
        raise FitError(f"{best} is missing though the run is complete: delete {run}, fit anew")
    return best


def refuse_unfit(config: FitConfig, *pools: Pool) -> None:
    """Raise `FitError` where patches cannot be cut from a pool."""
    for pool in pools:
        side = pool.reflectance.shape[-1]
        if side < config.samples.patch_px:
            raise FitError(
                f"patches of the pool have {side} px, samples.patch_px is "
                f"{config.samples.patch_px}: lower it, or make a pool of larger patches"
            )


def _normalise(config: FitConfig, pool: Pool) -> Normalisation:
    """Return the constants that the config asks for, measured on the training pool."""
    if config.normalisation == "mean_std":
        return measure_normalisation(pool.reflectance)
    if isinstance(config.pool, PreparedConfig):
        limits = open_real(config.pool).manifest.normalisation
        return normalise_by_range(limits.lowest, limits.highest)
    return measure_range(pool.reflectance)


def _stream(pool: Pool, normalisation: Normalisation, config: FitConfig) -> SampleStream:
    """Return the training samples: other ones in every epoch."""
    return SampleStream(
        pool.reflectance,
        normalisation,
        SPECS[config.network],
        config.samples,
        steps=config.steps,
        seed=config.seed,
        cosines=pool.cosines,
        lai=pool.lai,
    )


def _held_out_stream(pool: Pool, normalisation: Normalisation, config: FitConfig) -> SampleStream:
    """Return the validation samples: the same in every epoch, without dropout."""
    return SampleStream(
        pool.reflectance,
        normalisation,
        SPECS[config.network],
        config.samples.model_copy(update={"masked_draw_share": 0.0}),
        steps=steps_for(len(pool.reflectance), config.samples),
        seed=config.seed + 1,
        fixed=True,
        cosines=pool.cosines,
        lai=pool.lai,
    )


def _callbacks(
    stream: SampleStream, config: FitConfig, run: Path, done: int, progress: Progress | None
) -> list[keras.callbacks.Callback]:
    """Return the callbacks, in the order in which they must act at the end of an epoch."""
    callbacks: list[keras.callbacks.Callback] = [
        keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: setattr(stream, "epoch", epoch)
        )
    ]
    if config.ema_momentum:  # validation and checkpoints see the averaged weights
        callbacks.append(AveragedWeights(resumed=done > 0))
    if progress:
        batches = iter(range(done * config.steps + 1, config.epochs * config.steps + 1))
        callbacks.append(
            keras.callbacks.LambdaCallback(
                on_train_batch_end=lambda batch, logs: progress(
                    next(batches), config.epochs * config.steps
                )
            )
        )
    patches = config.steps * config.samples.batch
    return [*callbacks, KeepRun(run, epochs_done=done, patches=patches)]
