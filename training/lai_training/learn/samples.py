"""Training samples: simulated patches -> noisy, partly missing features and SL2P labels.

Input: a pool of noise-free patches, shape (n, 10, y, x), read when it is asked for, so that no
data set need fit in memory. Output: batches for Keras. Every batch is a function of (seed, epoch,
index) alone, so a resumed run gets the samples of an uninterrupted one: all functions draw from the
generator given, in a fixed order.

The label is SL2P of the noise-free patch: the network learns what SL2P would estimate if the sensor
were perfect. Angles are drawn per patch; for a share of the patches they are withheld, that is,
the network and SL2P both get the nominal angles, which is what a cube without angle bands means.
"""

import copy
from abc import ABC, abstractmethod
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from lai_training import sl2p
from lai_training.learn.config import SampleConfig
from lai_training.learn.pools import Constants, Pool
from lai_training.networks import NetworkSpec
from lai_udf.predict import FEATURES, NOMINAL_COSINES, build_features, clear_inputs

Floats = NDArray[np.float32]


def draw_cosines(
    count: int, nominal_share: float, rng: np.random.Generator, *, known: Floats | None = None
) -> Floats:
    """Draw the angles of patches, or take the known; of a share of them the nominal ones.

    Returns cosines of view zenith, sun zenith and relative azimuth, (count, 3), float32. `known`
    are those of the patches; None: drawn as Sentinel-2 sees land.
    """
    view_zenith = np.radians(rng.uniform(0, 12, count))
    sun_zenith = np.radians(rng.uniform(15, 70, count))
    relative_azimuth = np.radians(rng.uniform(0, 180, count))
    cosines = np.cos(np.stack([view_zenith, sun_zenith, relative_azimuth], axis=1))
    cosines = cosines if known is None else known
    nominal = rng.random(count) < nominal_share
    return np.where(nominal[:, None], NOMINAL_COSINES, cosines).astype("float32")


def add_texture(clean: Floats, config: SampleConfig, rng: np.random.Generator) -> Floats:
    """Give a share of the patches the texture of real scenes, before they are labelled.

    What varies from pixel to pixel is not always noise: crowns and shadows change the brightness of
    all bands alike, other surfaces are mixed in, bands are a fraction of a pixel off each other,
    and a sensor has some noise that is not to be removed. All of it is in the label; only what
    `add_noise` adds afterwards is noise to the network. Patches are (n, 10, y, x) reflectance.
    """
    count, bands, height, width = clean.shape
    pixels = (count, 1, height, width)

    def strength(most: float) -> Floats:
        return rng.uniform(0, most, (count, 1, 1, 1)).astype("float32")

    other = clean[rng.permutation(count)]
    other = np.where(np.isnan(other), clean, other)  # gaps of real scenes do not spread
    share = np.minimum(strength(0.2) * np.abs(rng.standard_normal(pixels, dtype="float32")), 1)
    rough = clean + share * (other - clean)
    rough *= 1 + strength(0.12) * rng.standard_normal(pixels, dtype="float32")
    for axis in (2, 3):  # a shift by a fraction of a pixel, each band its own
        shift = strength(0.25) * rng.uniform(-1, 1, (count, bands, 1, 1)).astype("float32")
        forth, back = np.maximum(shift, 0), np.maximum(-shift, 0)
        moved = forth * np.roll(rough, 1, axis=axis) + back * np.roll(rough, -1, axis=axis)
        rough = (1 - forth - back) * rough + moved
    sd = strength(0.3) * (config.noise_relative * np.abs(rough) + config.noise_absolute)
    rough += sd * rng.standard_normal(clean.shape, dtype="float32")
    chosen = rng.random((count, 1, 1, 1)) < config.grain_share
    return np.where(chosen, rough, clean)


def add_noise(
    clean: Floats, config: SampleConfig, rng: np.random.Generator
) -> tuple[Floats, NDArray[np.bool_]]:
    """Add independent band noise of a level drawn per patch: sd = relative * r + absolute.

    Returns:
        The noisy patches and (n,) bool: which of them got noise.
    """
    noisy = rng.random(len(clean)) < config.noisy_share
    level = rng.uniform(config.noise_level_low, 1.5, (2, len(clean), 1, 1, 1)).astype("float32")
    level *= noisy[:, None, None, None]
    sd = level[0] * config.noise_relative * np.abs(clean) + level[1] * config.noise_absolute
    return clean + sd * rng.standard_normal(clean.shape, dtype="float32"), noisy


