"""What a validation looks like: Markdown for people, CSV for programs, figures for both.

Input: `validate.Validation`. Output: chapters of a report (`lai_training.reporting`). Colours and
marks of the figures differ, so that they can be read in grey.
"""

import itertools
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lai_training.calibration.validate import Validation
from lai_training.reporting import Chapter, format_markdown, read_words

_CRITERIA = ("LAI", "predicted LAI", "source", "region", "site", "crop")
_DASH = "-"
_MARKS = "osD^vP*X<>hd"
_LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1)))
_AGREEMENT = {
    "within 0.5 or 20 %": "within_0.5_or_20%",
    "GCOS threshold": "within_gcos_threshold",
    "GCOS goal": "within_gcos_goal",
}


def describe(validation: Validation) -> list[Chapter]:
    """Return the chapters of the report."""
    site_dates = validation.predictions["site_date"].nunique()
    pairs = len(validation.predictions)
    summary = read_words()["validation"].format(pairs=pairs, site_dates=site_dates)
    accuracy = format_markdown(_format_accuracy(validation.accuracy))
    tables = {
        name: table
        for name, table in vars(validation).items()
        if isinstance(table, pd.DataFrame) and not table.empty
    }
    scatter = {"scatter.png": partial(draw_scatter, validation.predictions)}
    chapters = [Chapter("# LAI against field measurements", [summary, accuracy], tables, scatter)]
    if not validation.uncertainty.empty:
        text = [
            read_words()["stated uncertainty"],
            format_markdown(_format_uncertainty(validation.uncertainty)),
        ]
        figures = {"uncertainty.png": partial(draw_uncertainty, validation)}
        chapters.append(Chapter("## Stated uncertainty", text, figures=figures))
    chapters.append(Chapter("## Floor", [validation.floor]))
    for criterion in _CRITERIA:
        rows = validation.subsets[validation.subsets["by"] == criterion]
        text = ["RMSE, bias:", _side_by_side(rows, criterion, _format_errors)]
        stated = rows[rows["predictor"].isin(validation.uncertainty.get("predictor", []))]
        if not stated.empty:
            text.append("Coverage and width of the 95 % interval, CRPS:")
            text.append(_side_by_side(stated, criterion, _format_interval))
        chapters.append(Chapter(f"## By {criterion}", text))
    return chapters


def _format_accuracy(table: pd.DataFrame) -> pd.DataFrame:
    shown = {"predictor": table["predictor"], "n": table["n"]}
    for name in ("rmse", "bias", "r2"):
        shown[name] = table.apply(_with_limits, axis=1, name=name, how=".2f")
    shown["R2"] = table["R2"].map("{:.2f}".format)
    agreement = {title: table[name].map("{:.0%}".format) for title, name in _AGREEMENT.items()}
    return pd.DataFrame(shown | agreement)


def _format_uncertainty(table: pd.DataFrame) -> pd.DataFrame:
    shown: dict[str, object] = {"predictor": table["predictor"]}
    for level in ("50%", "68%", "90%"):
        for what, how in (("coverage", ".0%"), ("width", ".2f")):
            column = table.get(f"{what}_{level}", pd.Series(math.nan, table.index))
            shown[f"{what} {level}"] = [_show(value, how) for value in column]
    shown["coverage 95%"] = table.apply(_with_limits, axis=1, name="coverage_95%", how=".0%")
    shown["width 95%"] = [_show(value, ".2f") for value in table["width_95%"]]
    shown["CRPS"] = table.apply(_with_limits, axis=1, name="crps", how=".2f")
    ranks = table.apply(_with_limits, axis=1, name="rank_correlation", how=".2f")
    return pd.DataFrame(shown | {"rank correlation": ranks, "rests on": table["note"]})


def _with_limits(row: pd.Series, name: str, how: str) -> str:
    parts = [_show(row.get(f"{name}{end}"), how) for end in ("", "_low", "_high")]
    return _DASH if parts[0] == _DASH else f"{parts[0]} [{parts[1]}, {parts[2]}]"


def _show(value: float | None, how: str) -> str:
    return _DASH if value is None or math.isnan(value) else format(value, how)


def _format_errors(row: pd.Series) -> str:
    text = f"{row['rmse']:.2f}, {row['bias']:+.2f}"
    return f"{text} (n {row['n']:.0f})" if row["by"] == "predicted LAI" else text


