"""What the figures of an evaluation share, and scatter plots.

Density is drawn in viridis, which darkens evenly in grey.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lai_training.evaluation.networks import SL2P
from lai_training.evaluation.scores import CLEAN, NOISY, Case, Pixels
from lai_training.metrics import score

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection

Array = NDArray[np.float32]

LAI_AXIS = "LAI (m² m⁻²)"
PIXELS_DRAWN = 20_000
BIN = 0.05
DPI = 110
TRUE_COLOUR = ("B04", "B03", "B02")


def draw_scatter(results: Sequence[Pixels], path: Path, *, rng: np.random.Generator) -> None:
    """Draw 20,000 random pixels per panel, coloured by density (the paper's figures 5-8).

    `rng` chooses the pixels, the same for every network.
    """
    from matplotlib.figure import Figure  # slow to import, and only drawn here

    rows = (CLEAN, NOISY)
    names = list(results[0].estimates)
    figure = Figure(figsize=(3.3 * len(names) + 1.2, 3.5 * len(rows) + 0.6), layout="constrained")
    axes = figure.subplots(len(rows), len(names), sharex=True, sharey=True, squeeze=False)
    drawn: PathCollection | None = None
    for line, case in zip(axes, rows, strict=True):
        members = [result for result in results if result.case is case]
        truth = np.concatenate([member.reference for member in members])
        chosen = rng.permutation(truth.size)[:PIXELS_DRAWN]
        for axis, name in zip(line, names, strict=True):
            estimate = np.concatenate([member.estimates[name] for member in members])
            if name == SL2P and not case.noise:
                _name_reference(axis)
                continue
            drawn = _scatter(axis, truth[chosen], estimate[chosen])
            scores = score(truth, estimate)
            axis.set_title(f"{name}\n{_short(case)}", fontsize="small", pad=8)
            text = f"R² {scores.r_squared:.4f}\ndistance {scores.distance:.3f}\n"
            text += f"bias {scores.bias:+.3f}"
            place = {"transform": axis.transAxes, "va": "top", "fontsize": "x-small"}
            axis.text(0.04, 0.96, text, **place)
    figure.supxlabel(f"{SL2P} {LAI_AXIS} of the noise-free image", fontsize="medium")
    figure.supylabel(f"estimated {LAI_AXIS}", fontsize="medium")
    if drawn is not None:
        figure.colorbar(drawn, ax=axes, label=f"pixels per {BIN} x {BIN} of LAI", shrink=0.8)
    figure.savefig(path, dpi=DPI)


def _scatter(axis: "Axes", truth: Array, estimate: Array) -> "PathCollection":
    """Draw one panel, dense places last; axes from -0.5 to 8.5."""
    from matplotlib.colors import LogNorm

    edges = np.arange(-1, 10 + BIN, BIN)
    counts, _, _ = np.histogram2d(truth, estimate, bins=[edges, edges])
    place = [np.clip(np.digitize(v, edges) - 1, 0, len(edges) - 2) for v in (truth, estimate)]
    density = np.maximum(counts[place[0], place[1]], 1)
    order = np.argsort(density, kind="stable")
    drawn = axis.scatter(
        truth[order],
        estimate[order],
        c=density[order],
        s=1.5,
        linewidths=0,
        norm=LogNorm(1, 300),
        cmap="viridis",
        rasterized=True,
    )
    axis.plot([-0.5, 8.5], [-0.5, 8.5], color="0.2", linewidth=0.8)
    axis.set(xlim=(-0.5, 8.5), ylim=(-0.5, 8.5), aspect="equal", xticks=range(0, 9, 2))
    axis.set_yticks(range(0, 9, 2))
    return drawn


def _name_reference(axis: "Axes") -> None:
    axis.set_axis_off()
    axis.set_aspect("equal")
    text = "SL2P of this input\nis the reference"
    axis.text(0.5, 0.5, text, ha="center", va="center", transform=axis.transAxes)


def _short(case: Case) -> str:
    return "band noise" if case.noise else case.title
