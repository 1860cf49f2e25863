"""Scores of networks on scenes: the numbers behind tables 4 to 6 and the scatter plots.

Scenes are simulated land whose truth is known, and real scenes of a folder. Simulated ones are held
out: their landscapes come from seeds of their own and their spectra from a library that no training
pool uses. Every scene is looked at in three cases; each has SL2P of the noise-free scene as
reference, at the angles of the case. `SL2P` as an estimate is SL2P of what the network was given
too: the reference itself without noise, and what the noise does to a pixel-wise method with it.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from lai_training.errors import EvaluationError
from lai_training.evaluation.networks import SL2P, Network, predict_sl2p
from lai_training.metrics import half_width_of_mean, score
from lai_training.restore.degradation import add_measured_noise
from lai_training.restore.scenes import is_clear_vegetation, leave_border, read_folder
from lai_training.simulation.angles import add_missing_angles
from lai_training.simulation.landscapes import simulate_scene
from lai_training.simulation.observation import NoiseModel
from lai_training.simulation.simulate import label_scene
from lai_training.simulation.spectral_library import SpectralLibrary
from lai_udf.predict import BANDS, HALO_PX, LaiInputError

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
    return [simulate_one(number, size_px, library, seed=seed) for number in range(count)]


def simulate_one(
    number: int, size_px: int, library: SpectralLibrary, *, seed: int, cloud_cover: float = 0.0
) -> Scene:
    """Simulate scene `number`; `cloud_cover` is the share under cloud and its shadow, 0-1."""
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
    return Scene(
        name=f"{date:%d %b} #{number + 1}",
        kind=SIMULATED,
        image=image,
        scored=find_clear_vegetation(image),
        true_lai=made.true_lai,
        seed=seed * 1000 + number,
    )


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


logger = logging.getLogger("lai_training")

Array = NDArray[np.float32]

SAMPLES = 30
"""Monte-Carlo draws, as in the paper."""


@dataclass(frozen=True)
class Case:
    """What is given to networks and SL2P."""

    key: str
    title: str
    angles: bool
    """Angle bands are given."""
    noise: float = 0.0
    """Level of band noise, 1 = as measured on real dates."""


CLEAN = Case("clean", "angles given", angles=True)
NOMINAL = Case("nominal", "angles not given", angles=False)
NOISY = Case("noisy", "band noise as measured on real dates, angles given", angles=True, noise=1.0)
CASES = (CLEAN, NOMINAL, NOISY)


@dataclass(frozen=True, eq=False)
class Pixels:
    """Scored pixels of one scene in one case, flat arrays of one length."""

    scene: Scene
    case: Case
    reference: Array
    """SL2P of the noise-free scene, m2 m-2."""
    estimates: dict[str, Array]
    """Network name, or `SL2P`, -> LAI, m2 m-2."""
    seconds: dict[str, float]
    """Processor time of one pass over the whole image, which other work does not lengthen."""


def add_band_noise(image: xr.DataArray, level: float, seed: int) -> xr.DataArray:
    """Add noise to the bands of (bands, y, x): 1 = as measured, see `restore.degradation`."""
    noisy = image.copy()
    values = image.sel(bands=list(BANDS)).values.astype("float32")
    rng = np.random.default_rng(seed)
    noisy.loc[{"bands": list(BANDS)}] = add_measured_noise(values, level, rng)
    return noisy


def run_case(scene: Scene, case: Case, networks: Sequence[Network]) -> Pixels:
    """Run all networks and SL2P over a scene."""
    clean = scene.image
    if not case.angles:
        clean = clean.sel(bands=clean["bands"].isin([*BANDS, "SCL"]))
    image = add_band_noise(clean, case.noise, scene.seed) if case.noise else clean
    estimates: dict[str, Array] = {}
    seconds: dict[str, float] = {}
    for network in networks:
        network.warm_up()
        start = time.process_time()
        lai = network.predict(image)["LAI"]
        seconds[network.name] = time.process_time() - start
        estimates[network.name] = lai[scene.scored]
    start = time.process_time()
    lai = predict_sl2p(image)
    seconds[SL2P], estimates[SL2P] = time.process_time() - start, lai[scene.scored]
    return Pixels(scene, case, predict_sl2p(clean)[scene.scored], estimates, seconds)


def run_cases(
    scenes: Sequence[Scene],
    networks: Sequence[Network],
    *,
    cases: Sequence[Case] = CASES,
    progress: Callable[[int, int], None] | None = None,
) -> list[Pixels]:
    """Run every case of every scene with scored pixels; `progress` gets (scenes done, all).

    A scene whose values are no surface reflectance is skipped with a warning.
    """
    pixels = []
    for number, scene in enumerate(scenes, start=1):
        try:
            if scene.scored.any():
                pixels += [run_case(scene, case, networks) for case in cases]
        except LaiInputError as error:
            logger.warning("%s skipped: %s", scene.name, error)
        if progress:
            progress(number, len(scenes))
    return pixels


def tabulate_scores(results: Sequence[Pixels]) -> pd.DataFrame:
    """Score every network against SL2P per kind of scene and case, all pixels and per image.

    Returns:
        Columns kind, case, image (`all` or a name), network, the fields of `metrics.Scores`,
        seconds and pixels_timed of the pass.
    """
    rows = []
    groups: dict[tuple[str, str, str], list[Pixels]] = {}
    for result in results:
        for image in ("all", result.scene.name):
            key = (result.scene.kind, result.case.key, image)
            groups.setdefault(key, []).append(result)
    for (kind, case, image), members in groups.items():
        reference = np.concatenate([member.reference for member in members])
        for name in members[0].estimates:
            estimate = np.concatenate([member.estimates[name] for member in members])
            row: dict[str, Any] = {"kind": kind, "case": case, "image": image, "network": name}
            row |= asdict(score(reference, estimate))
            row["seconds"] = sum(member.seconds[name] for member in members)
            row["pixels_timed"] = sum(member.scene.scored.size for member in members)
            rows.append(row)
    return pd.DataFrame(rows)


def tabulate_spread(scenes: Sequence[Scene], networks: Sequence[Network]) -> pd.DataFrame:
    """Measure the Monte-Carlo spread of each network on each scene.

    Returns:
        Columns kind, image, network, n, sd (mean over the pixels of the standard deviation of 30
        draws), ci (mean half width of the 95 % interval of their mean, t = 2.045), one_pass_sd
        (mean of what the network itself states in one pass; NaN where it cannot),
        one_pass_correlation (r with that of the draws), seconds_draws.
    """
    rows = []
    for scene in scenes:
        for network in networks:
            start = time.process_time()
            drawn = network.predict(scene.image, ("LAI_SD",), samples=SAMPLES)["LAI_SD"]
            seconds = time.process_time() - start
            drawn = drawn[scene.scored]
            stated = network.predict(scene.image, ("LAI_SD",))["LAI_SD"][scene.scored]
            rows.append(
                {
                    "kind": scene.kind,
                    "image": scene.name,
                    "network": network.name,
                    "n": drawn.size,
                    "sd": float(drawn.mean()),
                    "seconds_draws": seconds,
                    "ci": float(half_width_of_mean(drawn, SAMPLES).mean()),
                    "one_pass_sd": float(stated.mean()),
                    "one_pass_correlation": score(drawn, stated).correlation,
                }
            )
    return pd.DataFrame(rows)
