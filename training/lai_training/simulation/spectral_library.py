"""Spectra of land surfaces in ten bands, from which landscapes are rendered.

Each surface is a ladder: the same leaves, soil and geometry at growing LAI (for surfaces without
leaves, at growing brightness), so that a field whose LAI varies from pixel to pixel keeps one leaf
chemistry and stays physical. The true LAI is the LAI of green leaves: it is 0 on bare, built-up,
water and snow, and a dry canopy counts by its share of chlorophyll.

Two libraries ship, which share no spectrum: training pools are made of one, scenes of the other.
Both were simulated by this project (PROSPECT-D with 4SAIL, `training/experiments/spectra`).
"""

import enum
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

TABLES = Path(__file__).with_name("tables")

LAI_LEVELS = np.array([0.0, 0.2, 0.5, 0.9, 1.4, 2.0, 2.8, 3.8, 5.2, 7.0, 10.0])
"""LAI at the steps of a vegetation ladder, m2 m-2; between two steps spectra are linear."""


class SurfaceClass(enum.IntEnum):
    """What a surface is made of."""

    CROP = 0
    GRASS = 1
    BROADLEAF = 2
    CONIFER = 3
    SENESCENT = 4
    BARE = 5
    BUILT = 6
    WATER = 7
    SNOW = 8


GREEN = (SurfaceClass.CROP, SurfaceClass.GRASS, SurfaceClass.BROADLEAF, SurfaceClass.CONIFER)


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


@cache
def shipped_library(of: Literal["scenes", "training"] = "scenes") -> SpectralLibrary:
    """Return a library that comes with the package: 8,000 spectra of scenes, 40,000 of training."""
    with np.load(TABLES / f"spectra_of_{of}.npz") as stored:
        return SpectralLibrary(
            **{field.name: stored[field.name] for field in fields(SpectralLibrary)}
        )
