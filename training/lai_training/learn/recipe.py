"""How a network is fitted: its optimizer, loss and precision, as a `FitConfig` asks for them.

Mixed precision multiplies in bfloat16 and keeps weights and outputs in float32. The policy is set
layer by layer, on a network that is already built, instead of for the process: what is saved has
the float32 form, so nothing behind the fit need know how it was fitted.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import keras

from lai_training.learn.config import FitConfig

HALF = "mixed_bfloat16"
FULL = "float32"


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


def compile_model(model: keras.Model, config: FitConfig) -> None:
    """Give the model its optimizer, loss and precision."""
    smoothing = (
        {"use_ema": True, "ema_momentum": config.ema_momentum} if config.ema_momentum else {}
    )
    rate = _schedule(config)
    if config.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(
            rate, weight_decay=config.weight_decay, clipnorm=1.0, **smoothing
        )
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


def compiles() -> bool:
    """Return whether the backend must compile a step: JAX is slow without, others gain nothing."""
    return bool(keras.backend.backend() == "jax")


def _schedule(config: FitConfig) -> float | keras.optimizers.schedules.LearningRateSchedule:
    if config.schedule == "constant":
        return config.learning_rate
    total = config.epochs * config.steps
    return keras.optimizers.schedules.CosineDecay(
        config.learning_rate / 20,
        decay_steps=total,
        alpha=1e-3,
        warmup_target=config.learning_rate,
        warmup_steps=max(1, min(500, total // 10)),
    )
