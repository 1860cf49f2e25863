"""How a network is fitted: its optimizer, loss and precision, as a `FitConfig` asks for them."""

import keras

from lai_training.learn.config import FitConfig
from lai_training.learn.precision import HALF, set_precision


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
