"""Do simulated landscapes look like land? Numbers and a figure beside real scenes.

In: a folder of real scenes (multiband GeoTIFFs that `lai_udf.products` reads) and simulated
patches. Out: `realism.csv` (one row per band and statistic), `realism.md` and `realism.png`.

Compared over clear vegetated pixels: band means and spread, correlations between bands, and
spatial gradients (the standard deviation within 3x3 pixels: texture by its median, edges by its
95th percentile).
"""

import csv
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from lai_training.errors import RealismError
from lai_training.landscapes import simulate_patches
from lai_training.spectral_library import SpectralLibrary
from lai_training.spectral_tables import BANDS
from lai_udf.errors import LaiUdfError
from lai_udf.products import read_scene
from lai_udf.rasters_files import disk_errors, move_finished, work_folder

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Float32 = NDArray[np.float32]
Array = NDArray[np.float64]

SMALLEST_VEGETATED_SHARE = 0.3
LARGEST_SIDE_PX = 1200

logger = logging.getLogger("lai_training")


@dataclass(frozen=True)
class LandStatistics:
    """What a set of images looks like; arrays of shape (10,) in the order of `BANDS`."""

    pixels: int
    """Clear vegetated pixels."""
    mean: Array
    """Mean reflectance."""
    sd: Array
    """Standard deviation of reflectance."""
    texture: Array
    """Median standard deviation within 3x3 pixels."""
    edges: Array
    """95th percentile of it."""
    correlation: Array
    """Correlation between bands, shape (10, 10); NaN for a band that does not vary."""
    sample: Float32
    """Some of the pixels, shape (up to 5000, 10)."""


def vegetated(image: Float32) -> NDArray[np.bool_]:
    """Find clear vegetated pixels: 0 < bands < 0.8, B02 < 0.2, NDVI > 0.3.

    Args:
        image: reflectance, shape (10, y, x); NaN = no data.

    Returns:
        Mask, shape (y, x).
    """
    red, nir, blue = (image[BANDS.index(band)] for band in ("B04", "B08", "B02"))
    total = nir + red
    green = (nir - red) > 0.3 * total
    valid: NDArray[np.bool_] = np.all((image > 0) & (image < 0.8), axis=0) & (blue < 0.2) & green
    return valid


def land_statistics(images: Iterable[Float32], rng: np.random.Generator) -> LandStatistics:
    """Describe the vegetated pixels of some images.

    Args:
        images: reflectance, each of shape (10, y, x), NaN = no data; images with less than 30 %
            clear vegetation are left out.
        rng: chooses the sample.

    Returns:
        Their statistics.

    Raises:
        RealismError: no image has enough vegetation.
    """
    spectra, deviations = [], []
    for image in images:
        clear = vegetated(image)
        inside = clear[1:-1, 1:-1]
        if clear.mean() < SMALLEST_VEGETATED_SHARE or not inside.any():
            continue
        spectra.append(image[:, clear])
        within = sliding_window_view(image, (3, 3), axis=(1, 2)).std(axis=(-1, -2))
        deviations.append(within[:, inside])
    if not spectra:
        raise RealismError(
            "no scene has 30 % clear vegetation (NDVI > 0.3): give vegetated scenes, and check "
            "their scale and offset"
        )
    pixels = np.concatenate(spectra, axis=1).astype(np.float64)
    deviation = np.concatenate(deviations, axis=1)
    count = pixels.shape[1]
    with np.errstate(invalid="ignore", divide="ignore"):  # a band that does not vary: NaN
        correlation = np.asarray(np.corrcoef(pixels))
    return LandStatistics(
        pixels=count,
        mean=pixels.mean(axis=1),
        sd=pixels.std(axis=1),
        texture=np.nanmedian(deviation, axis=1),
        edges=np.nanpercentile(deviation, 95, axis=1),
        correlation=correlation,
        sample=pixels[:, rng.permutation(count)[:5000]].T.astype(np.float32),
    )


def read_real_images(folder: Path) -> list[Float32]:
    """Read the scenes of a folder; files that are no scenes are skipped with a warning.

    Args:
        folder: holds `.tif` files.

    Returns:
        Reflectance of each, shape (10, y, x), NaN = no data.

    Raises:
        RealismError: no file of the folder is a scene.
    """
    images = []
    for path in sorted(folder.glob("*.tif")):
        try:
            scene = read_scene(path)
        except LaiUdfError as error:
            logger.warning("%s is left out: %s", path.name, error)
            continue
        image = scene.sel(bands=list(BANDS)).values.astype(np.float32)
        images.append(image[:, :LARGEST_SIDE_PX, :LARGEST_SIDE_PX])
    if not images:
        raise RealismError(f"{folder} holds no scene: give a folder of multiband GeoTIFFs (.tif)")
    return images


