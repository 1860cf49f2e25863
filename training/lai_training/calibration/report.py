"""What a validation looks like: Markdown for people, CSV for programs, figures for both.

Input: `validate.Validation`. Output: text, and files in one folder that appear when all of
them are written.
"""

import math
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from lai_training.calibration.figures import draw_scatter, draw_uncertainty
from lai_training.calibration.validate import Validation
from lai_training.reporting import format_markdown, write_files

_CRITERIA = ("LAI", "predicted LAI", "source", "region", "site", "crop")
_DASH = "-"
_PREDICTED = "predicted LAI"
_EXPLAIN_WORTH = (
    'Of `target="field"`, SL2P beside it; fitted without what is scored, bootstrap by group in '
    "brackets. Folds of GROUNDED EO are random, since it names no site: optimistic. Own points are "
    "drawn from a site-date, of which the rest is scored."
)
_EXPLAIN_UNCERTAINTY = (
    "Share of measurements inside the intervals of each level, and their mean width; CRPS, the "
    "lower the better, in m2 m-2; rank correlation of the width of the 95 % interval with the "
    'absolute error. A dash: not stated. "Left out": interval and correction were fitted without '
    "the site-date that is predicted, because the model was calibrated on these pairs."
)


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
        parts += ["## Stated uncertainty", _EXPLAIN_UNCERTAINTY]
        parts += [format_markdown(_format_uncertainty(validation.uncertainty))]
    if validation.floor:
        parts += ["## Floor", validation.floor]
    if not validation.worth.empty:
        parts += ["## What the calibration is worth", _EXPLAIN_WORTH]
        parts += [format_markdown(validation.worth)]
    for criterion in _CRITERIA:
        rows = validation.subsets[validation.subsets["by"] == criterion]
        parts += [f"## By {criterion}", "RMSE, bias:", format_markdown(_pivot(rows, criterion))]
        stated = rows[rows["predictor"].isin(validation.uncertainty.get("predictor", []))]
        if not stated.empty:
            parts += ["Coverage and width of the 95 % interval, CRPS:"]
            parts += [format_markdown(_pivot_interval(stated, criterion))]
    return "\n\n".join(parts) + "\n"


def write_report(validation: Validation, folder: Path) -> list[Path]:
    """Write `report.md`, a CSV per table and the figures; all of them appear, or none.

    Raises:
        OutputNotWritableError: the folder or disk refuses.
    """
    tables = {
        "accuracy": validation.accuracy,
        "uncertainty": validation.uncertainty,
        "reliability": validation.reliability,
        "subsets": validation.subsets,
        "predictions": validation.predictions,
        "worth": validation.worth,
    }

    def draw(work: Path) -> None:
        draw_scatter(validation.predictions, work / "scatter.png")
        if not validation.uncertainty.empty:
            draw_uncertainty(validation, work / "uncertainty.png")

    known = {name: table for name, table in tables.items() if not table.empty}
    return write_files(folder, known, {"report.md": format_report(validation)}, draw)


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


def _format_uncertainty(table: pd.DataFrame) -> pd.DataFrame:
    def with_limits(row: pd.Series, name: str, how: str) -> str:
        parts = [_show(row.get(f"{name}{end}"), how) for end in ("", "_low", "_high")]
        return parts[0] if parts[0] == _DASH else f"{parts[0]} [{parts[1]}, {parts[2]}]"

    shown: dict[str, object] = {"predictor": table["predictor"]}
    for level in ("50%", "68%", "90%"):
        for what, how in (("coverage", ".0%"), ("width", ".2f")):
            column = table.get(f"{what}_{level}", pd.Series(math.nan, table.index))
            shown[f"{what} {level}"] = [_show(value, how) for value in column]
    shown["coverage 95%"] = table.apply(with_limits, axis=1, name="coverage_95%", how=".0%")
    shown["width 95%"] = [_show(value, ".2f") for value in table["width_95%"]]
    shown["CRPS"] = table.apply(with_limits, axis=1, name="crps", how=".2f")
    shown["rank correlation"] = table.apply(with_limits, axis=1, name="rank_correlation", how=".2f")
    shown["rests on"] = table["note"]
    return pd.DataFrame(shown)


def _show(value: float | None, how: str) -> str:
    return _DASH if value is None or math.isnan(value) else format(value, how)


def _pivot(rows: pd.DataFrame, criterion: str) -> pd.DataFrame:
    """Lay the predictors side by side: RMSE and bias of each per subset."""

    def cell(row: pd.Series) -> str:
        text = f"{row['rmse']:.2f}, {row['bias']:+.2f}"
        return f"{text} (n {row['n']:.0f})" if criterion == _PREDICTED else text

    return _side_by_side(rows, criterion, cell)


def _pivot_interval(rows: pd.DataFrame, criterion: str) -> pd.DataFrame:
    """Lay those that state an uncertainty side by side."""

    def cell(row: pd.Series) -> str:
        covered, width, crps = (row[name] for name in ("coverage_95%", "width_95%", "crps"))
        return f"{_show(covered, '.0%')}, {_show(width, '.2f')}, {_show(crps, '.2f')}"

    return _side_by_side(rows, criterion, cell)


def _side_by_side(
    rows: pd.DataFrame, criterion: str, cell: Callable[[pd.Series], str]
) -> pd.DataFrame:
    shown = _name_subsets(rows, criterion)
    for name, own in rows.groupby("predictor", sort=False):
        cells = own.set_index("subset").apply(cell, axis=1)
        shown[str(name)] = [cells.get(subset, _DASH) for subset in shown[criterion]]
    return pd.DataFrame(shown)


def _name_subsets(rows: pd.DataFrame, criterion: str) -> dict[str, list[str]]:
    subsets = rows.drop_duplicates("subset")
    if criterion == _PREDICTED:  # each predictor has rows of its own there
        return {criterion: sorted(subsets["subset"], key=lambda name: name.strip(">= "))}
    return {
        criterion: subsets["subset"].tolist(),
        "n": subsets["n"].astype(str).tolist(),
    }
