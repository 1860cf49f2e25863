"""What an evaluation looks like: `report.md`, a CSV per table, PNG figures, in one folder.

The words around the numbers are for readers who know the paper (Albughdadi et al. 2020,
hal-02551143) and nothing else. Tables have a column per network and SL2P as the last.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from lai_training.evaluate import Evaluation, kinds_of
from lai_training.evaluate_networks import SL2P
from lai_training.evaluate_scenes import SIMULATED
from lai_training.evaluate_scores import CASES, CLEAN, NOISY, SAMPLES, Case
from lai_training.figures import draw_borders, draw_curves, draw_scatter
from lai_training.figures_maps import draw_features, draw_seams
from lai_training.validate_report import format_markdown
from lai_udf.rasters_files import disk_errors, move_finished, work_folder

TABLES = ("scores", "spread", "borders", "seams", "noise", "angles", "offset", "clouds")
IMAGES_SHOWN = 12
"""Rows of tables 5 and 6 in the report; the CSV holds all."""

_ROWS_OF_TABLE_4 = (
    ("correlation", "correlation r", "{:.4f}"),
    ("distance", "average Euclidean distance", "{:.4f}"),
    ("mse", "MSE", "{:.5f}"),
    ("r_squared", "R²", "{:.4f}"),
    ("bias", "bias", "{:+.4f}"),
    ("rmse", "RMSE", "{:.4f}"),
    ("ratio", "RMSE / RMSE of SL2P", "{:.2f}"),
)


def write_report(evaluation: Evaluation, folder: Path) -> Path:
    """Write the report; all files appear, or none.

    Returns:
        `report.md`.

    Raises:
        OutputNotWritableError: the folder or disk refuses.
    """
    with work_folder(folder) as work, disk_errors(folder):
        for name in TABLES:
            table: pd.DataFrame = getattr(evaluation, name)
            table.to_csv(work / f"{name}.csv", index=False, float_format="%.6g")
        figures = _draw(evaluation, work)
        (work / "report.md").write_text(format_report(evaluation, figures), encoding="utf-8")
        move_finished({path: folder / path.name for path in sorted(work.iterdir())})
    return folder / "report.md"


def _draw(evaluation: Evaluation, work: Path) -> dict[str, str]:
    """Draw all figures into a folder; return their captions by file name."""
    rng = np.random.default_rng(evaluation.seed)
    captions = {}
    for kind in kinds_of(evaluation):
        own = [result for result in evaluation.pixels if result.scene.kind == kind]
        draw_scatter(own, work / f"scatter_{kind}.png", against=SL2P, rng=rng)
        captions[f"scatter_{kind}.png"] = f"Against SL2P, {kind} scenes (figures 5-8)."
    known = [result for result in evaluation.pixels if result.true_lai is not None]
    draw_scatter(known, work / "scatter_truth.png", against="true LAI", rng=rng)
    captions["scatter_truth.png"] = "Against the true LAI of simulated scenes."
    draw_borders(evaluation.borders, work / "borders.png")
    draw_seams(evaluation.seam_maps, work / "seams.png")
    draw_curves(evaluation.noise, evaluation.offset, evaluation.clouds, work / "robustness.png")
    for number, (name, stages) in enumerate(evaluation.stages.items(), start=1):
        file = f"features_{number}.png"
        lai = evaluation.shown_lai[name]
        draw_features(name, stages, evaluation.shown, lai, work / file)
        captions[file] = f"Feature maps of {name} (figures 13-16)."
    return captions


def format_report(evaluation: Evaluation, figures: dict[str, str]) -> str:
    """Return the report in Markdown.

    Args:
        evaluation: the numbers.
        figures: caption by file name, of scatter plots and feature maps.
    """

    def show(start: str) -> list[str]:
        return [f"![{text}]({name})" for name, text in figures.items() if name.startswith(start)]

    parts = [
        _introduction(evaluation),
        "## Table 4: networks against SL2P, all images together",
        _explain_table_4(),
        *(_table_4(evaluation, kind, case) for kind in kinds_of(evaluation) for case in CASES),
        *show("scatter_simulated"),
        *show("scatter_real"),
        *_tables_5_and_6(evaluation),
        "## Against the true LAI of simulated scenes",
        _explain_truth(),
        *(_table_truth(evaluation, case) for case in (CLEAN, NOISY)),
        *show("scatter_truth"),
        "## Borders of parcels",
        _explain_borders(),
        _borders(evaluation),
        "![RMSE at borders and inside parcels](borders.png)",
        "## Seams and the origin of tiles",
        _explain_seams(),
        _pivot(evaluation.seams, "cut", "p99", "{:.2g}", evaluation),
        "Largest difference anywhere:",
        _pivot(evaluation.seams, "cut", "largest", "{:.2g}", evaluation),
        "![Maps of the seams](seams.png)",
        *_robustness(evaluation),
        "![Robustness curves](robustness.png)",
        "## Feature maps",
        "A stage is a layer at the end of a stretch of one resolution. Each channel is stretched "
        "from its 1st to its 99th percentile.",
        *show("features"),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _introduction(evaluation: Evaluation) -> str:
    scale = evaluation.scale
    pixels = evaluation.scores.query("image == 'all' and against == 'SL2P'")
    counts = pixels.groupby("kind", sort=False)["n"].max()
    described = ", ".join(f"{count} pixels of {kind} scenes" for kind, count in counts.items())
    runs = [network.name for network in evaluation.networks if not network.calibrated]
    lines = [
        "# Evaluation of networks against SL2P",
        f"Networks: {', '.join(network.name for network in evaluation.networks)}. SL2P is the "
        "network inside SNAP's biophysical processor (set 2_1), the teacher; in the paper it is "
        'called the ground truth. "Average distance" and R² are eq. 3-9 of the paper.',
        f"Scored are clear vegetated pixels (all bands between 0 and 0.8, B02 < 0.2, NDVI > 0.3, "
        f"16 px from the border of the image): {described}. Simulated scenes: {scale.scenes} of "
        f"{scale.size_px} x {scale.size_px} px, seed {evaluation.seed}, landscapes and spectra "
        "that no network was trained on.",
    ]
    if runs:
        lines.append(f"Not calibrated, so without intervals: {', '.join(runs)}.")
    return "\n\n".join(lines)


def _explain_table_4() -> str:
    return (
        "The reference is SL2P of the noise-free image at the angles that were given. The column "
        "SL2P is what SL2P makes of the same input as the networks: without noise the reference "
        "itself, with noise what a method gains nothing over that looks at single pixels. "
        f"σ is the standard deviation of {SAMPLES} Monte-Carlo draws, the interval of the mean "
        f"t σ / √{SAMPLES} with t = 2.045 (two-sided; the paper prints 1.699, one-sided). It says "
        "how well the mean of the draws is known, not how far the truth may lie. The paper's UNet "
        "against SNAP: r 0.99, distance 0.12, R² 0.97. Times are of this machine, one pass; SNAP "
        "took 15 minutes for a tile (30.1 million pixels), in the paper."
    )


def _columns(table: pd.DataFrame) -> list[str]:
    """Return the networks of a table, SL2P last."""
    names = [str(name) for name in dict.fromkeys(table["network"])]
    return sorted(names, key=lambda name: name == SL2P)


def _cell(value: float, form: str) -> str:
    return form.format(value) if math.isfinite(value) else ""


def _table_4(evaluation: Evaluation, kind: str, case: Case) -> str:
    chosen = evaluation.scores.query(
        "image == 'all' and against == 'SL2P' and kind == @kind and case == @case.key"
    )
    if chosen.empty:
        return ""
    by_network = chosen.set_index("network")
    base = by_network.loc[SL2P, "rmse"]
    by_network["ratio"] = by_network["rmse"] / base if base else math.nan
    names = _columns(chosen)
    rows = [
        [title, *(_cell(by_network.loc[name, key], form) for name in names)]
        for key, title, form in _ROWS_OF_TABLE_4
        if by_network[key].notna().any()
    ]
    if case is not NOISY:
        rows += _spread_rows(evaluation, kind, names)
    speed = by_network["seconds"] / by_network["pixels_timed"] * 1e6
    rows.append(["inference, s per million pixels", *(f"{speed[name]:.2f}" for name in names)])
    title = f"**{kind.capitalize()} scenes, {case.title}**"
    table = pd.DataFrame(rows, columns=["score", *names])
    return f"{title}\n\n{format_markdown(table)}"


def _spread_rows(evaluation: Evaluation, kind: str, names: Sequence[str]) -> list[list[str]]:
    """Return rows of σ and of the interval of the mean, over the images that were drawn on."""
    own = evaluation.spread[evaluation.spread["kind"] == kind]
    rows = []
    for key, title, form in (
        ("sd", "σ of 30 draws", "{:.3f}"),
        ("ci", "95 % interval of their mean, ±", "{:.3f}"),
        ("one_pass_correlation", "r of the one-pass σ with it", "{:.3f}"),
    ):
        means = {
            name: np.average(group[key], weights=group["n"])
            for name, group in own.groupby("network")
        }
        if np.isfinite(list(means.values())).any():
            rows.append([title, *(_cell(means.get(name, math.nan), form) for name in names)])
    return rows


def _tables_5_and_6(evaluation: Evaluation) -> list[str]:
    """Return a table per network as in the paper: a row per image."""
    parts = []
    for number, kind in zip(("5", "6"), kinds_of(evaluation), strict=False):
        parts += [
            f"## Table {number}: image by image, {kind} scenes",
            "Layout of the paper, one table per network. Angles are given where the images have "
            "them; no noise is added. Time is of one pass over the whole image and, in brackets, "
            f"of {SAMPLES} draws (the paper's 18 s are one draw).",
        ]
        for network in evaluation.networks:
            parts.append(f"**{network.name}**\n\n{_per_image(evaluation, kind, network.name)}")
    return parts


def _per_image(evaluation: Evaluation, kind: str, name: str) -> str:
    case = CLEAN.key if kind == SIMULATED or _has_clean(evaluation, kind) else "nominal"
    rows = evaluation.scores.query(
        "image != 'all' and against == 'SL2P' and kind == @kind and case == @case "
        "and network == @name"
    )
    spread = evaluation.spread.query("kind == @kind and network == @name")
    merged = rows.merge(spread[["image", "sd", "ci", "seconds_draws"]], on="image", how="left")
    merged["drawn"] = merged["sd"].notna()
    merged = merged.sort_values(["drawn", "n"], ascending=False, kind="stable")
    shown = pd.DataFrame(
        {
            "image": merged["image"],
            "pixels": merged["n"],
            "correlation": merged["correlation"].map("{:.4f}".format),
            "average distance": merged["distance"].map("{:.4f}".format),
            "MSE": merged["mse"].map("{:.5f}".format),
            "R²": merged["r_squared"].map("{:.4f}".format),
            "σ": merged["sd"].map(lambda value: _cell(value, "{:.3f}")),
            "CI ±": merged["ci"].map(lambda value: _cell(value, "{:.3f}")),
            "time, s": [
                f"{one:.2f}" + (f" ({many:.1f})" if math.isfinite(many) else "")
                for one, many in zip(merged["seconds"], merged["seconds_draws"], strict=True)
            ],
        }
    ).head(IMAGES_SHOWN)
    text = format_markdown(shown)
    if len(merged) > IMAGES_SHOWN:
        worst = merged["r_squared"].quantile(0.05)
        text += (
            f"\n\n{IMAGES_SHOWN} of {len(merged)} images; over all, the median distance is "
            f"{merged['distance'].median():.4f}, the median R² {merged['r_squared'].median():.4f} "
            f"(lowest 5 %: {worst:.3f}; images of little variance score low R² at small errors)."
        )
    return text


def _has_clean(evaluation: Evaluation, kind: str) -> bool:
    cases = evaluation.scores.query("kind == @kind")["case"]
    return bool((cases == CLEAN.key).any())


def _explain_truth() -> str:
    return (
        "What was on the ground is known here. No network can be closer to it than its teacher "
        "except by luck: networks learn what SL2P would say. The interval is the one calibrated "
        "on field pairs; its coverage of the simulated truth is a check, not its calibration."
    )


def _table_truth(evaluation: Evaluation, case: Case) -> str:
    chosen = evaluation.scores.query(
        "image == 'all' and against == 'true LAI' and case == @case.key"
    )
    names = _columns(chosen)
    by_network = chosen.set_index("network")
    rows = [
        [title, *(_cell(by_network.loc[name, key], form) for name in names)]
        for key, title, form in (
            ("rmse", "RMSE", "{:.3f}"),
            ("bias", "bias", "{:+.3f}"),
            ("correlation", "correlation r", "{:.3f}"),
            ("r_squared", "R²", "{:.3f}"),
            ("coverage", "true LAI inside the 95 % interval", "{:.1%}"),
            ("mean_width", "mean width of the interval", "{:.2f}"),
        )
        if by_network[key].notna().any()
    ]
    table = format_markdown(pd.DataFrame(rows, columns=["score", *names]))
    return f"**{case.title.capitalize()}**\n\n{table}"


def _explain_borders() -> str:
    return (
        "RMSE against SL2P of the noise-free image, within 1 px of another parcel and elsewhere. "
        "A network that smears edges does worse at borders than SL2P of the noisy image does."
    )


def _borders(evaluation: Evaluation) -> str:
    table = evaluation.borders.copy()
    places = {"border": "within 1 px of a border", "inside": "inside parcels"}
    titles = {case.key: case.title for case in CASES}
    table["input and place"] = table["case"].map(titles) + ", " + table["where"].map(places)
    return _pivot(table, "input and place", "rmse", "{:.4f}", evaluation)


def _explain_seams() -> str:
    return (
        "A scene is run uncut, in windows as openEO cuts it (core + overlap on each side), and "
        "with its first rows and columns taken away. Given is the 99th percentile of the absolute "
        "difference of LAI. Windows with enough overlap must not differ at all. A moved origin "
        "moves the grid of the poolings, which is felt by every network that pools."
    )


def _pivot(table: pd.DataFrame, rows: str, value: str, form: str, evaluation: Evaluation) -> str:
    """Lay the networks side by side, rows in the order of the table."""
    names = _columns(table)
    lines = []
    for key, own in table.groupby(rows, sort=False):
        values = own.set_index("network")[value]
        lines.append([str(key), *(_cell(values.get(name, math.nan), form) for name in names)])
    return format_markdown(pd.DataFrame(lines, columns=[rows.replace("_", " "), *names]))


def _robustness(evaluation: Evaluation) -> list[str]:
    offset = evaluation.offset
    guard = offset.drop_duplicates("x")
    told = [
        f"- offset {row.x:+g}: {'refused' if row.refused == 1 else 'partly refused'}. {row.says}"
        for row in guard.itertuples()
        if row.refused
    ]
    silent = ", ".join(f"{row.x:+g}" for row in guard.itertuples() if not row.refused and row.x)
    noise = evaluation.noise.rename(columns={"x": "noise level"})
    return [
        "## Robustness",
        "RMSE against SL2P of the noise-free, cloudless scene with all its angles.",
        "**Band noise** (1 = 3 % + 0.005)",
        _pivot(noise, "noise level", "rmse", "{:.3f}", evaluation),
        "**Angles withheld** (nominal ones take their place, for SL2P too)",
        _pivot(
            evaluation.angles.rename(columns={"x": "withheld"}),
            "withheld",
            "rmse",
            "{:.3f}",
            evaluation,
        ),
        "**An offset left in the reflectance**, the guard of the UDF switched off (bias in LAI; "
        "+0.1 is the offset of processing baseline 04.00 forgotten, -0.1 the same taken off twice)",
        _pivot(offset.rename(columns={"x": "offset"}), "offset", "bias", "{:+.2f}", evaluation),
        "With the guard on, the UDF says:\n\n" + "\n".join(told),
        f"It lets pass without a word: {silent}." if silent else "",
        "**Distance to the nearest masked pixel** (px, up to). `clouds`: the scene as seen, with "
        "thin cloud beyond the mask; SL2P sees it too. `holes`: the same mask over cloudless "
        "land, where all that is missing is neighbours.",
        *(_clouds(evaluation, view) for view in ("clouds", "holes")),
    ]


def _clouds(evaluation: Evaluation, view: str) -> str:
    own = evaluation.clouds[evaluation.clouds["view"] == view].copy()
    own[f"distance ({view})"] = own["x"].map(lambda x: f"{x:g}" if np.isfinite(x) else "more")
    return _pivot(own, f"distance ({view})", "rmse", "{:.3f}", evaluation)
