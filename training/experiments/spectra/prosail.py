"""Canopy spectra in Sentinel-2 bands: the parameter laws of SL2P, and PROSPECT-D with 4SAIL.

In: parameter laws or arrays of canopy parameters, geometry and soil. Out: band reflectance,
shape (n, 10), in the order of `lai_udf.predict.BANDS`.

Speed: the models are evaluated only at the 106 wavelengths that stand for the ten bands, for many
canopies at once: about 25,000 spectra per second and core, where a call of the PROSAIL package per
spectrum gives about 1,500; both agree to 2e-4 (see tests/training/experiments/test_prosail.py).
"""

from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from experiments.spectra.band_tables import Sensor, band_quadrature, soil_spectra
from experiments.spectra.prospect import leaf_optics, leaf_reflectance
from experiments.spectra.sail import canopy_reflectance

Array = NDArray[np.float64]
Law = Literal["ATBD_v2.1", "v3", "mixed"]

CAROTENOIDS_PER_CHLOROPHYLL = 0.25
LARGEST_LAI = 15.0
_CHUNK = 512  # spectra at a time: the work arrays stay in the processor's cache


@dataclass(frozen=True)
class TruncatedGaussian:
    """A law of one parameter: a Gaussian cut to a range that narrows with LAI."""

    low: float
    high: float
    mean: float
    sd: float
    low_at_largest_lai: float
    """Lower end of the range at LAI 15; the range changes linearly with LAI."""
    high_at_largest_lai: float

    def draw(self, rng: np.random.Generator, lai: Array) -> Array:
        """Draw one value per canopy of the given LAI, shape as `lai`."""
        lowest, highest = ndtr((np.array([self.low, self.high]) - self.mean) / self.sd)
        value = self.mean + self.sd * ndtri(rng.uniform(lowest, highest, lai.shape))
        share = (value - self.low) / (self.high - self.low)
        low = self.low + (self.low_at_largest_lai - self.low) * lai / LARGEST_LAI
        high = self.high + (self.high_at_largest_lai - self.high) * lai / LARGEST_LAI
        drawn: Array = low + share * (high - low)
        return drawn


_LAI_LAW = TruncatedGaussian(0, 15, 2, 3, 0, 15)
_ATBD_V2_1 = {
    "average_leaf_angle_deg": TruncatedGaussian(30, 80, 60, 30, 55, 65),
    "hot_spot": TruncatedGaussian(0.1, 0.5, 0.2, 0.5, 0.1, 0.5),
    "leaf_layers": TruncatedGaussian(1.2, 1.8, 1.5, 0.3, 1.3, 1.8),
    "chlorophyll": TruncatedGaussian(20, 90, 45, 30, 45, 90),
    "dry_matter": TruncatedGaussian(0.003, 0.011, 0.005, 0.005, 0.005, 0.011),
    "relative_water": TruncatedGaussian(0.6, 0.85, 0.75, 0.08, 0.7, 0.8),
    "brown_pigment": TruncatedGaussian(0, 2, 0, 0.3, 0, 0.2),
    "soil_brightness": TruncatedGaussian(0.5, 3.5, 1.2, 2, 0.5, 1.2),
}
_ATBD_V3 = _ATBD_V2_1 | {
    "chlorophyll": TruncatedGaussian(5.1, 97.21, 53.7, 16.58, 5.1, 97.21),
    "dry_matter": TruncatedGaussian(0.0015, 0.0356, 0.008, 0.006, 0.0015, 0.0356),
    "relative_water": TruncatedGaussian(0.489, 0.92, 0.72, 0.096, 0.489, 0.92),
}
PARAMETER_LAWS: dict[str, dict[str, TruncatedGaussian]] = {"ATBD_v2.1": _ATBD_V2_1, "v3": _ATBD_V3}
"""The SL2P input laws, as jbferet/prosail (R) cites them from the ATBD v2.1 and v3."""