def draw_missing(
    shape: tuple[int, int, int], share: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Draw rectangles without data, some of them touching a border: (n, y, x) bool, no data.

    `share` is the probability that a patch has one, 0-1.
    """
    count, height, width = shape
    missing = np.zeros(shape, dtype=bool)
    for index in np.flatnonzero(rng.random(count) < share):
        top, left = rng.integers(-height // 2, height), rng.integers(-width // 2, width)
        bottom, right = top + rng.integers(2, height), left + rng.integers(2, width)
        missing[index, max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = True
    return missing


def draw_training_masks(
    count: int, channels: int, rate: float, share: float, rng: np.random.Generator
) -> Floats:
    """Draw dropout masks: (count, channels) float32, 0 = dropped, 1 / (1 - rate) = kept.

    `share` is the probability that a patch is seen through a draw, 0-1; the others get ones.
    """
    kept = rng.random((count, channels)) >= rate
    masks = np.where(kept, 1 / (1 - rate), 0.0)
    masks[rng.random(count) >= share] = 1.0
    return masks.astype("float32")


Batch = tuple[tuple[Floats, Floats], Floats, Floats]
"""((features, masks), label, weight)."""


def cut_some(
    pool: Floats, config: SampleConfig, rng: np.random.Generator
) -> tuple[Floats, NDArray[np.int64]]:
    """Cut random patches out of a pool, turned and flipped at random where `augment` is set.

    The pool is (n, bands, y, x), or labels (n, y, x). Returns patches, (batch, ..., patch_px,
    patch_px) float32, and their rows of the pool, (batch,).
    """
    size = config.patch_px
    patches = np.empty((config.batch, *pool.shape[1:-2], size, size), dtype="float32")
    slack = pool.shape[-1] - size + 1
    sources = rng.integers(0, len(pool), config.batch)
    for index, source in enumerate(sources):
        top, left = rng.integers(0, slack, 2)
        patch = pool[source, ..., top : top + size, left : left + size]
        if config.augment:
            patch = np.rot90(patch, int(rng.integers(4)), axes=(-2, -1))
            patch = patch[..., ::-1, :] if rng.random() < 0.5 else patch
        patches[index] = patch
    return patches, sources


def build_batch(
    clean: Floats,
    normalisation: Constants,
    spec: NetworkSpec,
    config: SampleConfig,
    rng: np.random.Generator,
    *,
    cosines: Floats | None = None,
    lai: Floats | None = None,
) -> Batch:
    """Turn clean patches (n, 10, y, x) into ((features, masks), label, weight) for Keras.

    NaN in the patches is no data. Angles are drawn, or those of the patches: `cosines`, (n, 3).
    The label is SL2P's, or `lai`, (n, y, x), NaN where there is none.

    Features are (n, y, x, 14); label and weight (n, y, x, 1), weight 0 where data are missing.
    """
    count, _, height, width = clean.shape
    if config.grain_share:
        clean = add_texture(clean, config, rng)
    cosines = draw_cosines(count, config.nominal_angle_share, rng, known=cosines)
    if lai is None:
        lai, _ = sl2p.predict_patches(clean, cosines)
    label = np.nan_to_num(np.clip(lai, config.label_low, config.label_high))
    missing = draw_missing((count, height, width), config.missing_share, rng)
    missing |= np.isnan(clean).any(axis=1) | np.isnan(lai)
    observed, noisy = add_noise(clean, config, rng)
    features = np.empty((count, height, width, len(FEATURES)), dtype="float32")
    for index in range(count):
        observed[index, :, missing[index]] = np.nan
        inputs = clear_inputs(observed[index], cosines[index, :, None, None])
        features[index] = build_features(inputs, {"normalisation": normalisation}).transpose(
            1, 2, 0
        )
    share, rate = config.masked_draw_share, spec.dropout_rate
    masks = draw_training_masks(count, spec.mask_count, rate, share, rng)
    untouched = ~noisy & (masks == 1).all(axis=1)
    weight = np.where(untouched, np.float32(config.clean_weight), np.float32(1))
    weights = np.where(missing, np.float32(0), weight[:, None, None])
    inside = np.zeros((height, width), dtype=bool)
    border = config.unscored_border_px
    inside[border : height - border, border : width - border] = True
    weights[:, ~inside] = 0
    return (features, masks), label[..., None], weights[..., None]


class SampleStream(keras.utils.PyDataset, ABC):  # type: ignore[misc]
    """Batches; batch `index` of epoch `epoch` is a function of the seed alone."""

    def __init__(self, *, steps: int, seed: int, workers: int = 1, fixed: bool = False) -> None:
        """Draw `steps` batches an epoch; with `fixed`, the same ones in every epoch."""
        super().__init__(workers=workers)
        self._steps, self._seed, self._fixed = steps, seed, fixed
        self.epoch = 0

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, index: int) -> Any:  # noqa: ANN401  (what `build` returns)
        epoch = 0 if self._fixed else self.epoch
        return self.build(np.random.default_rng((self._seed, epoch, index)))

    @abstractmethod
    def build(self, rng: np.random.Generator) -> Any:  # noqa: ANN401  (inputs, targets, weights)
        """Return a batch of what the generator draws."""

    def on_epoch_end(self) -> None:
        """Move on to the draws of the next epoch."""
        self.epoch += 1


class PoolStream(SampleStream):
    """Batches of a pool, as `build_batch` returns them."""

    def __init__(
        self,
        pool: Pool,
        normalisation: Constants,
        spec: NetworkSpec,
        config: SampleConfig,
        **draws: Any,  # noqa: ANN401  (of `SampleStream`)
    ) -> None:
        super().__init__(**draws)
        self._pool, self._arguments = pool, (normalisation, spec, config)
        self._config = config

    def build(self, rng: np.random.Generator) -> Batch:
        """Cut patches of the pool, with their angles and labels where it holds some."""
        pool, same_draw = self._pool, copy.deepcopy(rng)
        clean, rows = cut_some(pool.reflectance, self._config, rng)
        cosines = None if pool.cosines is None else pool.cosines[rows]
        lai = None if pool.lai is None else cut_some(pool.lai, self._config, same_draw)[0]
        return build_batch(clean, *self._arguments, rng, cosines=cosines, lai=lai)
