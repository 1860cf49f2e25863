"""Simulated Sentinel-2 landscapes at 20 m, whose leaf area index is known.

Input: a size, a generator and a `SpectralLibrary`. Output: a scene (`simulate_scene`) or many
patches for training (`simulate_patches`): reflectance in ten bands without and with noise, true
LAI, scene classification and angles. Same generator state, same landscape.

How a pixel comes about: its parcel has two surfaces of the library and a mean LAI; smooth fields
and rows move the LAI and the mixture from pixel to pixel; the spectrum is interpolated on the LAI
ladders of both surfaces; neighbours are mixed by the point spread.

The surfaces of a library were simulated under random sun and view angles, and a landscape mixes
them under one geometry of its own. That is no contradiction for learning SL2P: its label
is a function of the spectrum and of the angles handed to it, whatever made the spectrum. For true
LAI it blurs the tie between angles and spectrum, which SL2P hardly uses (0.11 LAI RMSD).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lai_training.simulation.cover import ParcelCover, draw_cover
from lai_training.simulation.observation import (
    NoiseModel,
    SceneClass,
    add_clouds,
    add_haze_and_gain,
    add_noise,
    blur,
    classify_clouds,
    classify_land,
    spread_points,
)
from lai_training.simulation.parcels import ParcelMap, draw_parcels, random_fields
from lai_training.simulation.spectral_library import LAI_LEVELS, SpectralLibrary, SurfaceClass

Float32 = NDArray[np.float32]

VEILED_SHARE = 0.15
"""Of the landscapes of patches, under a veil of thin cloud with shadows."""
_PIXELS_AT_A_TIME = 1 << 14  # their spectra stay in the processor's cache


@dataclass(frozen=True)
class SimulatedScene:
    """One simulated acquisition at 20 m; bands in the order of `BANDS`."""

    boa_reflectance: Float32
    """Noise-free surface reflectance, shape (10, y, x): what labels are computed from."""
    observed_reflectance: Float32
    """The same with clouds, shadows and noise, shape (10, y, x)."""
    true_lai: Float32
    """Green LAI of the ground, shape (y, x), m2 m-2."""
    scene_classification: NDArray[np.uint8]
    """SCL classes as in Level-2A products, shape (y, x)."""
    parcel_id: NDArray[np.int32]
    """Parcel of each pixel, shape (y, x)."""


def _lai_of_pixels(parcels: ParcelMap, cover: ParcelCover, rng: np.random.Generator) -> Float32:
    """LAI (green parcels) or ladder position (others) of each pixel, shape (y, x)."""
    height, width = parcels.parcel.shape
    slow = random_fields(1, height, width, rng, 7.0)[0]
    fast = random_fields(1, height, width, rng, 1.0)[0]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    across = y * np.cos(parcels.direction_rad)[parcels.parcel]
    across -= x * np.sin(parcels.direction_rad)[parcels.parcel]
    rows = np.sin(across * np.float32(2 * np.pi / rng.uniform(2.2, 5.0)))

    def of(values: NDArray[np.float64]) -> Float32:
        return values.astype(np.float32)[parcels.parcel]

    change = of(cover.variation) * (np.float32(0.7) * slow + np.float32(0.7) * fast)
    change += of(cover.row_contrast) * rows
    result: Float32 = of(cover.lai) * np.exp(change)
    return result


def render(
    parcels: ParcelMap, cover: ParcelCover, library: SpectralLibrary, rng: np.random.Generator
) -> tuple[Float32, Float32]:
    """Give every pixel a spectrum and a true LAI: (10, y, x) and (y, x), float32."""
    height, width = parcels.parcel.shape
    levels = len(LAI_LEVELS)
    value = _lai_of_pixels(parcels, cover, rng)
    on_ladder = np.interp(value, LAI_LEVELS, np.arange(levels))
    flat = np.clip(value, 0, 1) * (levels - 1)
    position = np.where(cover.green[parcels.parcel], on_ladder, flat).astype(np.float32)
    lower = np.minimum(position.astype(np.intp), levels - 2)
    upper_share = (position - lower).ravel()
    spots = random_fields(1, height, width, rng, 3.0)[0]
    mean_share = cover.second_share.astype(np.float32)[parcels.parcel]
    second_share = np.clip(mean_share * (1 + np.float32(0.6) * spots), 0, 1).ravel()

    spectra = np.concatenate([library.reflectance, library.lai[:, :, None]], axis=2)
    spectra = spectra.reshape(-1, spectra.shape[2])
    image = np.empty((spectra.shape[1], height * width), np.float32)
    for start in range(0, height * width, _PIXELS_AT_A_TIME):
        here = slice(start, start + _PIXELS_AT_A_TIME)
        parcel, level, upper = parcels.parcel.ravel()[here], lower.ravel()[here], upper_share[here]
        mixed = np.zeros((len(parcel), spectra.shape[1]), np.float32)
        for surface, share in ((cover.first, 1 - second_share), (cover.second, second_share)):
            step = surface[parcel] * levels + level
            mixed += (share[here] * (1 - upper))[:, None] * spectra[step]
            mixed += (share[here] * upper)[:, None] * spectra[step + 1]
        image[:, here] = mixed.T
    image = image.reshape(-1, height, width)
    light = 1 + cover.shade.astype(np.float32)[parcels.parcel] * random_fields(
        1, height, width, rng, 0.8
    )[0].clip(-3, 3)
    image[:-1] *= light
    return image[:-1], image[-1]


def _landscape(
    height: int, width: int, rng: np.random.Generator, library: SpectralLibrary, day: float
) -> tuple[Float32, Float32, ParcelMap, ParcelCover]:
    """Draw and render one landscape, blurred by the instrument."""
    parcels = draw_parcels(height, width, rng, block_px=rng.uniform(35, 80))
    winter = day < 100 or day > 320
    snow = rng.uniform(0, 0.3) if rng.random() < (0.3 if winter else 0.02) else 0.0
    cover = draw_cover(parcels.land_use, day, library, rng, snow_share=snow)
    reflectance, true_lai = render(parcels, cover, library, rng)
    return spread_points(reflectance, rng), blur(true_lai, 0.1), parcels, cover


def simulate_scene(
    height: int,
    width: int,
    rng: np.random.Generator,
    *,
    library: SpectralLibrary,
    date_of_year: float = 160.0,
    noise: NoiseModel | None = None,
    cloud_cover: float = 0.0,
) -> SimulatedScene:
    """Simulate one acquisition of height x width pixels of 20 m.

    `date_of_year` is 1-366, of the northern temperate zone; `noise` None: the default model;
    `cloud_cover` the share of the scene under cloud, 0-1.
    """
    clean, true_lai, parcels, cover = _landscape(height, width, rng, library, date_of_year)
    clean = add_haze_and_gain(clean[None], rng)[0]
    observed = clean
    surface = library.surface_class[cover.first][parcels.parcel]
    classes = classify_land(true_lai)
    classes[surface == SurfaceClass.WATER] = SceneClass.WATER
    classes[surface == SurfaceClass.SNOW] = SceneClass.SNOW
    if cloud_cover > 0:
        observed, opacity, depth = add_clouds(clean, rng, cover=cloud_cover)
        classes = classify_clouds(classes, opacity, depth)
    observed = add_noise(observed, rng, noise or NoiseModel())
    return SimulatedScene(
        boa_reflectance=clean,
        observed_reflectance=observed,
        true_lai=true_lai,
        scene_classification=classes,
        parcel_id=parcels.parcel.astype(np.int32),
    )


def simulate_patches(
    n: int,
    size: int,
    rng: np.random.Generator,
    library: SpectralLibrary,
    *,
    patches_per_scene: int = 16,
) -> Float32:
    """Simulate `n` noise-free patches for training, (n, 10, size, size).

    Landscapes of several patches are drawn on random days between March and November and cut up;
    each patch has its own haze, band gains and angles. Thin cloud and deep shadow that a cloud mask
    would miss, over `VEILED_SHARE` of the landscapes, count as part of the noise-free spectrum:
    they are labelled by SL2P like all others. `patches_per_scene` (a square number): more is
    faster, fewer is more varied.
    """
    side = max(int(np.sqrt(min(patches_per_scene, n))), 1)
    per_scene = side * side
    clean = np.empty((n, 10, size, size), np.float32)
    for start in range(0, n, per_scene):
        count = min(per_scene, n - start)
        day = rng.triangular(30, 175, 345)
        image = _landscape(side * size, side * size, rng, library, day)[0]
        if rng.random() < VEILED_SHARE:
            image, _, _ = add_clouds(
                image,
                rng,
                cover=rng.uniform(0.1, 0.6),
                thickest=rng.uniform(0.02, 0.35),
                shadow_depth=rng.uniform(0.2, 0.9),
            )
        tiles = image.reshape(10, side, size, side, size).transpose(1, 3, 0, 2, 4)
        clean[start : start + count] = tiles.reshape(per_scene, 10, size, size)[:count]
    return add_haze_and_gain(clean, rng)
