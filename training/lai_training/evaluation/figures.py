"""Figures of an evaluation that are made of points and lines: scatter plots and curves.

In: what `evaluate` measured. Out: PNG files. Networks keep colour, marker and line style through
all figures; SL2P is black and dashed. Density is drawn in viridis, which darkens evenly in grey.
"""

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lai_training.evaluation.networks import SL2P
from lai_training.evaluation.scores import CLEAN, NOISY, Case, Pixels
from lai_training.scores.metrics import score

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection

Array = NDArray[np.float32]

LAI_AXIS = "LAI (m² m⁻²)"
PIXELS_DRAWN = 20_000
BIN = 0.05
DPI = 110
_LOOKS = (
    ("#0072B2", "o", "-"),
    ("#D55E00", "s", "-."),
    ("#009E73", "^", ":"),
    ("#CC79A7", "D", (0, (5, 1))),
    ("#E69F00", "v", (0, (3, 1, 1, 1))),
)  # colours of Okabe and Ito, told apart by colour-blind readers


def draw_scatter(
    results: Sequence[Pixels], path: Path, *, against: str, rng: np.random.Generator
) -> None:
    """Draw 20,000 random pixels per panel, coloured by density (the paper's figures 5-8).

    Args:
        results: of one kind of scene.
        path: PNG to write.
        against: `SL2P` or `true LAI`.
        rng: chooses the pixels, the same for every network.
    """
    from matplotlib.figure import Figure  # slow to import, and only drawn here

    rows = (CLEAN, NOISY)
    names = list(results[0].estimates)
    figure = Figure(figsize=(3.3 * len(names) + 1.2, 3.5 * len(rows) + 0.6), layout="constrained")
    axes = figure.subplots(len(rows), len(names), sharex=True, sharey=True, squeeze=False)
    drawn: PathCollection | None = None
    for line, case in zip(axes, rows, strict=True):
        members = [result for result in results if result.case is case]
        truth = _join([m.reference if against == SL2P else m.true_lai for m in members])
        chosen = rng.permutation(truth.size)[:PIXELS_DRAWN]
        for axis, name in zip(line, names, strict=True):
            estimate = _join([member.estimates[name] for member in members])
            if name == SL2P and against == SL2P and not case.noise:
                _say_reference(axis)
                continue
            drawn = _scatter(axis, truth[chosen], estimate[chosen])
            found = score(truth, estimate)
            axis.set_title(f"{name}\n{_short(case)}", fontsize="small", pad=8)
            axis.text(
                0.04,
                0.96,
                f"R² {found.r_squared:.4f}\ndistance {found.distance:.3f}\nbias {found.bias:+.3f}",
                transform=axis.transAxes,
                va="top",
                fontsize="x-small",
            )
    title = f"{SL2P} {LAI_AXIS} of the noise-free image" if against == SL2P else f"true {LAI_AXIS}"
    figure.supxlabel(title, fontsize="medium")
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


def _say_reference(axis: "Axes") -> None:
    axis.set_axis_off()
    axis.set_aspect("equal")
    text = "SL2P of this input\nis the reference"
    axis.text(0.5, 0.5, text, ha="center", va="center", transform=axis.transAxes)


def _short(case: Case) -> str:
    return "band noise" if case.noise else case.title


def _join(parts: Sequence[Array | None]) -> Array:
    return np.concatenate([part for part in parts if part is not None])


def draw_curves(
    noise: pd.DataFrame, offset: pd.DataFrame, clouds: pd.DataFrame, path: Path
) -> None:
    """Draw RMSE against noise, offset and distance to masked pixels, and coverage under noise."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    figure = Figure(figsize=(11, 8), layout="constrained")
    axes = figure.subplots(2, 2)
    _lines(axes[0, 0], noise, "rmse")
    axes[0, 0].set_xlabel("level of band noise (1 = as measured)")
    calibrated = noise.dropna(subset="coverage")
    _lines(axes[0, 1], calibrated, "coverage", names=noise["network"])
    axes[0, 1].axhline(0.95, color="0.6", linewidth=0.8)
    axes[0, 1].set(xlabel="level of band noise", ylabel="true LAI inside the 95 % interval")
    axes[0, 1].set_ylim(min(0.8, calibrated["coverage"].min() - 0.02), 1.0)
    axes[0, 1].yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    axes[0, 1].set_yticks([0.8, 0.85, 0.9, 0.95, 1.0])
    _lines(axes[1, 0], offset, "rmse")
    axes[1, 0].set_xticks([-0.1, -0.05, 0, 0.05, 0.1])
    axes[1, 0].set_xlabel("offset left in the reflectance; shaded: the guard refuses the scene")
    _shade_refused(axes[1, 0], offset)
    _draw_clouds(axes[1, 1], clouds)
    for axis in (axes[0, 0], axes[1, 0], axes[1, 1]):
        axis.set_ylabel("RMSE against noise-free SL2P (m² m⁻²)")
    for axis in axes.ravel():
        axis.grid(color="0.9")
    axes[0, 0].legend(fontsize="small")
    axes[1, 1].legend(fontsize="x-small", ncols=2)
    figure.savefig(path, dpi=DPI)


def look_of(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return how each network is drawn, by its place among the networks."""
    looks: dict[str, dict[str, Any]] = {}
    networks = [name for name in dict.fromkeys(names) if name != SL2P]
    for name, (colour, marker, style) in zip(networks, itertools.cycle(_LOOKS), strict=False):
        looks[name] = {"color": colour, "marker": marker, "linestyle": style}
    looks[SL2P] = {"color": "black", "marker": "x", "linestyle": "--"}
    return looks


def _lines(
    axis: "Axes", table: pd.DataFrame, column: str, names: Iterable[str] | None = None
) -> None:
    looks = look_of(table["network"] if names is None else names)
    for name, own in table.groupby("network", sort=False):
        axis.plot(own["x"], own[column], label=name, markersize=4, **looks[str(name)])
    if table.empty:
        axis.text(0.5, 0.5, "no calibrated network", transform=axis.transAxes, ha="center")


def _shade_refused(axis: "Axes", offset: pd.DataFrame) -> None:
    """Shade from each refused offset half-way to its neighbours."""
    steps = offset.drop_duplicates("x").sort_values("x")
    x = steps["x"].to_numpy("float64")
    middle = (x[1:] + x[:-1]) / 2
    lows, highs = [x[0], *middle], [*middle, x[-1]]
    for low, high, refused in zip(lows, highs, steps["refused"], strict=True):
        if refused:
            axis.axvspan(low, high, color="0.5", alpha=0.3 * refused, linewidth=0)


def _draw_clouds(axis: "Axes", clouds: pd.DataFrame) -> None:
    looks = look_of(list(clouds["network"]))
    places = {x: place for place, x in enumerate(sorted(clouds["x"].unique()))}
    for (view, name), own in clouds.groupby(["view", "network"], sort=False):
        if view == "holes" and name == SL2P:
            continue  # the reference itself
        look = looks[str(name)] | ({"markerfacecolor": "white"} if view == "holes" else {})
        look |= {"alpha": 0.6} if view == "holes" else {}
        axis.plot(own["x"].map(places), own["rmse"], label=f"{name}, {view}", markersize=4, **look)
    labels = [f"{x:g}" if np.isfinite(x) else "more" for x in places]
    axis.set_xticks(range(len(places)), labels)
    axis.set_xlabel("distance to the nearest masked pixel, up to (px of 20 m)")
    axis.set_ylim(bottom=0)
