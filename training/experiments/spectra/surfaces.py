"""Spectra of single land surfaces as ladders of LAI or brightness.

In: a class of surface, a number and a generator. Out: reflectance (surface, level, 10) and true
LAI (surface, level). Vegetation comes from PROSAIL with the laws of SL2P, widened; crowns of
forests cast shadow; water, built-up ground and snow are simple curves.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from experiments.spectra.band_tables import BANDS, Sensor
from experiments.spectra.prosail import (
    CanopyParameters,
    Law,
    draw_canopy_parameters,
    simulate_reflectance,
)
from lai_training.simulation.spectral_library import LAI_LEVELS, SurfaceClass

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Geometry:
    """Sun and view angles of n surfaces, each of shape (n,), degrees."""

    sun_zenith_deg: Array
    view_zenith_deg: Array
    relative_azimuth_deg: Array


def draw_geometry(n: int, rng: np.random.Generator) -> Geometry:
    """Draw Sentinel-2 geometries: sun 15-70, view 0-12, relative azimuth 0-180 degrees."""
    return Geometry(rng.uniform(15, 70, n), rng.uniform(0, 12, n), rng.uniform(0, 180, n))


def _draw_soils(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Draw mixtures of two of the seven soils (n, 7) and water films (n,), cm."""
    shares = np.zeros((n, 7))
    first = rng.uniform(0, 1, n)
    rows = np.arange(n)
    np.add.at(shares, (rows, rng.integers(0, 7, n)), first)
    np.add.at(shares, (rows, rng.integers(0, 7, n)), 1 - first)
    film = np.where(rng.random(n) < 0.35, rng.exponential(0.006, n), 0.0)
    return shares, np.minimum(film, 0.04)


def _ladder(parameters: CanopyParameters) -> CanopyParameters:
    """Repeat each canopy at every LAI level: n canopies become n x levels."""
    levels = len(LAI_LEVELS)
    repeated = parameters.take(np.repeat(np.arange(len(parameters.lai)), levels))
    return replace(repeated, lai=np.tile(LAI_LEVELS, len(parameters.lai)))


def vegetation_spectra(
    surface_class: SurfaceClass,
    n: int,
    rng: np.random.Generator,
    geometry: Geometry,
    law: Law,
    sensor: Sensor,
) -> tuple[Array, Array]:
    """Spectra (n, level, 10) and true LAI (n, level) of one vegetation class."""
    canopy = draw_canopy_parameters(n, rng, law)
    green_share = np.ones(n)
    if surface_class == SurfaceClass.SENESCENT:
        chlorophyll = rng.uniform(0, 15, n)
        canopy = replace(
            canopy,
            chlorophyll=chlorophyll,
            brown_pigment=rng.uniform(0.3, 2.0, n),
            relative_water=rng.uniform(0.05, 0.6, n),
            dry_matter=rng.uniform(0.003, 0.012, n),
        )
        green_share = np.clip(chlorophyll / 30, 0, 1)
    else:
        canopy = _widen(canopy, rng)
    if surface_class in (SurfaceClass.BROADLEAF, SurfaceClass.CONIFER):
        canopy = replace(canopy, soil_brightness=rng.uniform(0.3, 1.8, n))  # litter and moss
    soil, film = _draw_soils(n, rng)
    levels = len(LAI_LEVELS)

    def each(values: Array) -> Array:
        return np.repeat(values, levels, axis=0)

    spectra = simulate_reflectance(
        _ladder(canopy),
        each(geometry.sun_zenith_deg),
        each(geometry.view_zenith_deg),
        each(geometry.relative_azimuth_deg),
        each(soil),
        sensor,
        each(film),
    ).reshape(n, levels, len(BANDS))
    lit = 1 - _crown_shadow(surface_class, n, rng)[:, None, :]
    return spectra * lit, green_share[:, None] * LAI_LEVELS


def _widen(canopy: CanopyParameters, rng: np.random.Generator) -> CanopyParameters:
    """Give half of the canopies paler leaves and brighter soil than the laws of SL2P give.

    Real 20 m pixels of equal SL2P LAI are brighter in the red and at the red edge than the laws.
    """
    n = len(canopy.lai)
    paler = rng.random(n) < 0.5
    return replace(
        canopy,
        chlorophyll=np.where(paler, rng.uniform(10, 50, n), canopy.chlorophyll),
        brown_pigment=np.where(paler, rng.uniform(0, 0.6, n), canopy.brown_pigment),
        soil_brightness=np.where(
            rng.random(n) < 0.5, rng.uniform(0.8, 3.5, n), canopy.soil_brightness
        ),
    )


