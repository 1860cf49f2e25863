"""How a network is fitted: its optimizer, loss and precision, as a config asks for them.

Mixed precision multiplies in bfloat16 and keeps weights and outputs in float32. The policy is set
layer by layer, on a network that is already built, instead of for the process: what is saved has
the float32 form, so nothing behind the fit need know how it was fitted.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import keras

from lai_training.learn.config import FitConfig
from lai_training.learn.pools import Progress

HALF = "mixed_bfloat16"
FULL = "float32"


def compile_model(model: keras.Model, config: FitConfig) -> None:
    """Give the model its optimizer, loss and precision."""
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
    if config.mixed_precision:
        set_precision(model, HALF)
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
    progress: Progress | None, until: float | None, done: int, total: int
) -> list[keras.callbacks.Callback]:
    """Return callbacks that count batches from `done` on, and end a fit when its time is over.

    `until` is a `time.monotonic()`: the first batch done after it is the last; the epoch ends
    there, with its validation and its files.
    """
    callbacks: list[keras.callbacks.Callback] = []
    if progress:
        batches = iter(range(done + 1, total + 1))
        callbacks.append(
            keras.callbacks.LambdaCallback(
                on_train_batch_end=lambda batch, logs: progress(next(batches), total)
            )
        )
    if until is not None:
        callbacks.append(StopAt(until))
    return callbacks


class StopAt(keras.callbacks.Callback):  # type: ignore[misc]
    """End a fit after the first batch that is done at `moment`, `time.monotonic()`."""

    def __init__(self, moment: float) -> None:
        super().__init__()
        self._moment = moment

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Stop where the time is over."""
        if time.monotonic() >= self._moment:
            self.model.stop_training = True


def set_precision(model: keras.Model, policy: str) -> None:
    """Let every layer but inputs and outputs compute with `policy`; weights are float32 in both."""
    last = set(model.output_names)
    for layer in model._flatten_layers(include_self=False):
        if not isinstance(layer, keras.layers.InputLayer) and layer.name not in last:
            layer.dtype_policy = policy


@contextmanager
def full_precision(model: keras.Model) -> Iterator[keras.Model]:
    """Give a model that is fitted in bfloat16 its float32 form for as long as it is saved."""
    mixed = any(layer.dtype_policy.name == HALF for layer in model.layers)
    if mixed:
        set_precision(model, FULL)
    try:
        yield model
    finally:
        if mixed:
            set_precision(model, HALF)
