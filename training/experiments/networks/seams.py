"""Seams: does LAI depend on how the scene was cut, or on where the cutting began?

Every network is run over one scene uncut, cut into windows as openEO cuts cubes (a core and an
overlap of real neighbours around it, no data beyond the scene), and over the scene with its first
rows and columns taken away. What differs is an artefact: the land is the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from lai_training.evaluation.figures import DPI, LAI_AXIS
from lai_training.evaluation.networks import Network

Float32 = NDArray[np.float32]

SHIFTS_PX = (1, 2, 3)
SMALLEST_SEAM, LARGEST_SEAM = 1e-4, 1.0
"""Range of the colours, LAI."""


@dataclass(frozen=True)
class Geometry:
    """How a scene is cut."""

    core_px: int
    """Side of the part of a window that is kept."""
    overlap_px: int
    """Real neighbours on each side of it, trimmed afterwards."""

    @property
    def title(self) -> str:
        """Such as `windows of 96 + 16 px`."""
        return f"windows of {self.core_px} + {self.overlap_px} px"


GEOMETRIES = (Geometry(224, 16), Geometry(96, 16), Geometry(96, 0))
"""Two of openEO practice, and one without overlap for contrast."""


def predict_in_windows(network: Network, image: xr.DataArray, geometry: Geometry) -> Float32:
    """Return LAI (y, x) of an image run window by window, as a back-end does."""
    core, overlap = geometry.core_px, geometry.overlap_px
    height, width = image.sizes["y"], image.sizes["x"]
    around = image.astype("float32").pad(
        y=(overlap, overlap + core), x=(overlap, overlap + core), constant_values=np.nan
    )
    lai = np.full((height, width), np.nan, dtype="float32")
    for top in range(0, height, core):
        for left in range(0, width, core):
            rows = slice(top, top + core + 2 * overlap)
            columns = slice(left, left + core + 2 * overlap)
            window = around.isel(y=rows, x=columns)
            found = network.predict(window, overlap=overlap)["LAI"]
            kept = lai[top : top + core, left : left + core]
            inner = found[overlap:, overlap:][: kept.shape[0], : kept.shape[1]]
            kept[...] = inner
    return lai


def measure_seams(
    image: xr.DataArray, networks: Sequence[Network]
) -> tuple[pd.DataFrame, dict[tuple[str, Geometry], Float32]]:
    """Compare windows with the uncut scene, at most 384 px, so that the UDF itself does not cut it.

    Returns a table (network, cut, reach_px, mean, p99, largest: of the absolute difference, LAI)
    and the maps of the difference, (y, x).
    """
    rows, maps = [], {}
    for network in networks:
        whole = network.predict(image)["LAI"]
        for geometry in GEOMETRIES:
            difference = predict_in_windows(network, image, geometry) - whole
            maps[network.name, geometry] = difference
            rows.append(_describe(network, geometry.title, difference))
    return pd.DataFrame(rows), maps


def measure_shifts(image: xr.DataArray, networks: Sequence[Network]) -> pd.DataFrame:
    """Compare the scene with itself, its first 1 to 3 rows and columns taken away.

    Pixels nearer to the border of the scene than the reach of the network are left out: beyond it,
    data really are missing. Columns are those of `measure_seams`.
    """
    rows = []
    for network in networks:
        whole = network.predict(image)["LAI"]
        for shift in SHIFTS_PX:
            margin = int(network.contract["reach_px"]) + shift
            moved = network.predict(image.isel(y=slice(shift, None), x=slice(shift, None)))["LAI"]
            difference = (moved - whole[shift:, shift:])[margin:-margin, margin:-margin]
            rows.append(_describe(network, f"origin moved by {shift} px", difference))
    return pd.DataFrame(rows)


def _describe(network: Network, cut: str, difference: Float32) -> dict[str, Any]:
    """Sum up a map of differences; one without pixels gives NaN."""
    size = np.abs(difference[np.isfinite(difference)]).astype("float64")
    if size.size == 0:
        size = np.array([np.nan])
    return {
        "network": network.name,
        "cut": cut,
        "reach_px": network.contract["reach_px"],
        "mean": float(size.mean()),
        "p99": float(np.percentile(size, 99)),
        "largest": float(size.max()),
    }


def draw_seams(maps: Mapping[tuple[str, Geometry], Float32], path: Path) -> None:
    """Draw where LAI of windows differs from LAI of the uncut scene, (y, x) each."""
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
