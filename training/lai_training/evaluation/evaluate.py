"""Evaluate networks: the paper's tables and figures, and scores on real imagery.

In: opened networks, a spectral library, and real scenes where there are some. Out: chapters of a
report (`lai_training.reporting`), for readers who know the paper (Albughdadi et al. 2020,
hal-02551143) and nothing else. Everything random is seeded.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from lai_training.evaluation.figures import draw_scatter
from lai_training.evaluation.networks import Network
from lai_training.evaluation.scores import (
    CASES,
    SAMPLES,
    SIMULATED,
    Pixels,
    Scene,
    largest,
    run_cases,
    simulate_held_out,
    tabulate_scores,
    tabulate_spread,
)
from lai_training.evaluation.tables import (
    format_images,
    format_paper_images,
    format_table_4,
)
from lai_training.reporting import Chapter
from lai_training.simulation.spectral_library import SpectralLibrary

TABLE_4 = (
    "The reference is SL2P of the noise-free image at the angles that were given. The column SL2P "
    "is what SL2P makes of the same input as the networks: without noise the reference itself, "
    "with noise what any method must beat that gains something from neighbours. Sigma is the "
    f"standard deviation of {SAMPLES} Monte-Carlo draws; the interval of their mean is "
    f"t sigma / sqrt({SAMPLES}) with t = 2.045 (two-sided 95 %; the paper prints 1.699, one-sided) "
    "and bounds the mean of the draws, not the distance to the truth. Columns "
    "of the paper: means of its table 4 (T31TCK, six dates of 2017, 20,000 pixels each), against "
    "SNAP. Times are of one pass, compute only; small images cost more per pixel, since their "
    "borders are computed too. SNAP took 15 minutes for a tile of 30.1 million pixels in the "
    "paper, reading and writing included."
)
IMAGES = (
    "Layout of the paper, one table per network. Angles are given, no noise is added. "
    f"The {SAMPLES} draws are what sigma costs: the paper's 18 s are one draw."
)


@dataclass(frozen=True)
class Scale:
    """How much is evaluated."""

    scenes: int
    """Simulated scenes."""
    size_px: int
    """Their side."""
    drawn_real: int
    """Real scenes, those with most pixels, of which thirty draws are made."""


SCALES = {
    "tiny": Scale(scenes=1, size_px=96, drawn_real=1),
    "small": Scale(scenes=4, size_px=192, drawn_real=6),
    "full": Scale(scenes=10, size_px=384, drawn_real=78),
}
"""`small` takes some minutes on two cores, `tiny` is for tests."""


def evaluate(
    networks: Sequence[Network],
    library: SpectralLibrary,
    *,
    scale: Scale,
    seed: int = 0,
    real: Sequence[Scene] = (),
    progress: Callable[[int, int], None] | None = None,
) -> list[Chapter]:
    """Measure everything.

    Args:
        networks: in the order of their columns.
        library: spectra that no network was trained on.
        scale: how much.
        seed: of the simulated scenes and of the noise.
        real: real scenes; none: simulated scenes only.
        progress: called with (scenes done, all).
    """
    simulated = simulate_held_out(scale.scenes, scale.size_px, library, seed=seed)
    pixels = run_cases([*simulated, *real], networks, progress=progress)
    spread = tabulate_spread([*simulated, *largest(real, scale.drawn_real)], networks)
    rng = np.random.default_rng(seed)
    comparison = _compare(networks, pixels, tabulate_scores(pixels), spread, rng)
    return [_introduce(networks, scale, seed, pixels), *comparison]


def _kinds_of(pixels: Sequence[Pixels]) -> list[str]:
    """Return the kinds of scenes that were scored, simulated ones first."""
    kinds = dict.fromkeys(result.scene.kind for result in pixels)
    return sorted(kinds, key=lambda kind: kind != SIMULATED)


def _introduce(
    networks: Sequence[Network], scale: Scale, seed: int, pixels: Sequence[Pixels]
) -> Chapter:
    counts: dict[str, dict[str, int]] = {kind: {} for kind in _kinds_of(pixels)}
    for result in pixels:
        counts[result.scene.kind][result.scene.name] = int(result.scene.scored.sum())
    described = ", ".join(
        f"{sum(sizes.values()):,} pixels of {len(sizes)} {kind} scenes (the largest holds "
        f"{max(sizes.values()) / sum(sizes.values()):.0%} of them)"
        for kind, sizes in counts.items()
    )
    text = [
        f"Networks: {', '.join(network.name for network in networks)}. SL2P is the network inside "
        "SNAP's biophysical processor (set 2_1), the teacher; the paper calls its output the "
        "ground truth. Scores are eq. 3-9 of the paper, LAI in m² m⁻².",
        "Scored are clear vegetated pixels (all bands between 0 and 0.8, B02 < 0.2, NDVI > 0.3, "
        f"16 px from the border of the image): {described}. Simulated scenes have "
        f"{scale.size_px} x {scale.size_px} px, seed {seed}; landscapes and spectra are "
        "not those that networks were trained on. Real scenes without angle bands are given the "
        "sun's angles by time and place, and view angles drawn within the swath.",
    ]
    return Chapter("# Evaluation of networks against SL2P", text)


def _compare(
    networks: Sequence[Network],
    pixels: Sequence[Pixels],
    scores: pd.DataFrame,
    spread: pd.DataFrame,
    rng: np.random.Generator,
) -> list[Chapter]:
    """Return tables 4, 5 and 6, and the scatter plots."""
    kinds = _kinds_of(pixels)
    text = [
        TABLE_4,
        *(format_table_4(scores, spread, kind, case) for kind in kinds for case in CASES),
        *(
            f"![Estimates against SL2P, {kind} scenes](scatter_{kind}.png)\n\n*Figures 5-8 of the "
            f"paper: 20,000 random pixels of {kind} scenes, coloured by density.*"
            for kind in kinds
        ),
    ]
    figures = {}
    for kind in kinds:
        of_kind = [result for result in pixels if result.scene.kind == kind]
        figures[f"scatter_{kind}.png"] = partial(draw_scatter, of_kind, rng=rng)
    title = "## Table 4: networks against SL2P, all images together"
    chapters = [Chapter(title, text, {"scores": scores, "spread": spread}, figures)]
    for number, kind in enumerate(kinds, start=5):
        images = [
            f"**{network.name}**\n\n{format_images(scores, spread, kind, network.name)}"
            for network in networks
        ]
        title = f"## Table {number}: image by image, {kind} scenes"
        chapters.append(Chapter(title, [IMAGES, *images, format_paper_images(number)]))
    return chapters
