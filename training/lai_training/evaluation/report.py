"""What an evaluation looks like: `report.md`, a CSV per table, PNG figures, in one folder.

The words around the numbers are for readers who know the paper (Albughdadi et al. 2020,
hal-02551143) and nothing else.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from lai_training.evaluation.evaluate import Evaluation, kinds_of
from lai_training.evaluation.figures import draw_curves, draw_scatter
from lai_training.evaluation.figures_maps import draw_features, draw_seams
from lai_training.evaluation.networks import SL2P
from lai_training.evaluation.real_imagery import Chapter
from lai_training.evaluation.scores import CASES, CLEAN, NOISY, SAMPLES
from lai_training.evaluation.tables import (
    format_borders,
    format_images,
    format_paper_images,
    format_table_4,
    format_truth,
    pivot,
)
from lai_training.reporting import format_markdown, write_files

REPORT = "report.md"
TABLES = ("scores", "spread", "borders", "seams", "noise", "angles", "offset", "clouds")

TABLE_4 = (
    "The reference is SL2P of the noise-free image at the angles that were given. The column SL2P "
    "is what SL2P makes of the same input as the networks: without noise the reference itself, "
    "with noise what any method must beat that gains something from neighbours. Sigma is the "
    f"standard deviation of {SAMPLES} Monte-Carlo draws; the interval of their mean is "
    f"t sigma / sqrt({SAMPLES}) with t = 2.045 (two-sided 95 %; the paper prints 1.699, one-sided) "
    "and says how well the mean of the draws is known, not how far the truth may lie. Columns "
    "of the paper: means of its table 4 (T31TCK, six dates of 2017, 20,000 pixels each), against "
    "SNAP. Times are of one pass, compute only; small images cost more per pixel, since their "
    "borders are computed too. SNAP took 15 minutes for a tile of 30.1 million pixels in the "
    "paper, reading and writing included."
)
IMAGES = (
    "Layout of the paper, one table per network. Angles are given, no noise is added. "
    f"The {SAMPLES} draws are what sigma costs: the paper's 18 s are one draw."
)
TRUTH = (
    "What was on the ground is known here. Networks learn what SL2P would say of noise-free land, "
    "so they inherit its errors; only under noise may they come closer to the truth than SL2P "
    "does. The interval is the one calibrated on field pairs: its coverage of the simulated truth "
    "is a check, not what it was made for."
)
BORDERS = (
    "RMSE against SL2P of the noise-free image. Border: within 1 px of another parcel; in real "
    "scenes, whose parcels nobody knows, the tenth of the pixels with the strongest contrast in "
    "B8A within 3x3 px. Inside: all others. A network that smears edges does worse at borders than "
    "SL2P of the same noisy image."
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


def write_report(evaluation: Evaluation, folder: Path, chapters: Sequence[Chapter] = ()) -> Path:
    """Write the report; all files appear, or none.

    Args:
        evaluation: the numbers.
        folder: where to; made if missing.
        chapters: on real imagery, before the others.

    Returns:
        `report.md`.

    Raises:
        OutputNotWritableError: the folder or disk refuses.
    """
    tables = {name: getattr(evaluation, name) for name in TABLES}
    tables |= {chapter.name: chapter.table for chapter in chapters}

    def draw(work: Path) -> None:
        _draw(evaluation, work)
        for chapter in chapters:
            if chapter.draw:
                chapter.draw(work / f"{chapter.name}.png")

    write_files(folder, tables, {REPORT: format_report(evaluation, chapters)}, draw)
    return folder / REPORT


def _draw(evaluation: Evaluation, work: Path) -> None:
    """Draw the figures of simulated and real scenes into a folder."""
    rng = np.random.default_rng(evaluation.seed)
    for kind in kinds_of(evaluation):
        own = [result for result in evaluation.pixels if result.scene.kind == kind]
        draw_scatter(own, work / f"scatter_{kind}.png", against=SL2P, rng=rng)
    known = [result for result in evaluation.pixels if result.true_lai is not None]
    draw_scatter(known, work / "scatter_truth.png", against="true LAI", rng=rng)
    draw_seams(evaluation.seam_maps, work / "seams.png")
    draw_curves(evaluation.noise, evaluation.offset, evaluation.clouds, work / "robustness.png")
    for number, (name, stages) in enumerate(evaluation.stages.items(), start=1):
        lai = evaluation.shown_lai[name]
        draw_features(name, stages, evaluation.shown, lai, work / f"features_{number}.png")


def format_report(evaluation: Evaluation, chapters: Sequence[Chapter] = ()) -> str:
    """Return the report in Markdown."""
    scores, spread, kinds = evaluation.scores, evaluation.spread, kinds_of(evaluation)
    images = [
        f"![Estimates against SL2P, {kind} scenes](scatter_{kind}.png)\n\n*Figures 5-8 of the "
        f"paper: 20,000 random pixels of {kind} scenes, coloured by density.*"
        for kind in kinds
    ]
    maps = [
        f"![Feature maps of {name}](features_{number}.png)"
        for number, name in enumerate(evaluation.stages, start=1)
    ]
    parts = [
        *_introduce(evaluation),
        "## Table 4: networks against SL2P, all images together",
        TABLE_4,
        *(format_table_4(scores, spread, kind, case) for kind in kinds for case in CASES),
        *images,
        *_tables_5_and_6(evaluation),
        *(_format_chapter(chapter) for chapter in chapters),
        "## Against the true LAI of simulated scenes",
        TRUTH,
        *(format_truth(scores, case) for case in (CLEAN, NOISY)),
        "![Estimates against true LAI](scatter_truth.png)",
        "## Borders of parcels",
        BORDERS,
        format_borders(evaluation.borders),
        "## Seams and the origin of tiles",
        SEAMS,
        pivot(evaluation.seams, "cut", "p99", "{:.2g}", title="cut"),
        "Largest difference anywhere:",
        pivot(evaluation.seams, "cut", "largest", "{:.2g}", title="cut"),
        "![Maps of the seams](seams.png)",
        *_robustness(evaluation),
        "## Feature maps (figures 13-16)",
        FEATURES,
        *maps,
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _format_chapter(chapter: Chapter) -> str:
    parts = [f"## {chapter.title}", chapter.words, format_markdown(chapter.table.round(4))]
    if chapter.draw:
        parts.append(f"![{chapter.title}]({chapter.name}.png)")
    return "\n\n".join(parts)


def _introduce(evaluation: Evaluation) -> list[str]:
    scale = evaluation.scale
    names = [network.name for network in evaluation.networks]
    uncalibrated = [network.name for network in evaluation.networks if not network.calibrated]
    counts = {
        kind: {
            result.scene.name: int(result.scene.scored.sum())
            for result in evaluation.pixels
            if result.scene.kind == kind
        }
        for kind in kinds_of(evaluation)
    }
    described = ", ".join(
        f"{sum(own.values()):,} pixels of {len(own)} {kind} scenes (the largest holds "
        f"{max(own.values()) / sum(own.values()):.0%} of them)"
        for kind, own in counts.items()
    )
    return [
        "# Evaluation of networks against SL2P",
        f"Networks: {', '.join(names)}. SL2P is the network inside SNAP's biophysical processor "
        "(set 2_1), the teacher; the paper calls its output the ground truth. Scores are eq. 3-9 "
        "of the paper, LAI in m² m⁻².",
        "Scored are clear vegetated pixels (all bands between 0 and 0.8, B02 < 0.2, NDVI > 0.3, "
        f"16 px from the border of the image): {described}. Simulated scenes have "
        f"{scale.size_px} x {scale.size_px} px, seed {evaluation.seed}; landscapes and spectra are "
        "not those that networks were trained on. Real scenes without angle bands are given the "
        "sun's angles by time and place, and view angles drawn within the swath.",
        f"Not calibrated, so without intervals: {', '.join(uncalibrated)}." if uncalibrated else "",
    ]


def _tables_5_and_6(evaluation: Evaluation) -> list[str]:
    parts = []
    for number, kind in enumerate(kinds_of(evaluation), start=5):
        parts += [f"## Table {number}: image by image, {kind} scenes", IMAGES]
        for network in evaluation.networks:
            table = format_images(evaluation.scores, evaluation.spread, kind, network.name)
            parts.append(f"**{network.name}**\n\n{table}")
        parts.append(format_paper_images(number))
    return parts


def _robustness(evaluation: Evaluation) -> list[str]:
    clouds = evaluation.clouds
    return [
        "## Robustness",
        "RMSE against SL2P of the noise-free, cloudless scene with all its angles.",
        "**Band noise** (1 = as pairs of real dates show it, correlated between bands)",
        pivot(evaluation.noise, "x", "rmse", "{:.3f}", title="level", row_form="{:g}"),
        *_coverage(evaluation.noise.dropna(subset="coverage")),
        "**Angles withheld** (nominal ones take their place, for SL2P too)",
        pivot(evaluation.angles, "x", "rmse", "{:.3f}", title="withheld"),
        "**An offset left in the reflectance**: bias of LAI. "
        "+0.1 is the offset of processing baseline 04.00 forgotten, -0.1 the same taken off twice.",
        pivot(evaluation.offset, "x", "bias", "{:+.2f}", title="offset", row_form="{:+g}"),
        *_guard(evaluation.offset),
        CLOUDS,
        *(
            pivot(
                clouds[clouds["view"] == view],
                "x",
                "rmse",
                "{:.3f}",
                title=f"{view}, px",
                row_form="{:g}",
            ).replace("| inf |", "| more |")
            for view in ("clouds", "holes")
        ),
        "![Robustness curves](robustness.png)",
    ]


def _coverage(noise: pd.DataFrame) -> list[str]:
    """Return what the intervals of calibrated networks hold under noise."""
    if noise.empty:
        return []
    return [
        "Share of true LAI inside the calibrated 95 % interval:",
        pivot(noise, "x", "coverage", "{:.1%}", title="level", row_form="{:g}"),
    ]


def _guard(offset: pd.DataFrame) -> list[str]:
    """Return what the UDF's guard says of each offset."""
    steps = offset.drop_duplicates("x")
    told, silent = [], []
    for x, refused, says in zip(steps["x"], steps["refused"], steps["says"], strict=True):
        if refused:
            told.append(f"- {x:+g} ({refused:.0%} of the scenes refused): {says}")
        elif x:
            silent.append(f"{x:+g}")
    return [
        "The guard of whole scenes refuses:\n\n" + "\n".join(told) if told else "",
        f"The guard lets pass: {', '.join(silent)}." if silent else "",
    ]
