"""Training samples: simulated patches -> noisy, partly missing features and SL2P labels.

Comes in: a pool of noise-free simulated patches on disk, shape (n, 10, y, x), read through a
memory map, so that no data set need fit in memory. Goes out: batches for Keras. Every batch is a
function of (seed, epoch, index) alone, so a resumed run sees what an uninterrupted one would.

The label is SL2P of the noise-free patch: the network learns what SL2P would say if the sensor
were perfect. Angles are drawn per patch; for a share of the patches they are withheld, that is,
the network and SL2P both get the nominal angles, which is what a cube without angle bands means.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field

from lai_training import sl2p
from lai_training.landscapes import simulate_patches
from lai_training.networks import NetworkSpec
from lai_training.sl2p_tables import load_network
from lai_training.spectral_library import SpectralLibrary
from lai_udf.predict import BANDS, FEATURES, NOMINAL_COSINES, Inputs, build_features
from lai_udf.rasters_files import disk_errors, move_finished, work_folder

Floats = NDArray[np.float32]
Batch = tuple[tuple[Floats, Floats], Floats | tuple[Floats, ...], Floats]
"""((features, masks), label or labels, weight)."""
SL2P_BANDS = ("B03", "B04", "B05", "B06", "B07", "B8A", "B11", "B12")
SL2P_ROWS = [BANDS.index(band) for band in SL2P_BANDS]
NORMALISATION_LIMIT = 8.0
POOL_STEP = 64  # patches simulated at a time


class SampleConfig(BaseModel):
    """How a clean simulated patch becomes a training sample."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    patch_px: int = Field(64, ge=16, multiple_of=16)
    batch: int = Field(32, ge=2)
    noisy_share: float = Field(0.6, ge=0, le=1)
    """Share of the patches with band noise; the others are as clean as simulated."""
    noise_relative: float = Field(0.03, ge=0)
    """Band noise, fraction of the reflectance, at level 1; levels are drawn from 0 to 1.5."""
    noise_absolute: float = Field(0.005, ge=0)
    """Band noise, reflectance, at level 1."""
    noise_level_low: float = Field(0.0, ge=0, le=1.5)
    """Lowest level of the noise that is to be removed."""
    grain_share: float = Field(0.0, ge=0, le=1)
    """Share of the patches that are made as rough as real scenes, see `roughen`."""
    nominal_angle_share: float = Field(0.5, ge=0, le=1)
    """Share of the patches whose angles are withheld."""
    missing_share: float = Field(0.3, ge=0, le=1)
    """Share of the patches with a rectangle or a border without data."""
    masked_draw_share: float = Field(0.5, ge=0, le=1)
    """Share of the patches seen through a draw of dropout masks."""
    clean_weight: float = Field(8.0, gt=0)
    """Weight of a noise-free, undropped patch; the error of the others is larger anyway, and
    without it the network would smooth what needs no smoothing."""
    augment: bool = True
    """Turn and flip the patches at random."""
    label_low: float = -1.0
    label_high: float = 10.0
    """SL2P labels of LAI are limited to this range; beyond it lies no vegetation. The other
    variables are limited likewise: five tolerances below their minimum, ten above their maximum."""


@dataclass(frozen=True, eq=False)
class Normalisation:
    """Constants of eq. 1 (section 4.2), frozen in reflectance units for all images."""

    mean: Floats
    """(10,), reflectance."""
    std: Floats
    """(10,), reflectance."""

    def contract(self) -> dict[str, Any]:
        """Return what `model.json` says of it."""
        return {
            "mean": [round(float(value), 6) for value in self.mean],
            "std": [round(float(value), 6) for value in self.std],
            "limit": NORMALISATION_LIMIT,
        }


def measure_normalisation(pool: Floats) -> Normalisation:
    """Return mean and standard deviation per band over every tenth patch of the pool."""
    some = np.asarray(pool[::10], dtype="float64")
    return Normalisation(
        mean=np.nanmean(some, axis=(0, 2, 3)).astype("float32"),
        std=np.nanstd(some, axis=(0, 2, 3)).astype("float32"),
    )


def normalise_by_range(lowest: ArrayLike, highest: ArrayLike) -> Normalisation:
    """Return eq. 1 as the paper has it: `lowest` becomes 0, `highest` 1.

    Args:
        lowest: (10,) reflectance, the smallest 2nd percentile of any image.
        highest: (10,) reflectance, the largest 98th percentile of any image.
    """
    low, high = (np.asarray(limits, dtype="float32") for limits in (lowest, highest))
    return Normalisation(mean=low, std=high - low)


