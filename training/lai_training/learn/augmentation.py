"""Augmentation of a clean patch on its way into the network: texture, noise, gaps, lost angles.

All functions draw from the generator given, in a fixed order: a batch is a function of its seed.
"""

import numpy as np
from numpy.typing import NDArray

from lai_training.learn.config import SampleConfig
from lai_training.networks import NetworkSpec
from lai_udf.predict import NOMINAL_COSINES

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
    """Give a share of the patches the roughness of real scenes, before they are labelled.

    What varies from pixel to pixel is not always noise: crowns and shadows change the brightness of
    all bands alike, small things mix other surfaces in, bands are a fraction of a pixel off each
    other, and a sensor has some noise that nobody asks to remove. SL2P sees all of that, so the
    network must leave it alone; only what `add_noise` adds afterwards is noise to it. Patches are
    (n, 10, y, x) reflectance.
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
    count: int, spec: NetworkSpec, share: float, rng: np.random.Generator
) -> Floats:
    """Draw dropout masks: (count, mask_count) float32, 0 = dropped, 1 / (1 - rate) = kept.

    `share` is the probability that a patch is seen through a draw, 0-1; the others get ones.
    """
    kept = rng.random((count, spec.mask_count)) >= spec.dropout_rate
    masks = np.where(kept, 1 / (1 - spec.dropout_rate), 0.0)
    masks[rng.random(count) >= share] = 1.0
    return masks.astype("float32")
