"""Tables of an evaluation in Markdown: a column per network, SL2P last; cells rounded for reading.

In: the tables of `evaluate.Evaluation`. Out: text. The CSV files hold what is left out here.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lai_training.evaluation.networks import SL2P
from lai_training.evaluation.scores import CLEAN, Case
from lai_training.scores.markdown import format_markdown

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
SPEED: Rows = (
    ("speed", "inference, s per million pixels", "{:.2f}"),
    ("cpu_speed", "the same, s of processor time", "{:.2f}"),
)
TRUTH: Rows = (
    ("rmse", "RMSE", "{:.3f}"),
    ("bias", "bias", "{:+.3f}"),
    ("correlation", "correlation r", "{:.3f}"),
    ("r_squared", "R²", "{:.3f}"),
    ("coverage", "true LAI inside the 95 % interval", "{:.1%}"),
    ("mean_width", "mean width of the interval", "{:.2f}"),
)


def order_columns(table: pd.DataFrame) -> list[str]:
    """Return the networks of a table as they come, SL2P last."""
    names = [str(name) for name in dict.fromkeys(table["network"])]
    return sorted(names, key=lambda name: name == SL2P)


def format_table_4(scores: pd.DataFrame, spread: pd.DataFrame, kind: str, case: Case) -> str:
    """Return scores against SL2P over all images of a kind; nothing where there are none."""
    chosen = _choose(scores, kind=kind, case=case.key, against="SL2P", image="all").copy()
    if chosen.empty:
        return ""
    rmse = dict(zip(chosen["network"], chosen["rmse"], strict=True))
    chosen["ratio"] = [own / rmse[SL2P] if rmse[SL2P] else math.nan for own in chosen["rmse"]]
    for name, taken in (("speed", "seconds"), ("cpu_speed", "cpu_seconds")):
        chosen[name] = chosen[taken] / chosen["pixels_timed"] * 1e6
    names = order_columns(chosen)
    lines = lay_out(chosen, TABLE_4, names)
    if case is CLEAN:  # the input of the draws
        lines += lay_out(_mean_spread(spread, kind), SPREAD, names)
    lines += lay_out(chosen, SPEED, names)
    table = format_markdown(pd.DataFrame(lines, columns=["score", *names]))
    return f"**{kind.capitalize()} scenes, {case.title}**\n\n{table}"


def format_truth(scores: pd.DataFrame, case: Case) -> str:
    """Return scores against the true LAI of simulated scenes."""
    chosen = _choose(scores, case=case.key, against="true LAI", image="all")
    names = order_columns(chosen)
    table = pd.DataFrame(lay_out(chosen, TRUTH, names), columns=["score", *names])
    return f"**{case.title.capitalize()}**\n\n{format_markdown(table)}"


def format_images(scores: pd.DataFrame, spread: pd.DataFrame, kind: str, name: str) -> str:
    """Return the scores of one network image by image, as the paper's tables 5 and 6."""
    own = _choose(scores, kind=kind, network=name, against="SL2P", case=CLEAN.key)
    own = own[own["image"] != "all"]
    drawn = _choose(spread, kind=kind, network=name)[["image", "sd", "ci", "seconds_draws"]]
    merged = own.merge(drawn, on="image", how="left")
    merged["drawn"] = merged["sd"].notna()
    merged = merged.sort_values(["drawn", "n"], ascending=False, kind="stable")
    columns = {
        "image": merged["image"].map(_shorten),
        "pixels": merged["n"].map(str),
        "correlation": merged["correlation"].map(_print("{:.4f}")),
        "average distance": merged["distance"].map(_print("{:.4f}")),
        "MSE": merged["mse"].map(_print("{:.5f}")),
        "R²": merged["r_squared"].map(_print("{:.4f}")),
        "sigma": merged["sd"].map(_print("{:.3f}")),
        "CI ±": merged["ci"].map(_print("{:.3f}")),
        "one pass, s": merged["seconds"].map(_print("{:.2f}")),
        "30 draws, s": merged["seconds_draws"].map(_print("{:.1f}")),
    }
    text = format_markdown(pd.DataFrame(columns).head(IMAGES_SHOWN))
    if len(merged) > IMAGES_SHOWN:
        text += (
            f"\n\n{IMAGES_SHOWN} of {len(merged)} images. Over all of them the median distance is "
            f"{merged['distance'].median():.4f}, the median R² {merged['r_squared'].median():.4f}; "
            f"a twentieth has R² below {merged['r_squared'].quantile(0.05):.3f} (images of little "
            "variance score a low R² at small errors)."
        )
    return text


def format_borders(borders: pd.DataFrame) -> str:
    """Return RMSE at borders and away from them, a row per kind of scene, case and place."""
    titles = {"clean": "angles given", "nominal": "angles not given", "noisy": "band noise"}
    rows = borders["kind"] + ", " + borders["case"].map(titles) + ", " + borders["where"]
    return pivot(borders.assign(row=rows), "row", "rmse", "{:.4f}", title="scenes, input, place")


def pivot(
    table: pd.DataFrame, rows: str, value: str, form: str, *, title: str, row_form: str = "{}"
) -> str:
    """Lay one value out, rows in the order of the table, networks side by side."""
    names = order_columns(table)
    lines = []
    for key, own in table.groupby(rows, sort=False):
        values = dict(zip(own["network"], own[value], strict=True))
        cells = [print_cell(values.get(name, math.nan), form) for name in names]
        lines.append([row_form.format(key), *cells])
    return format_markdown(pd.DataFrame(lines, columns=[title, *names]))


def lay_out(table: pd.DataFrame, rows: Rows, names: Sequence[str]) -> list[list[str]]:
    """Return a line per row that any network has a value for: title, then a cell per network."""
    lines = []
    for column, title, form in rows:
        values = dict(zip(table["network"], table[column], strict=True))
        if np.isfinite(list(values.values())).any():
            cells = [print_cell(values.get(name, math.nan), form) for name in names]
            lines.append([title, *cells])
    return lines


def print_cell(value: float, form: str) -> str:
    """Return a number as text; an empty cell where there is none."""
    return form.format(value) if math.isfinite(value) else ""


def _shorten(name: str) -> str:
    """Return a name that fits into a table; the CSV has it whole."""
    return name if len(name) <= LONGEST_NAME else f"{name[:16]}...{name[19 - LONGEST_NAME :]}"


def _print(form: str) -> Callable[[float], str]:
    return lambda value: print_cell(value, form)


def _choose(table: pd.DataFrame, **wanted: str) -> pd.DataFrame:
    """Return the rows whose columns have the wanted values."""
    chosen = np.ones(len(table), dtype=bool)
    for column, value in wanted.items():
        chosen &= (table[column] == value).to_numpy()
    return table[chosen]


def _mean_spread(spread: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Average the spread of each network over images, weighted by their pixels."""
    rows: list[Mapping[str, Any]] = []
    for name, own in _choose(spread, kind=kind).groupby("network", sort=False):
        means = {key: np.average(own[key], weights=own["n"]) for key, _, _ in SPREAD}
        rows.append({"network": name, **means})
    return pd.DataFrame(rows, columns=["network", *(key for key, _, _ in SPREAD)])
