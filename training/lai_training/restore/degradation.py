"""What happens to a scene on its way into a body: haze, coarser bands, moved bands, noise."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from lai_udf.predict import COARSE_ROWS, split_blocks

Float32 = NDArray[np.float32]

RELATIVE_NOISE = np.array(
    [0.025, 0.02, 0.025, 0.014, 0.013, 0.013, 0.013, 0.013, 0.013, 0.018], dtype="float32"
)
"""Standard deviation per band, fraction of the reflectance: what pairs of dates of real series
show, 1.5-3.7 % in the visible and 0.7-2 % beyond."""
ABSOLUTE_NOISE = np.float32(0.0004)
CORRELATION = np.array(
    [
        [1, 0.6, 0.6, 0.6, 0, 0, 0, 0, 0.3, 0.3],
        [0.6, 1, 0.6, 0.6, 0, 0, 0, 0, 0.3, 0.3],
        [0.6, 0.6, 1, 0.6, 0, 0, 0, 0, 0.3, 0.3],
        [0.6, 0.6, 0.6, 1, 0, 0, 0, 0, 0.3, 0.3],
        [0, 0, 0, 0, 1, 0.55, 0.55, 0.55, 0, 0],
        [0, 0, 0, 0, 0.55, 1, 0.55, 0.75, 0, 0],
        [0, 0, 0, 0, 0.55, 0.55, 1, 0.55, 0, 0],
        [0, 0, 0, 0, 0.55, 0.75, 0.55, 1, 0, 0],
        [0.3, 0.3, 0.3, 0.3, 0, 0, 0, 0, 1, 0.65],
        [0.3, 0.3, 0.3, 0.3, 0, 0, 0, 0, 0.65, 1],
    ]
)
"""Of the noise between bands; in the smoothest pixels the visible ones have 0.3 to 0.75."""
SHIFT_TOGETHER_PX, SHIFT_APART_PX = 0.3, 0.08
"""Standard deviations: of a date against another (the median of real dates is 0.4 px), and of a
band against the others of its date."""
MIRRORED_PX = 8
WAVELENGTHS_UM = np.array(
    [0.492, 0.56, 0.665, 0.704, 0.74, 0.783, 0.833, 0.865, 1.614, 2.202], dtype="float32"
)
GREEN_UM = np.float32(0.55)


def degrade(image: Float32) -> Float32:
    """Return (10, y, x) as a sensor of half the resolution would deliver it, on the same grid.

    Wald's protocol: the six 20 m bands become the mean of 2x2 pixels, repeated in their block; the
    four others stay.
    """
    degraded = image.copy()
    means = split_blocks(image[COARSE_ROWS], 2).mean(axis=0)
    degraded[COARSE_ROWS] = means.repeat(2, axis=-1).repeat(2, axis=-2)
    return degraded


def add_measured_noise(image: Float32, level: float, rng: np.random.Generator) -> Float32:
    """Add noise of the measured size and band correlation to (10, y, x); 1 = as measured."""
    independent = rng.standard_normal(image.shape, dtype="float32")
    values, vectors = np.linalg.eigh(CORRELATION)
    factor = (vectors * np.sqrt(np.maximum(values, 1e-3))).astype("float32")
    correlated = np.tensordot(factor, independent, (1, 0))
    sd = level * (RELATIVE_NOISE[:, None, None] * image + ABSOLUTE_NOISE)
    noisy: Float32 = image + sd * correlated
    return noisy


def move(image: Float32, rng: np.random.Generator) -> Float32:
    """Shift (10, y, x) by fractions of a pixel: all bands together, and each a little more.

    By the phase of its Fourier transform, mirrored around its borders: interpolation would blur
    what it moves, and the body would learn to sharpen.
    """
    shifts = rng.normal(0, SHIFT_TOGETHER_PX, 2) + rng.normal(0, SHIFT_APART_PX, (len(image), 2))
    margin = [(0, 0), (MIRRORED_PX, MIRRORED_PX), (MIRRORED_PX, MIRRORED_PX)]
    mirrored = np.pad(image, margin, mode="reflect")
    rows, columns = (np.fft.fftfreq(px) for px in mirrored.shape[1:])
    phase = shifts[:, 0, None, None] * rows[:, None] + shifts[:, 1, None, None] * columns
    moved = np.fft.ifft2(np.fft.fft2(mirrored) * np.exp(-2j * np.pi * phase)).real
    inner = moved[:, MIRRORED_PX:-MIRRORED_PX, MIRRORED_PX:-MIRRORED_PX]
    return np.ascontiguousarray(inner, dtype="float32")


def cover(image: Float32, rng: np.random.Generator) -> Float32:
    """Lay haze, thin cirrus, the edge of a cloud or its shadow over (10, y, x).

    Haze: light scattered once by an aerosol whose optical depth falls with wavelength, and what
    it takes from the surface on the way down and up. Cirrus scatters all bands alike; ice absorbs
    in the short-wave infrared. The edge of a cloud covers part of a pixel, widened by the point
    spread. In a shadow the light of the sky, mostly blue, is left.
    """
    size = image.shape[1:]
    smooth = gaussian_filter(
        rng.standard_normal(size), rng.choice([1.5, 3, 6, 12, 25]), mode="wrap"
    )
    smooth = (smooth - smooth.mean()) / max(float(smooth.std()), 1e-9)
    amount = np.exp(rng.uniform(0, 1) * smooth).astype("float32")
    wavelength = (WAVELENGTHS_UM / GREEN_UM)[:, None, None]
    ice = np.ones_like(wavelength)
    ice[-2:, 0, 0] = rng.uniform(0.4, 0.9), rng.uniform(0.3, 0.8)
    kind = rng.choice(["haze", "cirrus", "cloud", "shadow"])
    if kind == "haze":
        depth = np.exp(rng.uniform(-4, -0.2)) * amount * wavelength ** -rng.uniform(0.8, 2.6)
        albedo, backward = rng.uniform(0.88, 0.98), rng.uniform(0.08, 0.2)
        path = albedo * backward * depth
        lost = depth * (1 - albedo * (1 - backward)) * rng.uniform(2.2, 3)  # down and up, slanting
        covered = path + np.exp(-lost) * image
    elif kind == "cirrus":
        path = np.exp(rng.uniform(-5.5, -1.9)) * amount * ice
        covered = path + np.exp(-rng.uniform(0.6, 1.6) * path) * image
    else:
        edge = 1 / (1 + np.exp(-rng.uniform(2, 12) * (smooth - rng.uniform(-1, 1.8))))
        share = (rng.uniform(0.2, 1) * gaussian_filter(edge, rng.uniform(0.4, 1.2))).astype(
            "float32"
        )
        if kind == "cloud":
            covered = (1 - share) * image + share * rng.uniform(0.3, 0.9) * ice
        else:
            sky = np.minimum(rng.uniform(0.15, 0.45) * wavelength ** -rng.uniform(1, 2.5), 0.95)
            covered = (1 - share * (1 - sky)) * image
    result: Float32 = covered.astype("float32")
    return result
