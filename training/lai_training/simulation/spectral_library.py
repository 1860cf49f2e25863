"""Spectra of land surfaces in ten bands, from which landscapes are rendered.

In: a number and a seed. Out: `SpectralLibrary`, the spectra of some thousand surfaces. Each surface
is a ladder: the same leaves, soil and geometry at growing LAI (for surfaces without leaves, at
growing brightness), so that a field whose LAI varies from pixel to pixel keeps one leaf chemistry
and stays physical.

The true LAI is the LAI of green leaves: it is 0 on bare, built-up, water and snow, and a dry canopy
counts by its share of chlorophyll.

Every surface deviates a little from its model, in all bands together and in each band: real spectra
do not lie on PROSAIL's surface either, and what learns from them must not rely on it.
"""

import logging
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lai_training.simulation.prosail import Law
from lai_training.simulation.spectral_tables import Sensor
from lai_training.simulation.surfaces import (
    GREEN,
    LAI_LEVELS,
    SurfaceClass,
    bare_spectra,
    deviate,
    draw_geometry,
    leafless_spectra,
    vegetation_spectra,
)
from lai_udf.atomic import disk_errors, move_finished, work_folder

Float32 = NDArray[np.float32]

logger = logging.getLogger("lai_training")

LIBRARY_VERSION = 3
"""Grows when the spectra change, so that an old cache is made anew."""

SHIPPED_FILE = Path(__file__).with_name("tables") / "spectra.npz"
SHIPPED_RECIPE = (8_000, 1)
"""Number of spectra and seed of the shipped library."""


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


@dataclass(frozen=True)
class SpectralLibrary:
    """Spectra of many surfaces, each a ladder of LAI or brightness."""

    reflectance: Float32
    """Shape (surface, level, 10), unit 1, noise-free, bands in the order of `BANDS`."""
    lai: Float32
    """True green LAI, shape (surface, level), m2 m-2."""
    surface_class: NDArray[np.uint8]
    """`SurfaceClass` of each surface, shape (surface,)."""
    angles_deg: Float32
    """Sun zenith, view zenith, relative azimuth of each surface, shape (surface, 3), degrees."""

    def of_class(self, surface_class: SurfaceClass) -> NDArray[np.intp]:
        """Positions of the surfaces of one class."""
        return np.flatnonzero(self.surface_class == surface_class)


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


def shipped_library() -> SpectralLibrary:
    """Return the library that comes with the package; needs no PROSAIL package.

    It is what `load_or_make_library(path, *SHIPPED_RECIPE)` makes: simulated by this project.
    """
    recipe = np.array([LIBRARY_VERSION, *SHIPPED_RECIPE])
    library = _read_cache(SHIPPED_FILE, recipe)
    if library is None:
        raise RuntimeError(f"{SHIPPED_FILE} is damaged or of another version: install anew")
    return library


def load_or_make_library(path: Path, n: int = 40_000, seed: int = 0) -> SpectralLibrary:
    """Read a library from a cache file, or make it and write the file.

    Args:
        path: `.npz` file; made anew where it is missing or was made with other arguments.
        n: number of spectra.
        seed: of the generator.

    Returns:
        The library of (n, seed) at its default settings.

    Raises:
        OutputNotWritableError: the file cannot be written.
    """
    recipe = np.array([LIBRARY_VERSION, n, seed])
    cached = _read_cache(path, recipe) if path.is_file() else None
    if cached is not None:
        return cached
    library = spectral_library(n, np.random.default_rng(seed))
    _write_cache(path, recipe, library)
    return library


def _read_cache(path: Path, recipe: NDArray[np.int_]) -> SpectralLibrary | None:
    """Read a stored library; None where it was made otherwise or the file is damaged."""
    try:
        with path.open("rb") as file, np.load(file) as stored:
            if not np.array_equal(stored["recipe"], recipe):
                return None
            return SpectralLibrary(
                **{name: stored[name] for name in SpectralLibrary.__dataclass_fields__}
            )
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError):
        logger.warning("%s is not a readable spectral library: it is made anew", path)
        return None


def _write_cache(path: Path, recipe: NDArray[np.int_], library: SpectralLibrary) -> None:
    """Write the whole file or nothing."""
    with work_folder(path.parent) as work, disk_errors(path.parent):
        finished = work / "library.npz"
        np.savez_compressed(finished, recipe=recipe, **vars(library))
        move_finished({finished: path})
