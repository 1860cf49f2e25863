"""The spectral libraries that ship: PROSAIL canopies, soils and leafless surfaces, as ladders.

Every surface deviates a little from its model, in all bands together and in each band: real spectra
do not lie on PROSAIL's surface either, and what learns from them must not rely on it.
"""

from pathlib import Path

import numpy as np

from experiments.spectra.band_tables import Sensor
from experiments.spectra.prosail import Law
from experiments.spectra.surfaces import (
    bare_spectra,
    deviate,
    draw_geometry,
    leafless_spectra,
    vegetation_spectra,
)
from lai_training.simulation.spectral_library import (
    GREEN,
    LAI_LEVELS,
    TABLES,
    SpectralLibrary,
    SurfaceClass,
)

RECIPES = {"scenes": (8_000, 1), "training": (40_000, 1)}
"""Number of spectra and seed of the libraries that ship."""

SHARE = {
    SurfaceClass.CROP: 0.40,
    SurfaceClass.GRASS: 0.12,
    SurfaceClass.BROADLEAF: 0.10,
    SurfaceClass.CONIFER: 0.10,
    SurfaceClass.SENESCENT: 0.08,
    SurfaceClass.BARE: 0.10,
    SurfaceClass.BUILT: 0.04,
    SurfaceClass.WATER: 0.04,
    SurfaceClass.SNOW: 0.02,
}
"""Share of each class among the surfaces of a library (not of a landscape)."""


def spectral_library(
    n: int,
    rng: np.random.Generator,
    *,
    law: Law = "mixed",
    sensor: Sensor = "S2A",
    spread: float = 0.04,
) -> SpectralLibrary:
    """Make about n spectra of land surfaces.

    Args:
        n: number of spectra; there are n / 11 surfaces (at least one of each class).
        rng: source of randomness.
        law: canopy parameter law.
        sensor: whose band responses.
        spread: relative standard deviation of surfaces around their model in each band; that of
            all bands together is 2.5 times as large.

    Returns:
        The library; the same generator state gives the same library.
    """
    surfaces = max(n // len(LAI_LEVELS), 1)
    spectra, lai, classes, angles = [], [], [], []
    for surface_class, share in SHARE.items():
        count = max(round(share * surfaces), 1)
        geometry = draw_geometry(count, rng)
        true_lai = np.zeros((count, len(LAI_LEVELS)))
        if surface_class in GREEN or surface_class == SurfaceClass.SENESCENT:
            made, true_lai = vegetation_spectra(surface_class, count, rng, geometry, law, sensor)
        elif surface_class == SurfaceClass.BARE:
            made = bare_spectra(count, rng, geometry, sensor)
        else:
            made = leafless_spectra(surface_class, count, rng)
        spectra.append(deviate(made, rng, spread))
        lai.append(true_lai)
        classes.append(np.full(count, surface_class, np.uint8))
        angles.append(
            np.stack(
                [
                    geometry.sun_zenith_deg,
                    geometry.view_zenith_deg,
                    geometry.relative_azimuth_deg,
                ],
                axis=1,
            )
        )
    return SpectralLibrary(
        reflectance=np.concatenate(spectra).astype(np.float32),
        lai=np.concatenate(lai).astype(np.float32),
        surface_class=np.concatenate(classes),
        angles_deg=np.concatenate(angles).astype(np.float32),
    )


def write_libraries(folder: Path = TABLES) -> None:
    """Make the libraries that ship and write them, `spectra_of_<name>.npz`."""
    for name, (n, seed) in RECIPES.items():
        library = spectral_library(n, np.random.default_rng(seed))
        np.savez_compressed(folder / f"spectra_of_{name}.npz", **vars(library))
