"""Do simulated landscapes look like land? Numbers beside those of real scenes and real pixels.

In: a folder of real scenes (multiband GeoTIFFs that `lai_udf.scenes.read` reads), a table of real
pixels if there is one, and simulated patches. Out: `LandStatistics` of each, and the files that
`experiments.realism.report` makes of them.

Compared over clear vegetated pixels: band means and spread, correlations between bands, and
spatial gradients (the standard deviation within 3x3 pixels: texture by its median, edges by its
95th percentile).
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from lai_training.errors import LaiTrainingError
from lai_training.simulation.landscapes import simulate_patches
from lai_training.simulation.spectral_library import SpectralLibrary
from lai_udf.errors import LaiUdfError
from lai_udf.predict import BANDS
from lai_udf.scenes.read import read_scene

Float32 = NDArray[np.float32]
Array = NDArray[np.float64]

SIMULATED, SCENES, PIXELS = "simulated", "real scenes", "real pixels"
SMALLEST_VEGETATED_SHARE = 0.3
LARGEST_SIDE_PX = 1200
SAMPLE = 5000

logger = logging.getLogger("lai_training")


class RealismError(LaiTrainingError, ValueError):
    """No real scene with enough clear vegetation to compare with."""


@dataclass(frozen=True)
class LandStatistics:
    """What a set of images looks like; arrays of shape (10,) in the order of `BANDS`."""

    pixels: int
    """Clear vegetated pixels."""
    mean: Array
    """Mean reflectance."""
    sd: Array
    """Standard deviation of reflectance."""
    correlation: Array
    """Correlation between bands, shape (10, 10); NaN for a band that does not vary."""
    sample: Float32
    """Some of the pixels, shape (up to `SAMPLE`, 10)."""
    texture: Array | None = None
    """Median standard deviation within 3x3 pixels; None of pixels without neighbours."""
    edges: Array | None = None
    """95th percentile of it."""


def vegetated(image: Float32) -> NDArray[np.bool_]:
    """Find clear vegetated pixels: 0 < bands < 0.8, B02 < 0.2, NDVI > 0.3.

    Args:
        image: reflectance, shape (10, y, x); NaN = no data.

    Returns:
        Mask, shape (y, x).
    """
    red, nir, blue = (image[BANDS.index(band)] for band in ("B04", "B08", "B02"))
    total = nir + red
    green = (nir - red) > 0.3 * total
    valid: NDArray[np.bool_] = np.all((image > 0) & (image < 0.8), axis=0) & (blue < 0.2) & green
    return valid


def land_statistics(images: Iterable[Float32], rng: np.random.Generator) -> LandStatistics:
    """Describe the vegetated pixels of some images.

    Args:
        images: reflectance, each of shape (10, y, x), NaN = no data; images with less than 30 %
            clear vegetation are left out.
        rng: chooses the sample.

    Returns:
        Their statistics.

    Raises:
        RealismError: no image has enough vegetation.
    """
    spectra, deviations = [], []
    for image in images:
        clear = vegetated(image)
        inside = clear[1:-1, 1:-1]
        if clear.mean() < SMALLEST_VEGETATED_SHARE or not inside.any():
            continue
        spectra.append(image[:, clear])
        within = sliding_window_view(image, (3, 3), axis=(1, 2)).std(axis=(-1, -2))
        deviations.append(within[:, inside])
    if not spectra:
        raise RealismError(
            "no scene has 30 % clear vegetation (NDVI > 0.3): give vegetated scenes, and check "
            "their scale and offset"
        )
    deviation = np.concatenate(deviations, axis=1)
    return replace(
        spectra_statistics(np.concatenate(spectra, axis=1), rng),
        texture=np.nanmedian(deviation, axis=1),
        edges=np.nanpercentile(deviation, 95, axis=1),
    )


def spectra_statistics(spectra: Float32, rng: np.random.Generator) -> LandStatistics:
    """Describe spectra that are known to be clear vegetation, shape (10, n), without gradients."""
    pixels = spectra.astype(np.float64)
    count = pixels.shape[1]
    with np.errstate(invalid="ignore", divide="ignore"):  # a band that does not vary: NaN
        correlation = np.asarray(np.corrcoef(pixels))
    return LandStatistics(
        pixels=count,
        mean=pixels.mean(axis=1),
        sd=pixels.std(axis=1),
        correlation=correlation,
        sample=pixels[:, rng.permutation(count)[:SAMPLE]].T.astype(np.float32),
    )


def read_real_images(folder: Path) -> list[Float32]:
    """Read the scenes of a folder; files that are no scenes are skipped with a warning.

    Args:
        folder: holds `.tif` files.

    Returns:
        Reflectance of each, shape (10, y, x), NaN = no data.

    Raises:
        RealismError: no file of the folder is a scene.
    """
    images = []
    for path in sorted(folder.glob("*.tif")):
        try:
            scene = read_scene(path)
        except LaiUdfError as error:
            logger.warning("%s is left out: %s", path.name, error)
            continue
        image = scene.sel(bands=list(BANDS)).values.astype(np.float32)
        images.append(image[:, :LARGEST_SIDE_PX, :LARGEST_SIDE_PX])
    if not images:
        raise RealismError(f"{folder} holds no scene: give a folder of multiband GeoTIFFs (.tif)")
    return images


def read_real_pixels(path: Path) -> Float32:
    """Read clear vegetated pixels of a table.

    Args:
        path: Parquet file with the ten bands, reflectance, and `clear`, bool or 0 and 1.

    Returns:
        Reflectance, shape (10, n).

    Raises:
        RealismError: the file cannot be read, lacks a column, or has no vegetation.
    """
    try:
        table = pd.read_parquet(path, columns=[*BANDS, "clear"])
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise RealismError(
            f"{path} cannot be read as pixels ({reason}): give a Parquet file with the columns "
            f"{', '.join(BANDS)} and clear"
        ) from error
    image = table.loc[table["clear"].astype(bool), list(BANDS)].to_numpy(np.float32).T[:, None]
    spectra = image[:, vegetated(image)]
    if not spectra.size:
        raise RealismError(f"{path} holds no clear vegetation (NDVI > 0.3)")
    return spectra


def compare_with_real(
    scenes: Path,
    library: SpectralLibrary,
    *,
    pixels: Path | None = None,
    patches: int = 96,
    seed: int = 0,
) -> dict[str, LandStatistics]:
    """Describe simulated patches, real scenes and, where there are any, real pixels.

    Args:
        scenes: folder of GeoTIFFs.
        library: spectra of the simulation.
        pixels: see `read_real_pixels`.
        patches: simulated patches of 64x64 pixels.
        seed: of the simulation.

    Returns:
        `SIMULATED`, `SCENES` and, if asked for, `PIXELS` -> statistics.

    Raises:
        RealismError: nothing to compare with.
    """
    rng = np.random.default_rng(seed)
    real = land_statistics(read_real_images(scenes), rng)
    simulated = land_statistics(simulate_patches(patches, 64, rng, library), rng)
    found = {SIMULATED: simulated, SCENES: real}
    if pixels is not None:
        found[PIXELS] = spectra_statistics(read_real_pixels(pixels), rng)
    return found
