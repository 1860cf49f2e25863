"""How a network is fitted: its start, optimizer, losses and precision.

Comes in: a network and a `FitConfig`. Goes out: the same network, begun from another run where
the config says so, compiled, and, where asked for, multiplying in bfloat16.

Every variable has a loss of its own. An error of `VARIABLE_SCALES[variable]` counts as one of
1 m2 m-2 in LAI, whatever the loss: Huber's with delta d times the scale s, divided by s squared,
is Huber's of the error in units of s.
"""

from pathlib import Path

import keras
import numpy as np

from lai_training.errors import FitError
from lai_training.learn.checkpoints import BEST
from lai_training.learn.config import FitConfig
from lai_training.learn.normalisation import Floats
from lai_training.learn.precision import HALF, set_precision
from lai_training.learn.spread import SPREAD_LAYERS
from lai_training.networks import SPECS, VARIABLE_SCALES


def load_start(model: keras.Model, start: Path, *, freeze: bool = False) -> None:
    """Begin with the best weights of another run, layer by layer.

    Where a layer is wider than the other's, the other's weights fill its first channels and the
    network still computes the same: what reads the new channels gives them no weight yet (Chen,
    Goodfellow, Shlens 2016, Net2Net). The spread head does not come along: it is taught when
    everything else is fitted.

    Args:
        model: an untrained network that has every layer of the other, by name; it may have more.
        start: folder of the other run.
        freeze: those layers keep their weights.

    Raises:
        FitError: the weights cannot be read, or do not fit.
    """
    try:
        found = keras.models.load_model(start / BEST, compile=False)
        for layer in found.layers:
            if layer.weights and layer.name not in SPREAD_LAYERS:
                own = model.get_layer(layer.name)
                pairs = zip(own.get_weights(), layer.get_weights(), strict=True)
                own.set_weights([widen(wide, narrow) for wide, narrow in pairs])
                if freeze:  # never set to True: fixed layers inside would wake up
                    own.trainable = False
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise FitError(
            f"start_from: {start / BEST} is damaged or of another network ({reason})"
        ) from error


def widen(wide: Floats, narrow: Floats) -> Floats:
    """Return `wide` with the weights of a narrower layer in its first channels.

    Args:
        wide: freshly drawn kernel (y, x, in, out) or bias (out,).
        narrow: the same of the other layer, with as many channels or fewer.

    Raises:
        ValueError: the shapes do not nest.
    """
    spatial = slice(0, -2) if wide.ndim > 1 else slice(0, 0)
    if wide.shape[spatial] != narrow.shape[spatial] or (
        wide.ndim != narrow.ndim or np.any(np.less(wide.shape, narrow.shape))
    ):
        raise ValueError(f"weights {narrow.shape} do not fit into {wide.shape}")
    filled = wide.copy()
    if wide.ndim > 1:
        filled[..., narrow.shape[-2] :, :] = 0  # new inputs have no say yet
    filled[tuple(slice(size) for size in narrow.shape)] = narrow
    return filled


def compile_model(model: keras.Model, config: FitConfig) -> None:
    """Give the model its optimizer, losses and precision; the spread is not fitted, but taught."""
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
    variables = {name.lower(): name for name in SPECS[config.network].variables}
    scales = [
        VARIABLE_SCALES[variables[name]] if name in variables else None
        for name in model.output_names
    ]
    losses = [_loss(config, scale) if scale else None for scale in scales]
    weights = [1 / scale**2 if scale else 1.0 for scale in scales]
    metrics = [["mae"] if scale else [] for scale in scales]
    several = len(losses) > 1
    model.compile(
        optimizer=optimizer,
        loss=losses if several else losses[0],
        loss_weights=weights if len(SPECS[config.network].variables) > 1 else None,
        weighted_metrics=metrics if several else metrics[0],
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


def _loss(config: FitConfig, scale: float) -> keras.losses.Loss:
    if config.huber_delta:
        return keras.losses.Huber(config.huber_delta * scale)
    return keras.losses.MeanSquaredError()
