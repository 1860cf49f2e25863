"""Chapters of a report on what networks do besides estimating: seams, robustness, feature maps.

In: opened networks, and a spectral library that none was trained on. Out: chapters
(`lai_training.reporting`). Everything random is seeded.
"""

from collections.abc import Callable, Sequence
from functools import partial

import pandas as pd
import xarray as xr

from experiments.networks.activations import draw_features, read_stages
from experiments.networks.borders import tabulate_borders
from experiments.networks.robustness import (
    approach_clouds,
    draw_curves,
    shift_offset,
    vary_noise,
    withhold_angles,
)
from experiments.networks.seams import draw_seams, measure_seams, measure_shifts
from lai_training.evaluation.networks import Network
from lai_training.evaluation.scores import CASES, Scene, run_cases, simulate_held_out
from lai_training.evaluation.tables import order_columns
from lai_training.reporting import Chapter, format_markdown
from lai_training.simulation.spectral_library import SpectralLibrary

BORDERS = (
    "RMSE against SL2P of the noise-free image. Border: the tenth of the pixels with the strongest "
    "contrast in B8A within 3x3 px. Inside: all others. A network that smears edges does worse at "
    "borders than SL2P of the same noisy image."
)
SEAMS = (
    "A scene is run uncut, in windows as openEO cuts it (core + overlap on each side), and with "
    "its first rows and columns taken away. Given is the 99th percentile of the absolute "
    "difference of LAI. Windows with enough overlap must not differ. A moved origin moves the "
    "grid of the poolings, which every network that pools feels. An empty cell: the scene is too "
    "small for the reach of the network."
)
CLOUDS = (
    "**Distance to the nearest masked pixel** (px, up to). `clouds`: the scene as seen, with thin "
    "cloud beyond the mask, which SL2P sees too. `holes`: the same mask over cloudless land, where "
    "all that is missing is neighbours."
)
FEATURES = (
    "A stage is the last layer of a stretch of one resolution. Shown are the four channels that "
    "vary most, each stretched from its 1st to its 99th percentile."
)


