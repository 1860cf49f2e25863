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
from lai_training.reporting import Chapter, read_words
from lai_training.simulation.spectral_library import SpectralLibrary


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
    names = ", ".join(network.name for network in networks)
    size = {"size_px": scale.size_px, "seed": seed}
    text = [
        read_words()["networks"].format(networks=names),
        read_words()["scored"].format(described=described, **size),
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
        read_words()["table_4"],
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
        chapters.append(
            Chapter(title, [read_words()["images"], *images, format_paper_images(number)])
        )
    return chapters
