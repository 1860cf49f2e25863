"""What a validation looks like: Markdown for people, CSV for programs, a figure for both.

Comes in: `validate.Validation`. Goes out: text, and files in one folder that appear when all of
them are written.
"""

import itertools
import math
from pathlib import Path

import numpy as np
import pandas as pd

from lai_training.validate import Validation
from lai_udf.rasters_files import move_finished, work_folder

_CRITERIA = ("LAI", "source", "site", "crop")


def format_report(validation: Validation) -> str:
    """Return the tables as Markdown."""
    site_dates = validation.predictions["site_date"].nunique()
    parts = [
        "# LAI against field measurements",
        f"{len(validation.predictions)} pairs of {site_dates} site-dates. In brackets: 95 % limits "
        "of a bootstrap by site-date. r2 is the squared correlation, R2 = 1 - SSE/SST. GCOS: "
        "within the 2-sigma requirement of GCOS-244 (2022), threshold and goal.",
        format_markdown(_format_accuracy(validation.accuracy)),
    ]
    if not validation.uncertainty.empty:
        parts += ["## Stated uncertainty", format_markdown(_round(validation.uncertainty))]
    for criterion in _CRITERIA:
        rows = validation.subsets[validation.subsets["by"] == criterion]
        parts += [f"## By {criterion}", format_markdown(_pivot(rows, criterion))]
    return "\n\n".join(parts) + "\n"


def format_markdown(table: pd.DataFrame) -> str:
    """Return a table as Markdown; cells are printed as they are."""
    rows = [[str(name) for name in table.columns]]
    rows += [["---"] * len(rows[0])]
    rows += [[str(cell).replace("|", "/") for cell in row] for row in table.itertuples(index=False)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def write_report(validation: Validation, folder: Path) -> list[Path]:
    """Write `report.md`, a CSV per table and `scatter.png`; all of them appear, or none.

    Raises:
        OutputNotWritableError: the folder or disk refuses.
    """
    tables = {
        "accuracy": validation.accuracy,
        "uncertainty": validation.uncertainty,
        "subsets": validation.subsets,
        "predictions": validation.predictions,
    }
    with work_folder(folder) as work:
        for name, table in tables.items():
            if not table.empty:
                table.to_csv(work / f"{name}.csv", index=False, float_format="%.6g")
        (work / "report.md").write_text(format_report(validation), encoding="utf-8")
        draw_scatter(validation.predictions, work / "scatter.png")
        files = {path: folder / path.name for path in sorted(work.iterdir())}
        move_finished(files)
    return list(files.values())


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
        for marker, (site, group) in zip(itertools.cycle("osD^vP*X<>hd"), sites, strict=False):
            panel.plot(group["lai"], group[name], marker, markersize=4, alpha=0.7, label=site)
        panel.set(title=name, xlim=(0, top), ylim=(bottom, top))
        panel.set_aspect("equal", adjustable="box")
    for panel in panels[len(names) :]:
        panel.set_axis_off()
    figure.supxlabel("measured LAI (m² m⁻²)")
    figure.supylabel("predicted LAI (m² m⁻²)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize="small", frameon=False)
    figure.savefig(path, dpi=130)


def _format_accuracy(table: pd.DataFrame) -> pd.DataFrame:
    def with_limits(row: pd.Series, name: str) -> str:
        return f"{row[name]:.2f} [{row[f'{name}_low']:.2f}, {row[f'{name}_high']:.2f}]"

    shown = {"predictor": table["predictor"], "n": table["n"]}
    for name in ("rmse", "bias", "r2"):
        shown[name] = table.apply(with_limits, axis=1, name=name)
    shown["R2"] = table["R2"].map("{:.2f}".format)
    for label, name in (
        ("within 0.5 or 20 %", "within_0.5_or_20%"),
        ("GCOS threshold", "within_gcos_threshold"),
        ("GCOS goal", "within_gcos_goal"),
    ):
        shown[label] = table[name].map("{:.0%}".format)
    return pd.DataFrame(shown)


def _round(table: pd.DataFrame) -> pd.DataFrame:
    shown = table.copy()
    for name in shown.columns.drop("predictor"):
        share = str(name).startswith("coverage")
        shown[name] = shown[name].map(("{:.0%}" if share else "{:.2f}").format)
    return shown.rename(columns=lambda name: str(name).replace("_", " "))


def _pivot(rows: pd.DataFrame, criterion: str) -> pd.DataFrame:
    """Lay the predictors side by side: RMSE and bias of each per subset."""
    subsets = rows.drop_duplicates("subset")
    shown: dict[str, list[str]] = {
        criterion: subsets["subset"].tolist(),
        "n": subsets["n"].astype(str).tolist(),
    }
    for name, own in rows.groupby("predictor", sort=False):
        cells = zip(own["rmse"], own["bias"], strict=True)
        shown[f"{name}: RMSE, bias"] = [f"{rmse:.2f}, {bias:+.2f}" for rmse, bias in cells]
    return pd.DataFrame(shown)
