"""Leaf reflectance and transmittance: PROSPECT-D for many leaves at few wavelengths.

In: leaf chemistry, shape (n,), and the optical constants of leaf material at some wavelengths.
Out: hemispherical reflectance and transmittance, shape (n, wavelength).

The equations are those of Jacquemoud & Baret 1990 (RSE 34, 75-91) and Feret et al. 2017
(RSE 193, 204-215), written for whole arrays. The constants (refractive index, specific absorption)
are read from a data file of the installed package progeosail. That package is GPL-3.0: nothing of
it is copied or imported; the spectra made with it ship.
"""

from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import exp1

Array = NDArray[np.float64]

LEAF_SURFACE_ANGLE_DEG = 40.0
"""Largest angle of incidence on the rough leaf surface (Feret et al. 2017)."""


@dataclass(frozen=True)
class LeafOptics:
    """Optical constants of leaf material at some wavelengths, each of shape (wavelength,)."""

    refractive_index: Array
    """Unit 1."""
    absorption: Array
    """Shape (5, wavelength): chlorophyll a+b and carotenoids (cm2 per ug), brown pigment (1),
    water (1/cm), dry matter (cm2 per g)."""

    @property
    def water_absorption(self) -> Array:
        """Absorption of liquid water, 1/cm, shape (wavelength,)."""
        water: Array = self.absorption[3]
        return water


@cache
def _package_constants() -> tuple[Array, Array, Array]:
    """Read wavelengths (nm), refractive index and absorption of PROSPECT-D from progeosail's file.

    The package itself is not imported: its import compiles with numba, and needs a writable cache.
    """
    table = np.loadtxt(_package_folder() / "prospect_d_spectra.txt", comments="#", unpack=True)
    wavelength_nm, refractive_index, kab, kcar, _anthocyanins, kbrown, kw, km = table
    return wavelength_nm, refractive_index, np.stack([kab, kcar, kbrown, kw, km])


def _package_folder() -> Path:
    found = find_spec("progeosail")
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError("No module named 'progeosail'", name="progeosail")
    return Path(found.submodule_search_locations[0])


def leaf_optics(wavelength_nm: Array) -> LeafOptics:
    """Interpolate the optical constants of leaf material.

    Args:
        wavelength_nm: shape (wavelength,), nm, between 400 and 2500.

    Returns:
        The constants at these wavelengths.

    Raises:
        ValueError: a wavelength lies outside 400-2500 nm.
    """
    if wavelength_nm.min() < 400 or wavelength_nm.max() > 2500:
        raise ValueError("leaf optics are known from 400 to 2500 nm; choose wavelengths inside")
    grid, refractive_index, absorption = _package_constants()
    return LeafOptics(
        refractive_index=np.interp(wavelength_nm, grid, refractive_index),
        absorption=np.stack([np.interp(wavelength_nm, grid, k) for k in absorption]),
    )


def surface_transmittance(refractive_index: Array, largest_angle_deg: float) -> Array:
    """Average the Fresnel transmittance of a plane surface over a cone of isotropic light.

    Stern 1964 (Appl. Opt. 3, 111-113) gives a closed form; Gauss-Legendre quadrature of the Fresnel
    equations is shorter and agrees with it to 1e-9.

    Args:
        refractive_index: shape (wavelength,), above 1.
        largest_angle_deg: half opening of the cone, 90 for a hemisphere.

    Returns:
        Transmittance, shape (wavelength,).
    """
    nodes, weights = np.polynomial.legendre.leggauss(64)
    angle = np.radians(largest_angle_deg) * 0.5 * (nodes + 1)
    weights = weights * np.sin(2 * angle)
    n = refractive_index[:, None]
    cos_in = np.cos(angle)
    cos_out = np.sqrt(1 - (np.sin(angle) / n) ** 2)
    parallel = ((n * cos_in - cos_out) / (n * cos_in + cos_out)) ** 2
    perpendicular = ((cos_in - n * cos_out) / (cos_in + n * cos_out)) ** 2
    average: Array = (1 - 0.5 * (parallel + perpendicular)) @ weights / weights.sum()
    return average


def leaf_reflectance(structure: Array, chemistry: Array, optics: LeafOptics) -> tuple[Array, Array]:
    """Compute the reflectance and transmittance of leaves.

    Args:
        structure: number of leaf layers N, shape (n,), above 1.
        chemistry: shape (n, 5): chlorophyll and carotenoids (ug/cm2), brown pigment (1),
            water (cm), dry matter (g/cm2); dry matter above 0.
        optics: constants at the wanted wavelengths.

    Returns:
        (reflectance, transmittance), float64, shape (n, wavelength).

    Source: Jacquemoud & Baret 1990; Stokes 1862 for the pile of plates.
    """
    layers = structure[:, None]
    k = (chemistry @ optics.absorption) / layers
    inside = (1 - k) * np.exp(-k) + k * k * exp1(k)  # transmittance of one layer's material

    top = surface_transmittance(optics.refractive_index, LEAF_SURFACE_ANGLE_DEG)
    into = surface_transmittance(optics.refractive_index, 90.0)
    out_of = into / optics.refractive_index**2
    bounce = (1 - out_of) * inside
    through = inside * out_of / (1 - bounce * bounce)
    t_top, t = top * through, into * through
    r_top, r = 1 - top + bounce * t_top, 1 - into + bounce * t

    # Stokes: the N-1 layers below the first, N any real number
    d = np.sqrt((1 + r + t) * (1 + r - t) * (1 - r + t) * (1 - r - t))
    a = (1 + r * r - t * t + d) / (2 * r)
    b = ((1 - r * r + t * t + d) / (2 * t)) ** (layers - 1)
    denominator = a * a * b * b - 1
    r_below = a * (b * b - 1) / denominator
    t_below = b * (a * a - 1) / denominator

    joint = 1 - r_below * r
    return r_top + t_top * r_below * t / joint, t_top * t_below / joint