def measure_range(pool: Floats) -> Normalisation:
    """Return eq. 1 with every tenth patch of the pool taken for an image."""
    some = np.asarray(pool[::10], dtype="float32")
    low, high = np.nanpercentile(some, (2, 98), axis=(2, 3))
    return normalise_by_range(np.nanmin(low, axis=0), np.nanmax(high, axis=0))


def make_pool(
    path: Path,
    library: SpectralLibrary,
    *,
    patches: int,
    size_px: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Simulate a pool of clean patches into a float16 `.npy`, a few at a time, atomically.

    Half precision costs 0.05 % of the reflectance, and the label is made of what is stored.
    `progress` is told (patches done, all). Raises `OutputNotWritableError` where the disk refuses.
    """
    shape = (patches, len(BANDS), size_px, size_px)
    rng = np.random.default_rng(seed)
    with work_folder(path.parent) as work, disk_errors(path.parent):
        unfinished = work / path.name
        pool = np.lib.format.open_memmap(unfinished, mode="w+", dtype="float16", shape=shape)
        for start in range(0, patches, POOL_STEP):
            count = min(POOL_STEP, patches - start)
            made = simulate_patches(count, size_px, rng, library, patches_per_scene=4)
            pool[start : start + count] = made.boa_reflectance
            if progress:
                progress(start + count, patches)
        pool.flush()
        move_finished({unfinished: path})


def open_pool(path: Path) -> Floats:
    """Map a pool of clean patches, shape (n, 10, y, x), float16 or float32 reflectance."""
    pool: Floats = np.load(path, mmap_mode="r")
    return pool


def label_patches(clean: Floats, cosines: Floats, variable: str = "LAI") -> Floats:
    """Return SL2P's unclipped value (set 2_1) of clean patches.

    Args:
        clean: (n, 10, y, x) reflectance.
        cosines: (n, 3), in the order view zenith, sun zenith, relative azimuth.
        variable: LAI (m2 m-2), FAPAR, FCOVER (1), CCC (ug cm-2) or CWC (g cm-2).

    Returns:
        (n, y, x) float32.
    """
    count, _, height, width = clean.shape
    rows = np.empty((count, height, width, 11), dtype="float32")
    rows[..., :8] = clean[:, SL2P_ROWS].transpose(0, 2, 3, 1)
    rows[..., 8:] = cosines[:, None, None, :]
    value, _ = sl2p.predict(rows.reshape(-1, 11), variable=variable, network="2_1", clip=False)
    return np.asarray(value, dtype="float32").reshape(count, height, width)


def limit_label(label: Floats, variable: str, config: SampleConfig) -> Floats:
    """Limit SL2P's values to where vegetation is, see `SampleConfig.label_low`."""
    if variable == "LAI":
        return np.clip(label, config.label_low, config.label_high)
    net = load_network(variable, "2_1")
    low, high = net.minimum - 5 * net.tolerance, net.maximum + 10 * net.tolerance
    return np.clip(label, np.float32(low), np.float32(high))


def draw_cosines(
    count: int, nominal_share: float, rng: np.random.Generator, *, known: Floats | None = None
) -> Floats:
    """Draw the cosines of the angles, (n, 3), or take the known; a share of the rows is nominal."""
    view_zenith = np.radians(rng.uniform(0, 12, count))
    sun_zenith = np.radians(rng.uniform(15, 70, count))
    relative_azimuth = np.radians(rng.uniform(0, 180, count))
    cosines = np.cos(np.stack([view_zenith, sun_zenith, relative_azimuth], axis=1))
    cosines = cosines if known is None else known
    nominal = rng.random(count) < nominal_share
    return np.where(nominal[:, None], NOMINAL_COSINES, cosines).astype("float32")


def roughen(clean: Floats, config: SampleConfig, rng: np.random.Generator) -> Floats:
    """Give a share of the patches the roughness of real scenes, before they are labelled.

    What varies from pixel to pixel is not always noise: crowns and shadows change the brightness
    of all bands alike, small things mix other surfaces in, bands are a fraction of a pixel off
    each other, and a sensor has some noise that nobody asks to remove. SL2P sees all of that, so
    the network must leave it alone; only what `add_noise` adds afterwards is noise to it.

    Args:
        clean: (n, 10, y, x) reflectance.
        config: `grain_share`, and the noise of level 1.
        rng: source of randomness.

    Returns:
        (n, 10, y, x), the patches, some of them rougher.
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
    """Draw (n, y, x) bool: rectangles, some of them touching a border, without data."""
    count, height, width = shape
    missing = np.zeros(shape, dtype=bool)
    for index in np.flatnonzero(rng.random(count) < share):
        top, left = rng.integers(-height // 2, height), rng.integers(-width // 2, width)
        bottom, right = top + rng.integers(2, height), left + rng.integers(2, width)
        missing[index, max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = True
    return missing


def draw_training_masks(
    count: int, spec: NetworkSpec, share: float, rng: np.random.Generator
) -> Floats:
    """Draw dropout masks, (n, mask_count); rows outside `share` are all ones."""
    kept = rng.random((count, spec.mask_count)) >= spec.dropout_rate
    masks = np.where(kept, 1 / (1 - spec.dropout_rate), 0.0)
    masks[rng.random(count) >= share] = 1.0
    return masks.astype("float32")


def cut_patches(pool: Floats, config: SampleConfig, rng: np.random.Generator) -> Floats:
    """Cut random patches out of the pool, turned and flipped at random where `augment` says so."""
    return cut_some(pool, config, rng)[0]


def cut_some(
    pool: Floats, config: SampleConfig, rng: np.random.Generator
) -> tuple[Floats, NDArray[np.int64]]:
    """Cut random patches as `cut_patches` does; say from which rows of the pool, (n,)."""
    size = config.patch_px
    patches = np.empty((config.batch, pool.shape[1], size, size), dtype="float32")
    slack = pool.shape[-1] - size + 1
    sources = rng.integers(0, len(pool), config.batch)
    for index, source in enumerate(sources):
        top, left = rng.integers(0, slack, 2)
        patch = pool[source, :, top : top + size, left : left + size]
        if config.augment:
            patch = np.rot90(patch, int(rng.integers(4)), axes=(1, 2))
            patch = patch[:, ::-1] if rng.random() < 0.5 else patch
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
    A network of several variables gets a tuple of labels, in the order of `spec.variables`.
    """
    count, _, height, width = clean.shape
    if config.grain_share:
        clean = roughen(clean, config, rng)
    cosines = draw_cosines(count, config.nominal_angle_share, rng, known=cosines)
    raw = [
        label_patches(clean, cosines, variable) if lai is None else lai
        for variable in spec.variables
    ]
    labels = tuple(
        np.nan_to_num(limit_label(label, variable, config))[..., None]
        for label, variable in zip(raw, spec.variables, strict=True)
    )
    missing = draw_missing((count, height, width), config.missing_share, rng)
    missing |= np.isnan(clean).any(axis=1) | np.isnan(raw[0])
    observed, noisy = add_noise(clean, config, rng)
    contract = {"normalisation": normalisation.contract()}
    features = np.empty((count, height, width, len(FEATURES)), dtype="float32")
    nothing_masked = np.zeros((height, width), dtype=bool)
    for index in range(count):
        observed[index, :, missing[index]] = np.nan
        inputs = Inputs(
            observed[index], cosines[index, :, None, None], nothing_masked, missing[index]
        )
        features[index] = build_features(inputs, contract).transpose(1, 2, 0)
    masks = draw_training_masks(count, spec, config.masked_draw_share, rng)
    untouched = ~noisy & (masks == 1).all(axis=1)
    weight = np.where(untouched, np.float32(config.clean_weight), np.float32(1))
    weights = np.where(missing, np.float32(0), weight[:, None, None])
    return (features, masks), labels if len(labels) > 1 else labels[0], weights[..., None]


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
            cut, _ = cut_some(self._lai[:, None], config, np.random.default_rng(draw))
            lai = cut[:, 0]
        return build_batch(clean, normalisation, spec, config, rng, cosines=cosines, lai=lai)

    def on_epoch_end(self) -> None:
        """Move on to the draws of the next epoch."""
        self.epoch += 1


def steps_for(patches: int, config: SampleConfig) -> int:
    """Return how many batches hold `patches` samples."""
    return math.ceil(patches / config.batch)