def compare_with_real(
    real_folder: Path, output: Path, library: SpectralLibrary, *, patches: int = 96, seed: int = 0
) -> tuple[LandStatistics, LandStatistics]:
    """Compare simulated patches with real scenes, and write numbers and a figure.

    Args:
        real_folder: GeoTIFFs.
        output: folder for `realism.csv`, `realism.md` and `realism.png`.
        library: spectra of the simulation.
        patches: simulated patches of 64x64 pixels.
        seed: of the simulation.

    Returns:
        (statistics of the real scenes, of the simulated patches).

    Raises:
        RealismError: nothing to compare with.
        OutputNotWritableError: the folder cannot be written.
    """
    rng = np.random.default_rng(seed)
    real = land_statistics(read_real_images(real_folder), rng)
    simulated = land_statistics(simulate_patches(patches, 64, rng, library).boa_reflectance, rng)
    with work_folder(output) as work, disk_errors(output):
        (work / "realism.md").write_text(format_realism(real, simulated), encoding="utf-8")
        _write_csv(work / "realism.csv", real, simulated)
        _draw(work / "realism.png", real, simulated)
        names = ("realism.md", "realism.csv", "realism.png")
        move_finished({work / name: output / name for name in names})
    return real, simulated


def _rows(real: LandStatistics, simulated: LandStatistics) -> list[tuple[str, Array, Array]]:
    names = ("mean", "sd", "texture", "edges")
    return [(name, getattr(real, name), getattr(simulated, name)) for name in names]


def format_realism(real: LandStatistics, simulated: LandStatistics) -> str:
    """Lay the statistics out as a Markdown table, simulated over real in each cell."""
    lines = [
        f"Clear vegetated pixels: {real.pixels} real, {simulated.pixels} simulated. "
        "Each cell: simulated / real.",
        "",
        "| statistic | " + " | ".join(BANDS) + " |",
        "|---" * (len(BANDS) + 1) + "|",
    ]
    for name, theirs, ours in _rows(real, simulated):
        cells = (f"{a:.4f} / {b:.4f}" for a, b in zip(ours, theirs, strict=True))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    gap = np.abs(real.correlation - simulated.correlation)
    lines += ["", f"Correlation between bands differs by {gap.mean():.3f} on average, "]
    lines[-1] += f"{gap.max():.3f} at most."
    return "\n".join(lines) + "\n"


def _write_csv(path: Path, real: LandStatistics, simulated: LandStatistics) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["statistic", "band", "real", "simulated"])
        for name, theirs, ours in _rows(real, simulated):
            for band, a, b in zip(BANDS, theirs, ours, strict=True):
                writer.writerow([name, band, f"{a:.6f}", f"{b:.6f}"])


def _draw(path: Path, real: LandStatistics, simulated: LandStatistics) -> None:
    from matplotlib.figure import Figure  # slow to import, and only drawn here

    figure = Figure(figsize=(13, 8), layout="constrained")
    axes = figure.subplots(2, 3)
    styles = (("real", real, "tab:orange"), ("simulated", simulated, "tab:blue"))
    place = np.arange(len(BANDS))
    for label, each, colour in styles:
        axes[0, 0].errorbar(place, each.mean, each.sd, label=label, color=colour, capsize=3)
        axes[0, 1].semilogy(place, each.texture, color=colour, label=f"{label}, median")
        axes[0, 1].semilogy(place, each.edges, "--", color=colour, label=f"{label}, 95 %")
        _scatter(axes[1, 0], each, ("B04", "B08"), label, colour)
        _scatter(axes[1, 1], each, ("B05", "B06"), label, colour)
        _scatter(axes[1, 2], each, ("B11", "B12"), label, colour)
    for axis, title in ((axes[0, 0], "mean and sd"), (axes[0, 1], "sd within 3x3 pixels")):
        axis.set_xticks(place, BANDS)
        axis.set_title(title)
        axis.legend()
    difference = axes[0, 2].imshow(
        simulated.correlation - real.correlation, vmin=-0.5, vmax=0.5, cmap="RdBu"
    )
    axes[0, 2].set_xticks(place, BANDS, rotation=90)
    axes[0, 2].set_yticks(place, BANDS)
    axes[0, 2].set_title("correlation, simulated minus real")
    figure.colorbar(difference, ax=axes[0, 2])
    figure.savefig(path, dpi=100)


def _scatter(
    axis: "Axes", each: LandStatistics, bands: Sequence[str], label: str, colour: str
) -> None:
    x, y = (each.sample[:, BANDS.index(band)] for band in bands)
    axis.plot(x, y, ".", markersize=1.5, alpha=0.3, color=colour, label=label)
    axis.set_xlabel(bands[0])
    axis.set_ylabel(bands[1])
