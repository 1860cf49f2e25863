"""Distil the MC-dropout standard deviation: what thirty draws would show, from a single pass.

Comes in: a fitted network and a pool of simulated patches. Goes out: the same network, the two
layers of its spread head fitted; every other weight, and with them the point estimate, stays as
it is to the last bit.

The head reads both hidden layers, so teaching it is a regression of pixels: channels in, standard
deviation over the draws out. The channels are computed once, and the trunk of the network once per
patch: masks act behind it, and one patch broadcasts against all its draws.

Thirty draws say the spread of one pixel to about 13 % only, and the pattern of another thirty
differs. What a user compares with are the thirty draws that the UDF makes by default
(`samples=30`, `seed=0`), and those are one fixed function of the pixel: the head learns them. The
score tells besides how far it agrees with thirty others.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

from lai_training.learn.config import SampleConfig
from lai_training.learn.normalisation import Floats, Normalisation
from lai_training.learn.samples import build_batch, cut_patches
from lai_training.networks import NetworkSpec
from lai_udf.predict import PredictOptions, draw_masks

logger = logging.getLogger("lai_training")

SPREAD_LAYERS = ("spread1", "lai_sd")
DRAWS = 30
OTHER_SEED = 1
PIXELS = 700
"""Pixels taken of each patch; neighbours say the same."""
TOGETHER = 8
"""Patches made at a time."""
HELD_OUT_SHARE = 0.1
EPOCHS = 10
BATCH = 1024
LEARNING_RATE = 5e-3


@dataclass(frozen=True)
class SpreadScore:
    """How well one pass tells what thirty draws show, on patches kept from the teaching."""

    patches: int
    """Patches taught with and scored on together."""
    correlation: float
    """Pearson's r with the default draws, held-out pixels."""
    correlation_other_draws: float
    """Pearson's r with as many draws of another seed."""
    ratio: float
    """Mean single-pass MC-dropout SD over mean spread of the draws."""


@dataclass(frozen=True, eq=False)
class SpreadPixels:
    """Pixels to learn from, in the order of their patches."""

    hidden: Floats
    """(n, channels), the layer that the head reads, without dropout."""
    spread: Floats
    """(n,), standard deviation of LAI over the default draws, m2 m-2."""
    other: Floats
    """(n,), the same over draws of another seed."""

    def take(self, rows: slice) -> "SpreadPixels":
        """Return some of the pixels."""
        return SpreadPixels(self.hidden[rows], self.spread[rows], self.other[rows])


def has_spread_head(model: keras.Model) -> bool:
    """Return whether a network can estimate its spread in one pass."""
    names = {layer.name for layer in model.layers}
    return names.issuperset(SPREAD_LAYERS)


def measure_spread(lai_model: keras.Model, features: Floats, masks: Floats) -> Floats:
    """Return the standard deviation of LAI over draws of masks, (y, x).

    Args:
        lai_model: a network with LAI as its only output.
        features: (y, x, 14) of one patch; it broadcasts, so the trunk is computed once.
        masks: (draws, mask_count).
    """
    draws = ops.convert_to_numpy(lai_model([features[None], masks]))[..., 0]
    return np.asarray(draws.std(axis=0, ddof=1), dtype="float32")


def collect_pixels(
    model: keras.Model,
    pool: Floats,
    normalisation: Normalisation,
    spec: NetworkSpec,
    config: SampleConfig,
    *,
    patches: int,
    rng: np.random.Generator,
    progress: Callable[[int, int], None] | None = None,
) -> SpreadPixels:
    """Run `patches` random patches of the pool through their draws; take some pixels of each."""
    lai_model = keras.Model(model.inputs, model.outputs[0])
    trunk = keras.Model(model.inputs, model.get_layer(SPREAD_LAYERS[0]).input)
    some = config.model_copy(update={"batch": TOGETHER, "masked_draw_share": 0.0})
    default, other = (_draw(spec, seed) for seed in (PredictOptions().seed, OTHER_SEED))
    hidden: list[Floats] = []
    spread: list[Floats] = []
    others: list[Floats] = []
    while len(spread) < patches:
        clean = cut_patches(pool, some, rng)
        (features, ones), _, weights = build_batch(clean, normalisation, spec, some, rng)
        channels = ops.convert_to_numpy(trunk([features, ones]))
        for index in range(min(TOGETHER, patches - len(spread))):
            rows, columns = np.nonzero(weights[index, ..., 0])
            taken = rng.permutation(rows.size)[:PIXELS]
            at = rows[taken], columns[taken]
            hidden.append(channels[index][at])
            spread.append(measure_spread(lai_model, features[index], default)[at])
            others.append(measure_spread(lai_model, features[index], other)[at])
        if progress:
            progress(len(spread), patches)
    return SpreadPixels(np.concatenate(hidden), np.concatenate(spread), np.concatenate(others))


