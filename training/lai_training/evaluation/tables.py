"""Tables of an evaluation in Markdown: a column per network, then SL2P, then the paper's own.

In: what `evaluation.scores` and others measured. Out: text, cells rounded for reading. The
CSV files hold what is left out here.
"""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from lai_training.evaluation.networks import SL2P
from lai_training.evaluation.scores import CLEAN, Case
from lai_training.reporting import format_cell, format_markdown, read_paper, read_words

IMAGES_SHOWN = 12
"""Rows of tables 5 and 6."""
LONGEST_NAME = 48

Rows = Sequence[tuple[str, str, str]]
"""Column of the data, its title, how its cells are printed."""

TABLE_4: Rows = (
    ("correlation", "correlation r", "{:.4f}"),
    ("distance", "average Euclidean distance", "{:.4f}"),
    ("mse", "MSE", "{:.5f}"),
    ("r_squared", "R²", "{:.4f}"),
    ("bias", "bias", "{:+.4f}"),
    ("rmse", "RMSE", "{:.4f}"),
    ("ratio", "RMSE / RMSE of SL2P", "{:.2f}"),
)
SPREAD: Rows = (
    ("sd", "sigma of 30 draws", "{:.3f}"),
    ("ci", "95 % interval of their mean, ±", "{:.3f}"),
    ("one_pass_correlation", "r of the one-pass sigma with it", "{:.3f}"),
)
SPEED: Rows = (("speed", "inference, s of processor time per million pixels", "{:.2f}"),)
PAPER_COLUMNS = {"MLP": "paper: MLP", "UNet": "paper: UNet"}
"""Columns of the paper's own table 4: T31TCK, six dates of 2017, against SNAP."""
PAPER_TABLES = {5: "T30TYM, 2017", 6: "T30TYT, 2018"}
IMAGE_FORMS = {
    "correlation": "{:.4f}",
    "average distance": "{:.4f}",
    "MSE": "{:.5f}",
    "R²": "{:.4f}",
    "sigma": "{:.3f}",
    "CI ±": "{:.3f}",
    "one pass, s": "{:.2f}",
    "30 draws, s": "{:.1f}",
}


def order_columns(table: pd.DataFrame) -> list[str]:
    """Return the networks of a table as they come, SL2P last."""
    names = [str(name) for name in dict.fromkeys(table["network"])]
    return sorted(names, key=lambda name: name == SL2P)


def format_table_4(scores: pd.DataFrame, spread: pd.DataFrame | None, kind: str, case: Case) -> str:
    """Return scores against SL2P over all images of a kind; nothing where there are none.

    `spread` is what `tabulate_spread` measured; None: the table goes without sigma.
    """
    chosen = _choose(scores, kind=kind, case=case.key, image="all").copy()
    if chosen.empty:
        return ""
    rmse = dict(zip(chosen["network"], chosen["rmse"], strict=True))
    chosen["ratio"] = [each / rmse[SL2P] if rmse[SL2P] else math.nan for each in chosen["rmse"]]
    chosen["speed"] = chosen["seconds"] / chosen["pixels_timed"] * 1e6
    names, rows = order_columns(chosen), [*TABLE_4, *SPEED]
    if case is CLEAN:  # the input of the draws, and what the paper scores
        if spread is not None:
            chosen, rows = chosen.merge(_mean_spread(spread, kind), how="left"), [*rows, *SPREAD]
        means = read_paper("images").query("table == 4").groupby("network").mean(numeric_only=True)
        paper = means.reset_index().replace({"network": PAPER_COLUMNS})
        chosen, names = pd.concat([chosen, paper]), [*names, *PAPER_COLUMNS.values()]
    return f"**{kind.capitalize()} scenes, {case.title}**\n\n{lay_out(chosen, rows, names)}"


def format_images(scores: pd.DataFrame, spread: pd.DataFrame, kind: str, name: str) -> str:
    """Return the scores of one network image by image, as the paper's tables 5 and 6."""
    images = _choose(scores, kind=kind, network=name, case=CLEAN.key)
    images = images[images["image"] != "all"]
    drawn = _choose(spread, kind=kind, network=name)[["image", "sd", "ci", "seconds_draws"]]
    merged = images.merge(drawn, on="image", how="left")
    merged["drawn"] = merged["sd"].notna()
    merged = merged.sort_values(["drawn", "n"], ascending=False, kind="stable")
    text = _format_images(merged.head(IMAGES_SHOWN))
    if len(merged) > IMAGES_SHOWN:
        text += "\n\n" + read_words()["images left out"].format(
            shown=IMAGES_SHOWN,
            images=len(merged),
            distance=merged["distance"].median(),
            r2=merged["r_squared"].median(),
            low_r2=merged["r_squared"].quantile(0.05),
        )
    return text


def format_paper_images(number: int) -> str:
    """Return table 5 or 6 as the paper has it: its UNet against SNAP."""
    images = read_paper("images").query("table == @number", local_dict={"number": number})
    images = images.rename(columns={"date": "image"}).assign(n="20,000", seconds_draws=math.nan)
    title = f"**The paper's own table {number}: UNet, {PAPER_TABLES[number]}**"
    return f"{title}\n\n{_format_images(images)}"


def _format_images(table: pd.DataFrame) -> str:
    columns = [
        "correlation",
        "distance",
        "mse",
        "r_squared",
        "sd",
        "ci",
        "seconds",
        "seconds_draws",
    ]
    titles = {"n": "pixels", **dict(zip(columns, IMAGE_FORMS, strict=True))}
    shown = table[["image", *titles]].rename(columns=titles)
    return format_markdown(shown.assign(image=shown["image"].map(_shorten)), IMAGE_FORMS)


def lay_out(table: pd.DataFrame, rows: Rows, names: Sequence[str]) -> str:
    """Return a line per row that any network has a value for: title, then a cell per network."""
    lines = []
    for column, title, form in rows:
        values = dict(zip(table["network"], table[column], strict=True))
        if np.isfinite(list(values.values())).any():
            cells = [format_cell(float(values.get(name, math.nan)), form) for name in names]
            lines.append([title, *cells])
    return format_markdown(pd.DataFrame(lines, columns=["score", *names]))


def _shorten(name: str) -> str:
    """Return a name that fits into a table; the CSV has it whole."""
    return name if len(name) <= LONGEST_NAME else f"{name[:16]}...{name[19 - LONGEST_NAME :]}"


def _choose(table: pd.DataFrame, **wanted: str) -> pd.DataFrame:
    """Return the rows whose columns have the wanted values."""
    return table[(table[list(wanted)] == pd.Series(wanted)).all(axis=1)]


def _mean_spread(spread: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Average the spread of each network over images, weighted by their pixels."""
    rows = [
        {"network": name}
        | {key: np.average(images[key], weights=images["n"]) for key, _, _ in SPREAD}
        for name, images in _choose(spread, kind=kind).groupby("network", sort=False)
    ]
    return pd.DataFrame(rows, columns=["network", *(key for key, _, _ in SPREAD)])
