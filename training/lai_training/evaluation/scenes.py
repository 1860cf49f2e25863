"""Scenes to evaluate on: simulated land whose truth is known, and real scenes of a folder.

Simulated scenes are held out: their landscapes come from seeds of their own and their spectra
from a library that no training pool uses (pools use seed 1, these scenes seed 0).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from lai_training.errors import EvaluationError
from lai_training.restore.scenes import is_clear_vegetation, leave_border, read_folder
from lai_training.simulation.angles import add_missing_angles
from lai_training.simulation.landscapes import simulate_scene
from lai_training.simulation.observation import NoiseModel
from lai_training.simulation.simulate import label_scene
from lai_training.simulation.spectral_library import SpectralLibrary
from lai_udf.predict import BANDS, HALO_PX

Float32 = NDArray[np.float32]
Mask = NDArray[np.bool_]

SIMULATED, REAL = "simulated", "real"
DAYS = ((4, 10), (6, 8), (7, 28), (9, 25), (5, 6), (5, 26), (7, 5), (8, 20), (10, 15), (3, 20))
"""Days (month, day) of the simulated scenes: spring to autumn, cycled through."""
NO_NOISE = NoiseModel(relative=0.0, absolute=0.0)


@dataclass(frozen=True, eq=False)
class Scene:
    """One image and what is known of it."""

    name: str
    kind: str
    """`SIMULATED` or `REAL`."""
    image: xr.DataArray
    """(bands, y, x): reflectance without added noise, and angles, degrees."""
    scored: Mask
    """(y, x): clear vegetation, 16 px from the border."""
    true_lai: Float32 | None = None
    """(y, x), m2 m-2, simulated scenes only."""
    seed: int = 0
    """Of the noise that is added to it."""


def find_clear_vegetation(image: xr.DataArray) -> Mask:
    """Return (y, x) bool: clear vegetation of (bands, y, x), `HALO_PX` from the border."""
    return leave_border(is_clear_vegetation(image.sel(bands=list(BANDS)).values), HALO_PX)


def simulate_held_out(
    count: int, size_px: int, library: SpectralLibrary, *, seed: int = 0
) -> list[Scene]:
    """Simulate noise-free, cloudless scenes of size_px x size_px pixels, each on a day of its own.

    `library` holds spectra that no training pool uses.
    """
    return [simulate_one(number, size_px, library, seed=seed)[0] for number in range(count)]


def simulate_one(
    number: int, size_px: int, library: SpectralLibrary, *, seed: int, cloud_cover: float = 0.0
) -> tuple[Scene, xr.DataArray]:
    """Simulate scene `number`; return it and the same land without its clouds.

    `cloud_cover` is the share under cloud and its shadow, 0-1; the image then shows the clouds, and
    SCL classifies them.
    """
    month, day = DAYS[number % len(DAYS)]
    date = datetime(2020, month, day, 10, 56, 21, tzinfo=UTC)
    rng = np.random.default_rng((seed, number, 20))
    view = (rng.uniform(1, 10), rng.choice([105.0, 285.0]))
    made = simulate_scene(
        size_px,
        size_px,
        rng,
        library=library,
        date_of_year=date.timetuple().tm_yday,
        noise=NO_NOISE,
        cloud_cover=cloud_cover,
    )
    image = label_scene(made, date, view, seed)
    cloudless = image.copy()
    cloudless.loc[{"bands": list(BANDS)}] = made.boa_reflectance
    scene = Scene(
        name=f"{date:%d %b} #{number + 1}",
        kind=SIMULATED,
        image=image,
        scored=find_clear_vegetation(cloudless),
        true_lai=made.true_lai,
        seed=seed * 1000 + number,
    )
    return scene, cloudless


def read_real(folder: Path) -> list[Scene]:
    """Read the scenes of a folder; those without angles get some (`add_missing_angles`).

    Raises:
        EvaluationError: none of them has clear vegetation.
    """
    scenes = [
        Scene(
            path.stem,
            REAL,
            add_missing_angles(image, number),
            find_clear_vegetation(image),
            seed=number,
        )
        for number, (path, image) in enumerate(read_folder(folder))
    ]
    if not any(scene.scored.any() for scene in scenes):
        raise EvaluationError(
            f"none of {len(scenes)} scenes has clear vegetation {HALO_PX} px from its border: give "
            "larger or greener scenes, and check their scale and offset"
        )
    return scenes


def largest(scenes: Sequence[Scene], count: int) -> list[Scene]:
    """Return the scenes with the most scored pixels, most first."""
    scored = [scene for scene in scenes if scene.scored.any()]
    return sorted(scored, key=lambda scene: -int(scene.scored.sum()))[:count]