def _draw(spec: NetworkSpec, seed: int) -> Floats:
    contract = {"masks": {"rate": spec.dropout_rate, "count": spec.mask_count}}
    return draw_masks(contract, DRAWS, seed)


def fit_head(model: keras.Model, pixels: SpreadPixels, rng: np.random.Generator) -> keras.Model:
    """Fit the spread head of `model` in place; return it as a network of its own.

    It begins anew, with the typical spread as its answer, so that teaching twice is no different
    from teaching once.
    """
    first, last = (model.get_layer(name) for name in SPREAD_LAYERS)
    channels, width = first.kernel.shape[-2:]
    typical = float(np.log(np.expm1(np.median(pixels.spread))))  # softplus of it is the median
    he = float(np.sqrt(2 / channels))
    first.set_weights([rng.normal(0, he, first.kernel.shape), np.zeros(width)])
    last.set_weights([rng.normal(0, 0.05, last.kernel.shape), np.full(1, typical)])
    inputs = keras.Input((1, 1, channels))
    head = keras.Model(inputs, last(first(inputs)))
    steps = EPOCHS * -(-len(pixels.hidden) // BATCH)
    rate = keras.optimizers.schedules.CosineDecay(LEARNING_RATE, decay_steps=steps, alpha=0.01)
    head.compile(optimizer=keras.optimizers.Adam(rate), loss="mse", jit_compile=False)
    for _ in range(EPOCHS):
        order = rng.permutation(len(pixels.hidden))
        head.fit(
            pixels.hidden[order][:, None, None],
            pixels.spread[order][:, None, None, None],
            batch_size=BATCH,
            shuffle=False,
            verbose=0,
        )
    return head


def distill_mc_dropout_sd(
    model: keras.Model,
    pool: Floats,
    normalisation: Normalisation,
    spec: NetworkSpec,
    config: SampleConfig,
    *,
    patches: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> SpreadScore:
    """Fit the spread head of `model` in place and score it on pixels that were held out.

    Args:
        model: a fitted network with a spread head.
        pool: (n, 10, y, x) clean simulated patches.
        normalisation: constants that the network was fitted with.
        spec: promises of the network.
        config: how samples are made; all patches are seen without dropout here.
        patches: patches to look at, the last tenth of them to score on.
        seed: of everything random here.
        progress: called with (patches done, all) while they are looked at.
    """
    rng = np.random.default_rng(seed)
    pixels = collect_pixels(
        model, pool, normalisation, spec, config, patches=patches, rng=rng, progress=progress
    )
    cut = int(len(pixels.spread) * (1 - HELD_OUT_SHARE))
    head = fit_head(model, pixels.take(slice(cut)), rng)
    guess = ops.convert_to_numpy(head(pixels.hidden[cut:, None, None]))[:, 0, 0, 0]
    truth, other = pixels.spread[cut:], pixels.other[cut:]
    score = SpreadScore(
        patches=patches,
        correlation=round(float(np.corrcoef(guess, truth)[0, 1]), 4),
        correlation_other_draws=round(float(np.corrcoef(guess, other)[0, 1]), 4),
        ratio=round(float(guess.mean() / truth.mean()), 4),
    )
    logger.info("single-pass MC-dropout SD: r %.3f, ratio %.3f", score.correlation, score.ratio)
    return score
