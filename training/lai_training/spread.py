"""Teach the one-pass spread: what thirty Monte-Carlo draws would show, from a single pass.

The network is frozen but for its two last layers of the spread head, which learn the standard
deviation of LAI over draws of the dropout masks. The point estimate does not change by a bit.
"""

from pathlib import Path

import keras
import numpy as np

from lai_training.networks import NetworkSpec
from lai_training.samples import (
    Floats,
    Normalisation,
    SampleConfig,
    build_batch,
    cut_patches,
    draw_training_masks,
)

SPREAD_LAYERS = ("spread1", "lai_sd")
DRAWS = 30
PATCHES = 8  # a batch of draws holds PATCHES x DRAWS images


class SpreadStream(keras.utils.PyDataset):  # type: ignore[misc]
    """Batches of (features, all-ones masks) with the spread of `DRAWS` draws as target."""

    def __init__(
        self,
        model: keras.Model,
        pool: Floats,
        normalisation: Normalisation,
        spec: NetworkSpec,
        config: SampleConfig,
        *,
        steps: int,
        seed: int,
    ) -> None:
        """Draw `steps` batches of `PATCHES` patches; the model is read, never changed."""
        super().__init__(workers=1)
        self._model = keras.Model(model.inputs, model.outputs[0])
        self._source = (pool, normalisation, spec)
        self._config = config.model_copy(update={"batch": PATCHES, "masked_draw_share": 0.0})
        self._steps, self._seed = steps, seed

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, index: int) -> tuple[tuple[Floats, Floats], Floats, Floats]:
        pool, normalisation, spec = self._source
        rng = np.random.default_rng((self._seed, index))
        clean = cut_patches(pool, self._config, rng)
        (features, ones), _, weights = build_batch(clean, normalisation, spec, self._config, rng)
        target = self.measure_spread(features, draw_training_masks(DRAWS, spec, 1.0, rng))
        return (features, ones), target, (weights > 0).astype("float32")

    def measure_spread(self, features: Floats, masks: Floats) -> Floats:
        """Return the standard deviation over the draws, (n, y, x, 1)."""
        draws = np.stack(
            [
                keras.ops.convert_to_numpy(
                    self._model([features, np.repeat(mask[None], len(features), axis=0)])
                )
                for mask in masks
            ]
        )
        return np.asarray(draws.std(axis=0, ddof=1), dtype="float32")


def teach_spread(
    weights: Path,
    pool: Floats,
    normalisation: Normalisation,
    spec: NetworkSpec,
    config: SampleConfig,
    *,
    steps: int,
    seed: int,
    verbose: int = 1,
) -> keras.Model:
    """Fit the spread head of `weights` in place and return the model."""
    model = keras.models.load_model(weights, compile=False)
    for layer in model.layers:
        layer.trainable = layer.name in SPREAD_LAYERS
    rate = keras.optimizers.schedules.CosineDecay(5e-3, decay_steps=steps, alpha=0.01)
    model.compile(
        optimizer=keras.optimizers.Adam(rate),
        loss=[None, keras.losses.Huber(0.05)],
        jit_compile=False,
    )
    stream = SpreadStream(model, pool, normalisation, spec, config, steps=steps, seed=seed)
    model.fit(stream, epochs=1, verbose=verbose)
    model.save(weights)
    return model