def _format_interval(row: pd.Series) -> str:
    forms = {"coverage_95%": ".0%", "width_95%": ".2f", "crps": ".2f"}
    return ", ".join(_show(row[name], how) for name, how in forms.items())


def _side_by_side(rows: pd.DataFrame, criterion: str, cell: Callable[[pd.Series], str]) -> str:
    """Lay the predictors side by side, a row per subset."""
    subsets = rows.drop_duplicates("subset")
    if criterion == "predicted LAI":  # each predictor has rows of its own there
        shown = {criterion: sorted(subsets["subset"], key=lambda name: name.strip(">= "))}
    else:
        shown = {criterion: subsets["subset"].tolist(), "n": subsets["n"].astype(str).tolist()}
    for name, of_predictor in rows.groupby("predictor", sort=False):
        cells = of_predictor.set_index("subset").apply(cell, axis=1)
        shown[str(name)] = [cells.get(subset, _DASH) for subset in shown[criterion]]
    return format_markdown(pd.DataFrame(shown))


def draw_scatter(predictions: pd.DataFrame, path: Path) -> None:
    """Draw predicted against measured LAI, a panel per predictor, a symbol per site."""
    from matplotlib.figure import Figure  # the commands that draw nothing start without it

    fixed = ["source", "site", "site_date", "crop", "lai"]
    names = [name for name in predictions.columns if name not in fixed]
    columns = len(names) if len(names) < 4 else math.ceil(math.sqrt(len(names)))
    rows = math.ceil(len(names) / columns)
    top = math.ceil(float(predictions[["lai", *names]].max().max()))
    bottom = min(0.0, float(predictions[names].min().min()))
    figure = Figure(figsize=(3.6 * columns + 2.2, 3.6 * rows + 0.4), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    line = np.linspace(0, top, 100)
    for panel, name in zip(panels, names, strict=False):
        allowed = np.maximum(0.5, 0.2 * line)
        panel.fill_between(line, line - allowed, line + allowed, color="0.9", label="0.5 or 20 %")
        panel.plot(line, line, color="0.3", linewidth=1)
        sites = predictions.groupby("site")
        for marker, (site, group) in zip(itertools.cycle(_MARKS), sites, strict=False):
            panel.plot(group["lai"], group[name], marker, markersize=4, alpha=0.7, label=site)
        panel.set(xlim=(0, top), ylim=(bottom, top))
        panel.set_title(name, fontsize=11)
        panel.set_aspect("equal", adjustable="box")
    for panel in panels[len(names) :]:
        panel.set_axis_off()
    figure.supxlabel("measured LAI (m² m⁻²)")
    figure.supylabel("predicted LAI (m² m⁻²)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize="small", frameon=False)
    figure.savefig(path, dpi=130)


def draw_uncertainty(validation: Validation, path: Path) -> None:
    """Draw nominal against counted coverage, and the 95 % interval by measured LAI."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.9), layout="constrained")
    curve, covered, wide = figure.subplots(1, 3)
    bins = validation.subsets[validation.subsets["by"] == "LAI"]
    lines, marks = itertools.cycle(_LINES), itertools.cycle(_MARKS)
    curve.plot([0, 100], [0, 100], color="0.6", linewidth=1)
    for name, line, mark in zip(validation.uncertainty["predictor"], lines, marks, strict=False):
        style: dict[str, Any] = {"linestyle": line, "marker": mark, "markersize": 4, "label": name}
        reliability = validation.reliability[validation.reliability["predictor"] == name]
        curve.plot(100 * reliability["level"], 100 * reliability["coverage"], **style)
        binned = bins[bins["predictor"] == name]
        covered.plot(binned["subset"], 100 * binned["coverage_95%"], **style)
        wide.plot(binned["subset"], binned["width_95%"], **style)
    covered.axhline(95, color="0.6", linewidth=1)
    curve.set(xlabel="nominal level (%)", ylabel="measurements inside (%)")
    curve.set(xlim=(0, 100), ylim=(0, 100), aspect="equal")
    covered.set(xlabel="measured LAI (m² m⁻²)", ylabel="inside the 95 % interval (%)")
    covered.set(ylim=(0, 103))
    wide.set(xlabel="measured LAI (m² m⁻²)", ylabel="width of the 95 % interval (m² m⁻²)")
    wide.set(ylim=(0, None))
    handles, labels = curve.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(path, dpi=130)
