"""What the comparison of simulated with real land looks like: a table, a CSV, a figure.

In: what `realism.compare_with_real` found. Out: `realism.md`, `realism.csv` (a row per kind of
land, statistic and band) and `realism.png`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from experiments.realism.statistics import SCENES, SIMULATED, LandStatistics
from lai_training.reporting import format_markdown
from lai_udf.atomic import disk_errors, move_finished, work_folder
from lai_udf.predict import BANDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Found = Mapping[str, LandStatistics]
"""Kind of land -> its statistics; the simulated one first."""

STATISTICS = {
    "mean": "mean",
    "sd": "standard deviation",
    "texture": "sd within 3x3 px, median",
    "edges": "sd within 3x3 px, 95th percentile",
}
COLOURS = ("#0072B2", "#D55E00", "#009E73")
"""Of Okabe and Ito, distinct for colour-blind readers."""
PAIRS = (("B04", "B08"), ("B05", "B06"), ("B03", "B12"))
"""Bands of the scatter plots: cover, red edge, and the pair that is simulated worst."""


def write_realism(found: Found, folder: Path) -> Path:
    """Write table, CSV and figure; all of them appear, or none.

    Returns:
        `realism.md`.

    Raises:
        OutputNotWritableError: the folder cannot be written.
    """
    with work_folder(folder) as work, disk_errors(folder):
        (work / "realism.md").write_text(format_realism(found), encoding="utf-8")
        tabulate(found).to_csv(work / "realism.csv", index=False, float_format="%.6f")
        _draw(found, work / "realism.png")
        move_finished({path: folder / path.name for path in sorted(work.iterdir())})
    return folder / "realism.md"


def tabulate(found: Found) -> pd.DataFrame:
    """Return columns statistic, land, and a band each; pixels alone have no gradients."""
    rows = [
        {"statistic": title, "land": land, **dict(zip(BANDS, values, strict=True))}
        for name, title in STATISTICS.items()
        for land, each in found.items()
        if (values := getattr(each, name)) is not None
    ]
    return pd.DataFrame(rows)


def format_realism(found: Found) -> str:
    """Return the statistics as a Markdown table, and how far correlations are apart."""
    table = tabulate(found)
    table[list(BANDS)] = table[list(BANDS)].map("{:.4f}".format)
    counts = ", ".join(f"{each.pixels:,} {land}" for land, each in found.items())
    parts = [f"Clear vegetated pixels: {counts}. Unit: reflectance.", format_markdown(table)]
    for land, each in found.items():
        if land != SIMULATED:
            gap = np.abs(each.correlation - found[SIMULATED].correlation)
            row, column = np.unravel_index(np.nanargmax(gap), gap.shape)
            parts.append(
                f"Correlations between bands differ from those of {land} by "
                f"{np.nanmean(gap):.3f} on average, by {gap[row, column]:.3f} at most "
                f"({BANDS[row]} and {BANDS[column]})."
            )
    return "\n\n".join(parts) + "\n"


def _draw(found: Found, path: Path) -> None:
    from matplotlib.figure import Figure  # slow to import, and only drawn here

    figure = Figure(figsize=(13, 8), layout="constrained")
    axes = figure.subplots(2, 3)
    place = np.arange(len(BANDS))
    for number, ((land, each), colour) in enumerate(zip(found.items(), COLOURS, strict=False)):
        aside = place + 0.18 * (number - (len(found) - 1) / 2)
        axes[0, 0].errorbar(
            aside, each.mean, each.sd, fmt="o", label=land, color=colour, markersize=4, capsize=2
        )
        if each.texture is not None and each.edges is not None:
            axes[0, 1].semilogy(place, each.texture, "o-", color=colour, label=f"{land}, median")
            label = f"{land}, 95th percentile"
            axes[0, 1].semilogy(place, each.edges, "^--", color=colour, label=label)
    axes[0, 0].set_title("mean and standard deviation")
    axes[0, 1].set_title("standard deviation within 3x3 px")
    for axis in axes[0, :2]:
        axis.set_xticks(place, BANDS)
        axis.set_ylabel("reflectance")
        axis.grid(color="0.9")
        axis.legend(fontsize="small")
    _draw_correlations(axes[0, 2], found[SIMULATED].correlation - found[SCENES].correlation)
    for axis, bands in zip(axes[1], PAIRS, strict=True):
        _scatter(axis, found, bands)
    axes[1, 0].legend(fontsize="small", markerscale=6)
    figure.savefig(path, dpi=100)


def _draw_correlations(axis: "Axes", difference: NDArray[np.float64]) -> None:
    place = np.arange(len(BANDS))
    drawn = axis.imshow(difference, vmin=-0.5, vmax=0.5, cmap="PuOr")
    axis.set_xticks(place, BANDS, rotation=90)
    axis.set_yticks(place, BANDS)
    axis.set_title("correlation, simulated minus real scenes")
    axis.figure.colorbar(drawn, ax=axis)


def _scatter(axis: "Axes", found: Found, bands: tuple[str, str]) -> None:
    """Draw as many points of each kind of land, mixed, so that none hides another."""
    count = min(len(each.sample) for each in found.values())
    points = np.stack([each.sample[:count] for each in found.values()], axis=1).reshape(-1, 10)
    x, y = (points[:, BANDS.index(band)] for band in bands)
    colours = COLOURS[: len(found)] * count
    axis.scatter(x, y, s=2, c=colours, alpha=0.4, linewidths=0)
    for land, colour in zip(found, COLOURS, strict=False):
        axis.scatter([], [], s=2, color=colour, label=land)
    axis.set(xlabel=f"{bands[0]}, reflectance", ylabel=f"{bands[1]}, reflectance")