def _crown_shadow(surface_class: SurfaceClass, n: int, rng: np.random.Generator) -> Array:
    """Light lost to shadow between crowns, shape (n, 10): less in the blue, which the sky fills."""
    deepest = {SurfaceClass.BROADLEAF: (0.0, 0.35), SurfaceClass.CONIFER: (0.25, 0.65)}
    low, high = deepest.get(surface_class, (0.0, 0.0))
    fill = np.array([0.72, 0.82, 0.88, 0.92, 0.95, 0.96, 0.97, 0.97, 1.0, 1.0])
    shadow: Array = rng.uniform(low, high, (n, 1)) * fill
    return shadow


def bare_spectra(n: int, rng: np.random.Generator, geometry: Geometry, sensor: Sensor) -> Array:
    """Bare soils of growing brightness, shape (n, level, 10)."""
    soil, film = _draw_soils(n, rng)
    levels = len(LAI_LEVELS)
    brightness = np.linspace(0.7, 1.3, levels) * rng.uniform(0.7, 2.8, (n, 1))
    rows = np.repeat(np.arange(n), levels)
    canopy = draw_canopy_parameters(n, rng).take(rows)
    canopy = replace(canopy, lai=np.zeros(n * levels), soil_brightness=brightness.ravel())
    spectra = simulate_reflectance(
        canopy,
        geometry.sun_zenith_deg[rows],
        geometry.view_zenith_deg[rows],
        geometry.relative_azimuth_deg[rows],
        soil[rows],
        sensor,
        film[rows],
    )
    return spectra.astype(np.float64).reshape(n, levels, len(BANDS))


_BUILT = np.array(
    [
        [0.09, 0.10, 0.11, 0.115, 0.12, 0.125, 0.13, 0.13, 0.15, 0.14],  # asphalt
        [0.18, 0.20, 0.22, 0.23, 0.24, 0.25, 0.255, 0.26, 0.29, 0.27],  # concrete
        [0.06, 0.09, 0.16, 0.19, 0.21, 0.23, 0.25, 0.26, 0.32, 0.30],  # clay tiles
        [0.25, 0.27, 0.28, 0.28, 0.28, 0.29, 0.29, 0.29, 0.28, 0.25],  # bright roofs
    ]
)
"""Typical reflectance of built-up surfaces, our own round numbers."""
_WATER_CLEAR = np.array([0.030, 0.022, 0.010, 0.007, 0.004, 0.004, 0.003, 0.003, 0.002, 0.001])
_WATER_TURBID = np.array([0.060, 0.095, 0.085, 0.075, 0.040, 0.042, 0.035, 0.030, 0.004, 0.003])
_SNOW = np.array([0.90, 0.91, 0.91, 0.90, 0.88, 0.87, 0.85, 0.83, 0.12, 0.10])


def leafless_spectra(surface_class: SurfaceClass, n: int, rng: np.random.Generator) -> Array:
    """Built-up ground, water or snow of growing brightness (water: turbidity), (n, level, 10)."""
    level = np.linspace(0, 1, len(LAI_LEVELS))[:, None]
    if surface_class == SurfaceClass.WATER:
        turbid = rng.beta(0.7, 1.5, (n, 1, 1))
        share = np.clip(turbid + 0.3 * (level - 0.5), 0, 1)
        water: Array = (1 - share) * _WATER_CLEAR + share * _WATER_TURBID
        return water * rng.uniform(0.5, 1.5, (n, 1, 1))
    if surface_class == SurfaceClass.SNOW:
        snow: Array = _SNOW * rng.uniform(0.5, 1.0, (n, 1, 1)) * (0.7 + 0.35 * level)
        return snow
    mix = rng.dirichlet(np.full(len(_BUILT), 0.6), n) @ _BUILT
    built: Array = mix[:, None, :] * (0.6 + 0.8 * level)
    return built


def deviate(spectra: Array, rng: np.random.Generator, spread: float) -> Array:
    """Make each surface deviate from its model: all bands together, and each band by itself.

    All bands together most of all: clumps of leaves and rows cast shadow, slopes face the sun.
    """
    n = len(spectra)
    common = rng.normal(0, 2.5 * spread, (n, 1, 1))
    own = rng.normal(0, spread, (n, 1, len(BANDS)))
    shift = rng.normal(0, 0.1 * spread, (n, 1, len(BANDS)))
    result: Array = np.maximum(spectra * np.exp(common + own) + shift, 0.0005)
    return result
