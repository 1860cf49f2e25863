"""Figures of an evaluation that are maps: seams, 10 m beside 20 m, channels of a network."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from lai_training.evaluation.activations import CHANNELS, Stage, inner_part
from lai_training.evaluation.figures import DPI, LAI_AXIS
from lai_training.evaluation.seams import GEOMETRIES, Geometry
from lai_training.evaluation.ten_metres import Shown
from lai_udf.picture import LAI_RANGE, colour_table
from lai_udf.predict import BANDS

Float32 = NDArray[np.float32]

TRUE_COLOUR = ("B04", "B03", "B02")
SMALLEST_SEAM, LARGEST_SEAM = 1e-4, 1.0
"""Range of the colours, LAI."""


def draw_seams(maps: Mapping[tuple[str, Geometry], Float32], path: Path) -> None:
    """Draw where LAI of windows differs from LAI of the uncut scene.

    Args:
        maps: (network, geometry) -> difference (y, x), LAI.
        path: PNG to write.
    """
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure  # slow to import, and only drawn here

    names = list(dict.fromkeys(name for name, _ in maps))
    figure = Figure(
        figsize=(3.2 * len(GEOMETRIES) + 1.3, 3.3 * len(names) + 0.4), layout="constrained"
    )
    axes = figure.subplots(len(names), len(GEOMETRIES), squeeze=False, sharex=True, sharey=True)
    for line, name in zip(axes, names, strict=True):
        for axis, geometry in zip(line, GEOMETRIES, strict=True):
            size = np.abs(maps[name, geometry])
            image = axis.imshow(
                np.maximum(size, SMALLEST_SEAM),
                norm=LogNorm(SMALLEST_SEAM, LARGEST_SEAM),
                cmap="magma_r",
                interpolation="nearest",
            )
            worst = float(np.nanmax(size))
            axis.set_title(f"{name}\n{geometry.title}: largest {worst:.2g}", fontsize="small")
    figure.supxlabel("column (px of 20 m)", fontsize="medium")
    figure.supylabel("row (px of 20 m)", fontsize="medium")
    figure.colorbar(image, ax=axes, label=f"|windows - uncut|, {LAI_AXIS}", shrink=0.8)
    figure.savefig(path, dpi=DPI)


def draw_ten_metres(scenes: Sequence[Shown], path: Path) -> None:
    """Draw scenes at 10 m: true colour, LAI at 20 m, and of each method at 10 m."""
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure

    titles = list(scenes[0].lai)
    size = (2.9 * (len(titles) + 1) + 0.8, 3.0 * len(scenes) + 0.3)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(scenes), len(titles) + 1, squeeze=False)
    low, high = LAI_RANGE
    for line, scene in zip(axes, scenes, strict=True):
        colour = np.moveaxis(scene.image[[BANDS.index(band) for band in TRUE_COLOUR]], 0, -1)
        bright = np.percentile(colour, 99)
        line[0].imshow(np.clip(colour / bright, 0, 1) ** 0.7, interpolation="nearest")
        line[0].set_ylabel(scene.name[-24:], fontsize="x-small")
        for axis, title in zip(line[1:], titles, strict=True):
            drawn = axis.imshow(
                scene.lai[title],
                cmap=ListedColormap(colour_table() / 255),
                vmin=low,
                vmax=high,
                interpolation="nearest",
            )
    for axis, title in zip(axes[0], ("true colour, 10 m", *titles), strict=True):
        axis.set_title(title, fontsize="small")
    for axis in axes.ravel():
        axis.set(xticks=[], yticks=[])
    figure.colorbar(drawn, ax=axes, label=LAI_AXIS, shrink=0.5)
    figure.savefig(path, dpi=DPI)


def draw_features(
    name: str, stages: Sequence[Stage], image: xr.DataArray, lai: Float32, path: Path
) -> None:
    """Draw four channels of each stage between the image and the LAI (figures 13-16).

    Each channel has its own range from the 1st to the 99th percentile: activations have no unit.

    Args:
        name: of the network.
        stages: from `read_stages`.
        image: (bands, y, x) reflectance, the same scene.
        lai: (y, x), what the network made of it.
        path: PNG to write.
    """
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure

    rows = len(stages) + 1
    figure = Figure(figsize=(2.1 * CHANNELS + 0.6, 2.2 * rows), layout="constrained")
    axes = figure.subplots(rows, CHANNELS, squeeze=False)
    for axis in axes.ravel():
        axis.set(xticks=[], yticks=[])
    figure.suptitle(f"{name}: image, LAI, and the four channels of each stage that vary most")
    colour = np.stack([image.sel(bands=band).values for band in TRUE_COLOUR], axis=-1)
    axes[0, 0].imshow(np.clip(np.nan_to_num(colour) / 0.25, 0, 1) ** 0.7)
    axes[0, 0].set_title("image, true colour", fontsize="small")
    drawn = axes[0, 1].imshow(lai, cmap=ListedColormap(colour_table() / 255), vmin=0, vmax=6)
    axes[0, 1].set_title("LAI", fontsize="small")
    for axis in axes[0, 2:]:
        axis.set_axis_off()
    scale = axes[0, 2].inset_axes((0.0, 0.05, 0.12, 0.9))
    figure.colorbar(drawn, cax=scale, label=LAI_AXIS)
    for line, stage in zip(axes[1:], stages, strict=True):
        line[0].set_title(stage.title, fontsize="small", loc="left")
        for axis, channel in zip(line, stage.channels, strict=False):
            low, high = np.percentile(inner_part(channel), (1, 99))
            axis.imshow(channel, cmap="gray", vmin=low, vmax=max(high, low + 1e-6))
        for axis in line[len(stage.channels) :]:
            axis.set_axis_off()
    figure.savefig(path, dpi=DPI)
