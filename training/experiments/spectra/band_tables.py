"""Sentinel-2 band responses and soil spectra as small tables of our own.

In: a sensor name. Out: the few wavelengths and weights that stand for its ten bands, and soil
reflectance at any wavelength. Nothing outside this package is read.

`tables/band_responses.csv` holds, for each band, wavelengths and weights made by `quadrature_nodes`
from the responses of ESA COPE-GSEG-EOPG-TN-15-0007 v3.1 (S2A, S2B) and of its later issue (S2C):
the response-weighted mean of a spectrum is the weighted sum over a few wavelengths, exact to 1e-4.
`tables/soils.csv` holds the seven soils of the SL2P documents (Weiss & Baret, S2ToolBox Level 2
products ATBD v2) as means over 20 nm at 41 wavelengths.
"""

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lai_udf.predict import BANDS as BANDS  # the order of every spectrum of this package

Array = NDArray[np.float64]

Sensor = Literal["S2A", "S2B", "S2C"]
SENSORS: tuple[Sensor, ...] = get_args(Sensor)

NODES_PER_BAND = dict(zip(BANDS, (12, 6, 6, 8, 8, 8, 12, 6, 12, 28), strict=True))
"""How many wavelengths stand for each band; wide bands across absorption features need more."""


@dataclass(frozen=True)
class BandQuadrature:
    """Wavelengths at which to evaluate a spectrum, and the matrix that makes bands of it."""

    wavelength_nm: Array
    """Shape (node,)."""
    weights: Array
    """Shape (node, 10); each column sums to 1."""


def quadrature_nodes(wavelength_nm: Array, response: Array, count: int) -> tuple[Array, Array]:
    """Cut a band's response into pieces of equal weight, and take the centre of each.

    Args:
        wavelength_nm: equally spaced, shape (wavelength,), nm.
        response: relative response, shape (wavelength,); values up to 0.001 count as 0.
        count: number of pieces.

    Returns:
        (wavelengths in nm, weights that sum to 1), each of shape (count,).
    """
    inside = response > 0.001
    step = wavelength_nm[1] - wavelength_nm[0]
    fine = (np.arange(100) + 0.5) / 100 - 0.5
    wavelength = (wavelength_nm[inside][:, None] + step * fine).ravel()
    weight = np.repeat(response[inside], 100)
    share = np.cumsum(weight) / weight.sum()
    piece = np.minimum((share * count * (1 - 1e-12)).astype(int), count - 1)
    total = np.bincount(piece, weight, count)
    centre = np.bincount(piece, weight * wavelength, count) / total
    return centre, total / total.sum()


def _read_table(name: str) -> list[dict[str, str]]:
    text = (files("experiments.spectra") / "tables" / name).read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if not line.startswith("#")]
    return list(csv.DictReader(rows))


@cache
def band_quadrature(sensor: Sensor) -> BandQuadrature:
    """Return the wavelengths and weights of a sensor's ten bands.

    Raises:
        ValueError: the sensor is not one of `SENSORS`.
    """
    if sensor not in SENSORS:
        raise ValueError(f"unknown sensor {sensor!r}: choose one of {', '.join(SENSORS)}")
    rows = [row for row in _read_table("band_responses.csv") if row["sensor"] == sensor]
    weights = np.zeros((len(rows), len(BANDS)))
    for node, row in enumerate(rows):
        weights[node, BANDS.index(row["band"])] = float(row["weight"])
    return BandQuadrature(
        wavelength_nm=np.array([float(row["wavelength_nm"]) for row in rows]),
        weights=weights / weights.sum(axis=0),
    )


@cache
def _soil_table() -> tuple[Array, Array]:
    rows = _read_table("soils.csv")
    table = np.array([[float(value) for value in row.values()] for row in rows])
    return table[:, 0], table[:, 1:].T


def soil_spectra(wavelength_nm: Array) -> Array:
    """Return the reflectance of seven dry bare soils of brightness 1.

    Args:
        wavelength_nm: shape (wavelength,), nm.

    Returns:
        Lambertian reflectance, unit 1, shape (7, wavelength); linear between the table's points.

    Source: soils of the SL2P documents (ATBD v2), see the module.
    """
    grid, soils = _soil_table()
    return np.stack([np.interp(wavelength_nm, grid, soil) for soil in soils])
