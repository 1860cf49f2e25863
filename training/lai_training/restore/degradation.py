"""What happens to a scene on its way into a body: coarser bands, moved bands, measured noise."""

import numpy as np
from numpy.typing import NDArray

from lai_udf.predict import BANDS, COARSE_ROWS, split_blocks

Float32 = NDArray[np.float32]

RELATIVE_NOISE = np.array(
    [0.025, 0.02, 0.025, 0.014, 0.013, 0.013, 0.013, 0.013, 0.013, 0.018], dtype="float32"
)
"""Standard deviation per band, fraction of the reflectance: what pairs of dates of real series
show, 1.5-3.7 % in the visible and 0.7-2 % beyond."""
ABSOLUTE_NOISE = np.float32(0.0004)
SHIFT_TOGETHER_PX, SHIFT_APART_PX = 0.3, 0.08
"""Standard deviations: of a date against another (the median of real dates is 0.4 px), and of a
band against the others of its date."""
MIRRORED_PX = 8


def degrade(image: Float32) -> Float32:
    """Return (10, y, x) as a sensor of half the resolution would deliver it, on the same grid.

    Wald's protocol: the six 20 m bands become the mean of 2x2 pixels, repeated in their block; the
    four others stay.
    """
    degraded = image.copy()
    means = split_blocks(image[COARSE_ROWS], 2).mean(axis=0)
    degraded[COARSE_ROWS] = means.repeat(2, axis=-1).repeat(2, axis=-2)
    return degraded


def correlate_noise() -> Float32:
    """Return (10, 10): what makes independent noise correlated between bands, as it is measured.

    Visible 0.6 among themselves (0.3-0.75 in the smoothest pixels), red edge and near infrared
    0.55, B07 and B8A 0.75, B11 and B12 0.65, visible and short-wave infrared 0.3.
    """
    correlation = np.eye(len(BANDS))

    def relate(first: list[str], second: list[str], value: float) -> None:
        for one in map(BANDS.index, first):
            for other in map(BANDS.index, second):
                if one != other:
                    correlation[one, other] = correlation[other, one] = value

    visible, edge, short_wave = ["B02", "B03", "B04"], ["B05"], ["B11", "B12"]
    infrared = ["B06", "B07", "B08", "B8A"]
    relate(visible + edge, visible + edge, 0.6)
    relate(infrared, infrared, 0.55)
    relate(["B07"], ["B8A"], 0.75)
    relate(short_wave, short_wave, 0.65)
    relate(visible + edge, short_wave, 0.3)
    values, vectors = np.linalg.eigh(correlation)
    factor: Float32 = (vectors * np.sqrt(np.maximum(values, 1e-3))).astype("float32")
    return factor


_FACTOR = correlate_noise()


def add_measured_noise(image: Float32, level: float, rng: np.random.Generator) -> Float32:
    """Add noise of the measured size and band correlation to (10, y, x); 1 = as measured."""
    independent = rng.standard_normal(image.shape, dtype="float32")
    correlated = np.tensordot(_FACTOR, independent, (1, 0))
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