def describe(
    networks: Sequence[Network],
    library: SpectralLibrary,
    *,
    scenes: int = 2,
    size_px: int = 192,
    cut_px: int = 384,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[Chapter]:
    """Return the chapters.

    Args:
        networks: in the order of their columns.
        library: spectra that no network was trained on.
        scenes: simulated scenes that are disturbed.
        size_px: their side.
        cut_px: side of the scene that is cut; a larger one than 384 px the UDF cuts by itself.
        seed: of the simulated scenes and of the noise.
        progress: called with (chapters done, all).
    """
    some = simulate_held_out(scenes, size_px, library, seed=seed)
    cut = simulate_held_out(1, cut_px, library, seed=seed + 2)[0].image
    steps: list[Callable[[], Chapter]] = [
        lambda: compare_at_borders(some, networks),
        lambda: cut_and_move(cut, networks),
        lambda: disturb(some, networks, library, seed),
        lambda: show_channels(networks, some[-1].image),
    ]
    chapters = []
    for number, make in enumerate(steps, start=1):
        chapters.append(make())
        if progress:
            progress(number, len(steps))
    return chapters


def compare_at_borders(scenes: Sequence[Scene], networks: Sequence[Network]) -> Chapter:
    """Return the chapter on borders."""
    table = tabulate_borders(run_cases(scenes, networks))
    titles = {case.key: case.title for case in CASES}
    rows = table["case"].map(titles) + ", " + table["where"]
    shown = pivot(table.assign(row=rows), "row", "rmse", "{:.4f}", title="input, place")
    return Chapter("## Borders of parcels", [BORDERS, shown], {"borders": table})


def cut_and_move(image: xr.DataArray, networks: Sequence[Network]) -> Chapter:
    """Return the chapter on windows and moved origins, of (bands, y, x)."""
    seams, maps = measure_seams(image, networks)
    table = pd.concat([seams, measure_shifts(image, networks)], ignore_index=True)
    text = [
        SEAMS,
        pivot(table, "cut", "p99", "{:.2g}", title="cut"),
        "Largest difference anywhere:",
        pivot(table, "cut", "largest", "{:.2g}", title="cut"),
        "![Maps of the seams](seams.png)",
    ]
    figures = {"seams.png": partial(draw_seams, maps)}
    return Chapter("## Seams and the origin of tiles", text, {"seams": table}, figures)


def disturb(
    scenes: Sequence[Scene],
    networks: Sequence[Network],
    library: SpectralLibrary,
    seed: int,
) -> Chapter:
    """Return the chapter on noise, withheld angles, offsets and clouds."""
    clouds = approach_clouds(
        library, networks, scenes=len(scenes), size_px=scenes[0].image.sizes["y"], seed=seed
    )
    noise, offset = vary_noise(scenes, networks), shift_offset(scenes, networks)
    angles, calibrated = withhold_angles(scenes, networks), noise.dropna(subset="coverage")
    covered = pivot(calibrated, "x", "coverage", "{:.1%}", title="level", row_form="{:g}")
    text = [
        "RMSE against SL2P of the noise-free, cloudless scene with all its angles.",
        "**Band noise** (1 = as pairs of real dates show it, correlated between bands)",
        pivot(noise, "x", "rmse", "{:.3f}", title="level", row_form="{:g}"),
        "The same against the true LAI. Networks learn SL2P's estimate of noise-free land, so "
        "they inherit its errors; only under noise may they come closer to it than SL2P does.",
        pivot(noise, "x", "rmse_truth", "{:.3f}", title="level", row_form="{:g}"),
        *(["Share of true LAI inside the calibrated 95 % interval:", covered] if covered else []),
        "**Angles withheld** (nominal ones take their place, for SL2P too)",
        pivot(angles, "x", "rmse", "{:.3f}", title="withheld"),
        "**An offset left in the reflectance**: bias of LAI. "
        "+0.1 is the offset of processing baseline 04.00 forgotten, -0.1 the same taken off twice.",
        pivot(offset, "x", "bias", "{:+.2f}", title="offset", row_form="{:+g}"),
        *_describe_guard(offset),
        CLOUDS,
    ]
    for view in ("clouds", "holes"):
        own, title = clouds[clouds["view"] == view], f"{view}, px"
        table = pivot(own, "x", "rmse", "{:.3f}", title=title, row_form="{:g}")
        text.append(table.replace("| inf |", "| more |"))
    return Chapter(
        "## Robustness",
        [*text, "![Robustness curves](robustness.png)"],
        {"noise": noise, "angles": angles, "offset": offset, "clouds": clouds},
        {"robustness.png": partial(draw_curves, noise, offset, clouds)},
    )


def _describe_guard(offset: pd.DataFrame) -> list[str]:
    """Describe at which offsets the UDF's guard refuses, and why."""
    steps = offset.drop_duplicates("x")
    refusals, passed = [], []
    for x, refused, reason in zip(steps["x"], steps["refused"], steps["reason"], strict=True):
        if refused:
            refusals.append(f"- {x:+g} ({refused:.0%} of the scenes refused): {reason}")
        elif x:
            passed.append(f"{x:+g}")
    return [
        "The guard of whole scenes refuses:\n\n" + "\n".join(refusals) if refusals else "",
        f"The guard lets pass: {', '.join(passed)}." if passed else "",
    ]


def show_channels(networks: Sequence[Network], image: xr.DataArray) -> Chapter:
    """Return the chapter on feature maps, of (bands, y, x)."""
    text, figures = [FEATURES], {}
    for number, network in enumerate(networks, start=1):
        file, lai = f"features_{number}.png", network.predict(image)["LAI"]
        stages = read_stages(network, image)
        text.append(f"![Feature maps of {network.name}]({file})")
        figures[file] = partial(draw_features, network.name, stages, image, lai)
    return Chapter("## Feature maps (figures 13-16)", text, figures=figures)


def pivot(
    table: pd.DataFrame, rows: str, value: str, form: str, *, title: str, row_form: str = "{}"
) -> str:
    """Lay one value out, rows as in the table, networks side by side; nothing of no rows."""
    if table.empty:
        return ""
    wide = table.pivot(index=rows, columns="network", values=value)
    wide = wide.loc[table[rows].unique(), order_columns(table)]
    wide.insert(0, title, [row_form.format(key) for key in wide.index])
    return format_markdown(wide, dict.fromkeys(order_columns(table), form))
