"""Evaluate networks: the paper's tables and figures, and the questions that it left open.

In: opened networks, a spectral library, and real scenes where there are some. Out: an
`Evaluation`; `evaluation.report.write_report` makes files of it. Everything random is seeded.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from lai_training.evaluation.activations import Stage, read_stages
from lai_training.evaluation.networks import Network
from lai_training.evaluation.robustness import (
    NOISE_LEVELS,
    OFFSETS,
    WITHHELD,
    approach_clouds,
    shift_offset,
    vary_noise,
    withhold_angles,
)
from lai_training.evaluation.scenes import SIMULATED, Scene, largest, simulate_held_out
from lai_training.evaluation.scores import (
    Pixels,
    run_cases,
    tabulate_borders,
    tabulate_scores,
    tabulate_spread,
)
from lai_training.evaluation.seams import (
    GEOMETRIES,
    SHIFTS_PX,
    Geometry,
    measure_seams,
    measure_shifts,
)
from lai_training.simulation.spectral_library import SpectralLibrary

Float32 = NDArray[np.float32]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Scale:
    """How much is evaluated."""

    scenes: int
    """Simulated scenes."""
    size_px: int
    """Their side."""
    curve_scenes: int
    """Of them, those that the robustness curves are made of."""
    seam_px: int
    """Side of the scene that is cut; a larger one than 384 px the UDF cuts by itself."""
    drawn_real: int
    """Real scenes, those with most pixels, of which thirty draws are made."""


SCALES = {
    "tiny": Scale(scenes=1, size_px=96, curve_scenes=1, seam_px=128, drawn_real=1),
    "small": Scale(scenes=4, size_px=192, curve_scenes=2, seam_px=384, drawn_real=6),
    "full": Scale(scenes=10, size_px=384, curve_scenes=4, seam_px=384, drawn_real=78),
}
"""`small` takes some minutes on two cores, `tiny` is for tests."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """All that was measured; tables are described where they are made."""

    networks: list[Network]
    scale: Scale
    seed: int
    scores: pd.DataFrame
    """`evaluation.scores.tabulate_scores`."""
    spread: pd.DataFrame
    """`evaluation.scores.tabulate_spread`."""
    borders: pd.DataFrame
    """`evaluation.scores.tabulate_borders`."""
    seams: pd.DataFrame
    """`evaluation.seams.measure_seams` and `measure_shifts`, one below the other."""
    noise: pd.DataFrame
    """`evaluation.robustness.vary_noise`."""
    angles: pd.DataFrame
    """`evaluation.robustness.withhold_angles`."""
    offset: pd.DataFrame
    """`evaluation.robustness.shift_offset`."""
    clouds: pd.DataFrame
    """`evaluation.robustness.approach_clouds`."""
    pixels: list[Pixels]
    """For the scatter plots."""
    seam_maps: dict[tuple[str, Geometry], Float32]
    """For the figure of the seams."""
    stages: dict[str, list[Stage]]
    """Feature maps by network."""
    shown: xr.DataArray
    """The image whose feature maps they are."""
    shown_lai: dict[str, Float32]
    """LAI of that image by network."""


def evaluate(
    networks: Sequence[Network],
    library: SpectralLibrary,
    *,
    scale: Scale,
    seed: int = 0,
    real: Sequence[Scene] = (),
    progress: Progress | None = None,
) -> Evaluation:
    """Measure everything.

    Args:
        networks: in the order of their columns.
        library: spectra that no network was trained on.
        scale: how much.
        seed: of the simulated scenes and of the noise.
        real: real scenes; none: simulated scenes only.
        progress: called with (steps done, all).
    """
    step = _count(_total(len(networks), scale, len(real)), progress)
    simulated = simulate_held_out(scale.scenes, scale.size_px, library, seed=seed)
    some = simulated[: scale.curve_scenes]
    pixels = run_cases([*simulated, *real], networks, step)
    spread = tabulate_spread([*simulated, *largest(real, scale.drawn_real)], networks, step)
    cut = simulate_held_out(1, scale.seam_px, library, seed=seed + 2)[0].image
    seams, maps = measure_seams(cut, networks, step)
    shifts = measure_shifts(cut, networks, step)
    clouds = approach_clouds(
        library,
        networks,
        scenes=scale.curve_scenes,
        size_px=scale.size_px,
        seed=seed,
        step=step,
    )
    shown = simulated[min(1, len(simulated) - 1)].image
    return Evaluation(
        networks=list(networks),
        scale=scale,
        seed=seed,
        scores=tabulate_scores(pixels),
        spread=spread,
        borders=tabulate_borders(pixels),
        seams=pd.concat([seams, shifts], ignore_index=True),
        noise=vary_noise(some, networks, step),
        angles=withhold_angles(some, networks, step),
        offset=shift_offset(some, networks, step),
        clouds=clouds,
        pixels=pixels,
        seam_maps=maps,
        stages={network.name: read_stages(network, shown) for network in networks},
        shown=shown,
        shown_lai={network.name: network.predict(shown)["LAI"] for network in networks},
    )


def kinds_of(evaluation: Evaluation) -> list[str]:
    """Return the kinds of scenes that were scored, simulated ones first."""
    kinds = dict.fromkeys(evaluation.scores["kind"])
    return sorted(kinds, key=lambda kind: kind != SIMULATED)


def _total(networks: int, scale: Scale, real: int) -> int:
    scored = 2 * scale.scenes + real + min(real, scale.drawn_real)
    cuts = networks * (len(GEOMETRIES) + len(SHIFTS_PX))
    return scored + cuts + len(NOISE_LEVELS) + len(OFFSETS) + len(WITHHELD) + scale.curve_scenes


def _count(total: int, progress: Progress | None) -> Callable[[], None]:
    """Return a function that moves the progress on by one step."""
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if progress:
            progress(done, total)

    return step
