"""From the ground to the sensor: point spread, haze, noise, clouds and their shadows.

Input: reflectance of a landscape, float32, shape (..., 10, y, x). Output: what a Level-2A product
shows. All functions are pure; randomness comes from the generator given.
"""

import enum
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lai_training.simulation.parcels import random_fields
from lai_udf.predict import BANDS

Float32 = NDArray[np.float32]

SHARP_BANDS = ("B02", "B03", "B04", "B08")
"""Bands measured at 10 m: their means over 20 m blur less than the 20 m bands."""


MISREGISTRATION_PX = 0.08
"""Standard deviation of the displacement between bands, pixels of 20 m (Sentinel-2 data quality
reports: below 0.3 px of 10 m between bands)."""
SHADOW_OFFSET_PX = (9, -7)
"""Where the shadow of a cloud falls, (y, x)."""


class SceneClass(enum.IntEnum):
    """Classes of the scene classification layer (SCL) that are simulated.

    Source: Sentinel-2 Level-2A product definition, scene classification.
    """

    CLOUD_SHADOW = 3
    VEGETATION = 4
    NOT_VEGETATED = 5
    WATER = 6
    CLOUD_MEDIUM = 8
    CLOUD_HIGH = 9
    THIN_CIRRUS = 10
    SNOW = 11


@dataclass(frozen=True)
class NoiseModel:
    """Noise of a reflectance, independent in each band and pixel."""

    relative: float = 0.02
    """Standard deviation as a share of the reflectance."""
    absolute: float = 0.004
    """Standard deviation added, unit of reflectance."""


def add_noise(reflectance: Float32, rng: np.random.Generator, model: NoiseModel) -> Float32:
    """Add noise; reflectance may fall below 0."""
    noise = rng.standard_normal(reflectance.shape, dtype=np.float32)
    second = rng.standard_normal(reflectance.shape, dtype=np.float32)
    noise *= np.float32(model.relative) * reflectance
    second *= np.float32(model.absolute)
    noise += second
    noise += reflectance
    return noise


def blur(image: Float32, side: float, shift: tuple[float, float] = (0.0, 0.0)) -> Float32:
    """Spread each pixel of (..., y, x) over its neighbours with a separable 3-tap kernel.

    `side` is the share that falls on each neighbour along an axis, 0-0.3; `shift` a displacement
    (y, x) in pixels, by which a band is misregistered. The edge is repeated.
    """
    for axis, offset in ((-2, shift[0]), (-1, shift[1])):
        before = np.float32(side + offset / 2)
        after = np.float32(side - offset / 2)
        moved = np.moveaxis(image, axis, -1)
        out = moved * np.float32(1 - 2 * side)
        out[..., 1:] += before * moved[..., :-1]
        out[..., :-1] += after * moved[..., 1:]
        out[..., 0] += before * moved[..., 0]
        out[..., -1] += after * moved[..., -1]
        image = np.moveaxis(out, -1, axis)
    return image


def spread_points(reflectance: Float32, rng: np.random.Generator) -> Float32:
    """Blur the bands of (10, y, x) as the instrument does, each displaced a little."""
    out = np.empty_like(reflectance)
    base = rng.uniform(0.04, 0.10)
    for position, band in enumerate(BANDS):
        side = base if band in SHARP_BANDS else base + 0.05
        offset = np.clip(rng.normal(0, MISREGISTRATION_PX, 2), -side, side)
        out[position] = blur(reflectance[position], side, (offset[0], offset[1]))
    return out


HAZE_SPECTRUM = np.array([1.0, 0.75, 0.5, 0.43, 0.36, 0.32, 0.28, 0.26, 0.08, 0.04], np.float32)
"""Path reflectance left by imperfect atmospheric correction, relative to B02 (about 1/wavelength^2,
between molecules and coarse aerosol)."""


def add_haze_and_gain(
    reflectance: Float32, rng: np.random.Generator, *, haze: float = 0.006, gain: float = 0.02
) -> Float32:
    """Leave what atmospheric correction and calibration leave in patches (n, 10, y, x).

    Each patch gets an offset, of standard deviation `haze` in B02 (reflectance), and a gain per
    band, of relative standard deviation `gain`.
    """
    n = len(reflectance)
    offset = rng.normal(0, haze, (n, 1)).astype(np.float32) * HAZE_SPECTRUM
    factor = np.exp(rng.normal(0, gain, (n, len(BANDS)))).astype(np.float32)
    disturbed = reflectance * factor[:, :, None, None]
    disturbed += offset[:, :, None, None]
    np.maximum(disturbed, np.float32(0.0005), out=disturbed)
    return disturbed


CLOUD_BRIGHTNESS = np.array(
    [0.62, 0.60, 0.60, 0.61, 0.63, 0.64, 0.64, 0.65, 0.45, 0.35], np.float32
)


def add_clouds(
    reflectance: Float32,
    rng: np.random.Generator,
    *,
    cover: float,
    thickest: float = 1.0,
    shadow_depth: float = 0.65,
) -> tuple[Float32, Float32, Float32]:
    """Lay clouds, some of them thin, and their shadows over (10, y, x).

    `cover` is the share of the scene under cloud, `thickest` the opacity where the cloud is
    thickest (low: a veil of haze), `shadow_depth` the share of light that it takes from its shadow,
    which falls `SHADOW_OFFSET_PX` away. Returns reflectance, opacity of clouds and depth of shadow,
    both 0-1, (y, x).
    """
    height, width = reflectance.shape[-2:]
    field = random_fields(1, height, width, rng, 12.0)[0]
    field += np.float32(0.25) * random_fields(1, height, width, rng, 2.5)[0]
    edge = np.float32(np.quantile(field, 1 - cover))
    thickness = np.clip((field - edge) / np.float32(0.5), 0, 1)
    opacity = thickness * np.float32(thickest)
    depth = np.roll(thickness, SHADOW_OFFSET_PX, (0, 1)) * (1 - opacity)
    lit = reflectance * (1 - np.float32(shadow_depth) * depth)
    bright = CLOUD_BRIGHTNESS[:, None, None] * (1 + np.float32(0.05) * field)
    return (lit * (1 - opacity) + bright * opacity).astype(np.float32), opacity, depth


def classify_land(true_lai: Float32) -> NDArray[np.uint8]:
    """Return the SCL of land, any shape: vegetation above a LAI of 0.5, else not vegetated."""
    vegetated = true_lai > 0.5
    return np.where(vegetated, SceneClass.VEGETATION, SceneClass.NOT_VEGETATED).astype(np.uint8)


def classify_clouds(
    classes: NDArray[np.uint8], opacity: Float32, depth: Float32
) -> NDArray[np.uint8]:
    """Write clouds and their shadows, as `add_clouds` returns them, over the SCL of the land."""
    seen = classes.copy()
    seen[depth > 0.3] = SceneClass.CLOUD_SHADOW
    seen[opacity > 0.02] = SceneClass.THIN_CIRRUS
    seen[opacity > 0.3] = SceneClass.CLOUD_MEDIUM
    seen[opacity > 0.7] = SceneClass.CLOUD_HIGH
    return seen
