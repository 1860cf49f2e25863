"""Every notebook runs top to bottom as a script, defines nothing and leaves its figures."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.py"))
SMALL = {
    "LAI_NOTEBOOK_PX": "96",
    "LAI_NOTEBOOK_DATES": "5",
    "LAI_NOTEBOOK_EPOCHS": "1",
    "LAI_NOTEBOOK_STEPS": "2",
    "LAI_NOTEBOOK_PATCHES": "32",
}
"""The switch to small data: smaller numbers, the same cells."""


def test_there_are_five_notebooks() -> None:
    assert [path.name[0] for path in NOTEBOOKS] == list("12345")


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_defines_nothing(notebook: Path) -> None:
    defined = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
    found = [
        node for node in ast.walk(ast.parse(notebook.read_text())) if isinstance(node, defined)
    ]
    assert not found, f"line {found[0].lineno}: notebooks read results and define nothing"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_text_with_headings_that_jupyter_opens(notebook: Path) -> None:
    import jupytext

    cells = jupytext.read(notebook)["cells"]

    assert cells[0]["source"].startswith(f"# {notebook.name[0]} ")
    assert sum(cell["cell_type"] == "markdown" for cell in cells) >= 4
    assert not any(cell.get("outputs") for cell in cells)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(notebook: Path, tmp_path: Path) -> None:
    environment = {**os.environ, **SMALL, "MPLBACKEND": "Agg", "LAI_NOTEBOOK_OUT": str(tmp_path)}

    run = subprocess.run(
        [sys.executable, notebook],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )

    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-4000:]
    figures = list(tmp_path.glob(f"{notebook.name[0]}_*.png"))
    assert figures
    assert all(figure.stat().st_size > 10_000 for figure in figures)