@dataclass(frozen=True)
class CanopyParameters:
    """Inputs of the canopy model; every array has shape (n,)."""

    lai: Array
    """Leaf area index, m2 m-2."""
    average_leaf_angle_deg: Array
    hot_spot: Array
    """Leaf size over canopy height, unit 1."""
    leaf_layers: Array
    """PROSPECT's N, unit 1."""
    chlorophyll: Array
    """Chlorophyll a+b, ug cm-2; carotenoids are a quarter of it."""
    dry_matter: Array
    """g cm-2."""
    relative_water: Array
    """Water as a share of fresh leaf mass, unit 1."""
    brown_pigment: Array
    """Arbitrary unit, 0 in a green leaf."""
    soil_brightness: Array
    """Factor on the soil's reflectance."""

    @property
    def water_cm(self) -> Array:
        """Equivalent water thickness, cm."""
        return self.dry_matter / (1 - self.relative_water) - self.dry_matter

    def take(self, index: NDArray[np.intp] | slice) -> "CanopyParameters":
        """Return the canopies at the given positions."""
        return CanopyParameters(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


def draw_canopy_parameters(
    n: int, rng: np.random.Generator, law: Law = "ATBD_v2.1"
) -> CanopyParameters:
    """Draw canopies from the laws that SL2P was trained on.

    Args:
        n: how many.
        rng: source of randomness.
        law: `"ATBD_v2.1"`, `"v3"` (wider leaf chemistry), or `"mixed"`: either, evenly.

    Returns:
        n canopies.

    Raises:
        ValueError: unknown law.
    """
    if law == "mixed":
        first, second = (draw_canopy_parameters(n, rng, each) for each in ("ATBD_v2.1", "v3"))
        pick = rng.random(n) < 0.5
        return CanopyParameters(
            **{
                f.name: np.where(pick, getattr(first, f.name), getattr(second, f.name))
                for f in fields(CanopyParameters)
            }
        )
    if law not in PARAMETER_LAWS:
        raise ValueError(f"unknown law {law!r}: choose ATBD_v2.1, v3 or mixed")
    lai = _LAI_LAW.draw(rng, np.zeros(n))
    drawn = {name: each.draw(rng, lai) for name, each in PARAMETER_LAWS[law].items()}
    return CanopyParameters(lai=lai, **drawn)


def _soil_reflectance(
    soil: NDArray[np.intp] | Array, brightness: Array, film_cm: Array, wavelength_nm: Array
) -> Array:
    """Soil reflectance (n, wavelength) from indices (n,) or mixing shares (n, 7).

    A film of water dims the soil twice on the way of the light (Lekner & Dorf 1988, Bach & Mauser
    1994, without the change of refractive index): most of all in the shortwave infrared.
    """
    spectra = soil_spectra(wavelength_nm)
    mixed = spectra[soil] if soil.ndim == 1 else soil @ spectra
    film = np.exp(-2 * film_cm[:, None] * leaf_optics(wavelength_nm).water_absorption)
    result: Array = np.clip(brightness[:, None] * mixed * film, 0.001, 0.95)
    return result


def simulate_reflectance(
    parameters: CanopyParameters,
    sun_zenith_deg: Array,
    view_zenith_deg: Array,
    relative_azimuth_deg: Array,
    soil: NDArray[np.intp] | Array,
    sensor: Sensor = "S2A",
    water_film_cm: Array | None = None,
) -> NDArray[np.float32]:
    """Compute noise-free reflectance of canopies in the ten bands.

    Args:
        parameters: n canopies.
        sun_zenith_deg: shape (n,), degrees.
        view_zenith_deg: shape (n,), degrees.
        relative_azimuth_deg: sun minus view azimuth, shape (n,), degrees, 0-180.
        soil: one of the seven soils by index 0-6, integers of shape (n,); or their shares in a
            mixture, shape (n, 7).
        sensor: whose band responses.
        water_film_cm: water on the soil, shape (n,), cm, 0-0.05; none: dry soil.

    Returns:
        Bidirectional reflectance, unit 1, float32, shape (n, 10), in the order of `BANDS`.

    Raises:
        ValueError: unknown sensor.
    """
    bands = band_quadrature(sensor)
    optics = leaf_optics(bands.wavelength_nm)
    n = len(parameters.lai)
    film_cm = np.zeros(n) if water_film_cm is None else water_film_cm
    reflectance = np.empty((n, bands.weights.shape[1]), np.float32)
    for start in range(0, n, _CHUNK):
        here = slice(start, min(start + _CHUNK, n))
        p = parameters.take(here)
        chlorophyll = p.chlorophyll
        chemistry = np.stack(
            [
                chlorophyll,
                CAROTENOIDS_PER_CHLOROPHYLL * chlorophyll,
                p.brown_pigment,
                p.water_cm,
                p.dry_matter,
            ],
            axis=1,
        )
        leaf = leaf_reflectance(p.leaf_layers, chemistry, optics)
        ground = _soil_reflectance(
            soil[here], p.soil_brightness, film_cm[here], bands.wavelength_nm
        )
        angles = (
            p.average_leaf_angle_deg,
            sun_zenith_deg[here],
            view_zenith_deg[here],
            relative_azimuth_deg[here],
        )
        spectrum = canopy_reflectance(*leaf, ground, p.lai, p.hot_spot, angles)
        reflectance[here] = spectrum @ bands.weights
    return reflectance
