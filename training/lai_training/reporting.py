"""How results look everywhere: tables as Markdown and CSV, files that appear together.

The numbers of the paper (Albughdadi et al. 2020, hal-02551143, tables 4 to 9) stand beside ours;
`read_paper` reads them.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from lai_udf.atomic import new_files

REPORT = "report.md"
PAPER = Path(__file__).with_name("paper_tables")
WORDS = Path(__file__).with_name("words_of_reports.md")


def format_markdown(table: pd.DataFrame, forms: Mapping[str, str] | None = None) -> str:
    """Return a table as Markdown.

    Args:
        table: cells are printed as they are, numbers that are not known as nothing.
        forms: how the numbers of a column are printed, such as `{:.3f}`.
    """
    forms = forms or {}
    names = [str(name) for name in table.columns]
    rows = [names, ["---"] * len(names)]
    for row in table.itertuples(index=False):
        cells = [
            format_cell(cell, forms.get(name, "{}")) for name, cell in zip(names, row, strict=True)
        ]
        rows.append([cell.replace("|", "/") for cell in cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def format_cell(value: object, form: str) -> str:
    """Return a value as text: nothing where it is not known, text as it is."""
    if isinstance(value, str):
        return value
    return "" if isinstance(value, float) and not math.isfinite(value) else form.format(value)


def write_files(
    folder: Path,
    tables: Mapping[str, pd.DataFrame],
    texts: Mapping[str, str] | None = None,
    draw: Callable[[Path], None] | None = None,
) -> list[Path]:
    """Write a report: `<name>.csv` per table, texts by file name, figures; all appear, or none.

    `draw` writes figures into the folder that it is given. Returns the files, in the order of their
    names; raises `OutputNotWritableError` where the folder or disk refuses.
    """
    with new_files(folder) as work:
        for name, table in tables.items():
            table.to_csv(work / f"{name}.csv", index=False, float_format="%.6g")
        for name, text in (texts or {}).items():
            (work / name).write_text(text, encoding="utf-8")
        if draw:
            draw(work)
        files = [folder / path.name for path in sorted(work.iterdir())]
    return files


@dataclass(frozen=True, eq=False)
class Chapter:
    """A chapter of a report."""

    title: str
    """Its heading, such as `## Seams`."""
    text: Sequence[str]
    """Paragraphs, Markdown; empty ones are left out."""
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    """By the name of their CSV file."""
    figures: Mapping[str, Callable[[Path], None]] = field(default_factory=dict)
    """What draws a file, by its name; the text shows it."""


def format_chapters(chapters: Sequence[Chapter]) -> str:
    """Return the text of a report, Markdown."""
    parts = [part for chapter in chapters for part in (chapter.title, *chapter.text) if part]
    return "\n\n".join(parts) + "\n"


def write_report(chapters: Sequence[Chapter], folder: Path) -> list[Path]:
    """Write `report.md`, a CSV per table and the figures, as `write_files` does."""
    tables = {name: table for each in chapters for name, table in each.tables.items()}

    def draw(work: Path) -> None:
        for chapter in chapters:
            for name, draw_figure in chapter.figures.items():
                draw_figure(work / name)

    return write_files(folder, tables, {REPORT: format_chapters(chapters)}, draw)


def read_paper(name: str) -> pd.DataFrame:
    """Return numbers of the paper.

    `images`: tables 4 to 6, a row per image and network; `parcels`: tables 7 to 9, a row per crop
    of the French register and per season (`all`), UNet against SNAP, with distances of six dates;
    `crops`: season, code and English name of crops of the register, in the order of figures 9-12.
    """
    return pd.read_csv(PAPER / f"{name}.csv")


@functools.cache
def read_words() -> dict[str, str]:
    """Return the paragraphs of `words_of_reports.md` by their heading, each in one line."""
    words = {}
    for section in WORDS.read_text(encoding="utf-8").split("## ")[1:]:
        heading, *paragraphs = section.strip().split("\n\n")
        words[heading] = "\n\n".join(text.replace("\n", " ") for text in paragraphs)
    return words
