"""Figures of a validation: predicted against measured LAI, and what the intervals hold.

Input: the tables of `validate.Validation`. Output: PNG files. Colours and marks differ, so
that the figures can be read in grey.
"""

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lai_training.calibration.validate import Validation

_MARKS = "osD^vP*X<>hd"
_LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1)))


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
        own = validation.reliability[validation.reliability["predictor"] == name]
        curve.plot(100 * own["level"], 100 * own["coverage"], **style)
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
