"""Training samples: simulated patches -> noisy, partly missing features and SL2P labels.

Comes in: a pool of noise-free simulated patches on disk, shape (n, 10, y, x), read through a
memory map, so that no data set need fit in memory. Goes out: batches for Keras. Every batch is a
function of (seed, epoch, index) alone, so a resumed run sees what an uninterrupted one would.

The label is SL2P of the noise-free patch: the network learns what SL2P would say if the sensor
were perfect. Angles are drawn per patch; for a share of the patches they are withheld, that is,
the network and SL2P both get the nominal angles, which is what a cube without angle bands means.
"""

import keras
import numpy as np
from numpy.typing import NDArray

from lai_training import sl2p
from lai_training.learn.augmentation import (
    add_noise,
    add_texture,
    draw_cosines,
    draw_missing,
    draw_training_masks,
)
from lai_training.learn.config import SampleConfig
from lai_training.learn.pools import Normalisation
from lai_training.networks import NetworkSpec
from lai_udf.predict import FEATURES, build_features, clear_inputs

Floats = NDArray[np.float32]


Batch = tuple[tuple[Floats, Floats], Floats, Floats]
"""((features, masks), label, weight)."""


def cut_some(
    pool: Floats, config: SampleConfig, rng: np.random.Generator
) -> tuple[Floats, NDArray[np.int64]]:
    """Cut random patches out of a pool, turned and flipped at random where `augment` says so.

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
    normalisation: Normalisation,
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
    contract = {"normalisation": normalisation.contract()}
    features = np.empty((count, height, width, len(FEATURES)), dtype="float32")
    for index in range(count):
        observed[index, :, missing[index]] = np.nan
        inputs = clear_inputs(observed[index], cosines[index, :, None, None])
        features[index] = build_features(inputs, contract).transpose(1, 2, 0)
    masks = draw_training_masks(count, spec, config.masked_draw_share, rng)
    untouched = ~noisy & (masks == 1).all(axis=1)
    weight = np.where(untouched, np.float32(config.clean_weight), np.float32(1))
    weights = np.where(missing, np.float32(0), weight[:, None, None])
    inside = np.zeros((height, width), dtype=bool)
    border = config.unscored_border_px
    inside[border : height - border, border : width - border] = True
    weights[:, ~inside] = 0
    return (features, masks), label[..., None], weights[..., None]


class SampleStream(keras.utils.PyDataset):  # type: ignore[misc]
    """Batches drawn from a pool; batch `index` of epoch `epoch` is always the same."""

    def __init__(
        self,
        pool: Floats,
        normalisation: Normalisation,
        spec: NetworkSpec,
        config: SampleConfig,
        *,
        steps: int,
        seed: int,
        fixed: bool = False,
        cosines: Floats | None = None,
        lai: Floats | None = None,
    ) -> None:
        """Draw `steps` batches an epoch; with `fixed`, the same ones in every epoch.

        `cosines`, (len(pool), 3): the angles of real patches; simulated ones get drawn angles.
        `lai`, (len(pool), y, x): labels from elsewhere; none = SL2P's.
        """
        super().__init__(workers=1)
        self._source = (pool, normalisation, spec, config)
        self._steps, self._seed, self._fixed = steps, seed, fixed
        self._cosines, self._lai = cosines, lai
        self.epoch = 0

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, index: int) -> Batch:
        pool, normalisation, spec, config = self._source
        draw = (self._seed, 0 if self._fixed else self.epoch, index)
        rng = np.random.default_rng(draw)
        clean, sources = cut_some(pool, config, rng)
        cosines = None if self._cosines is None else self._cosines[sources]
        lai = None
        if self._lai is not None:  # the same draw cuts, turns and flips in the same way
            lai, _ = cut_some(self._lai, config, np.random.default_rng(draw))
        return build_batch(clean, normalisation, spec, config, rng, cosines=cosines, lai=lai)

    def on_epoch_end(self) -> None:
        """Move on to the draws of the next epoch."""
        self.epoch += 1
