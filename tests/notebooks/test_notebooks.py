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


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_shown_notebook_is_that_of_the_source_with_outputs(notebook: Path) -> None:
    import jupytext

    shown = jupytext.read(notebook.with_suffix(".ipynb"))["cells"]
    written = jupytext.read(notebook)["cells"]

    assert [cell["source"] for cell in shown] == [cell["source"] for cell in written], (
        "build it anew: .venv/bin/python docs/refresh.py --notebooks"
    )
    outputs = [output for cell in shown for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not [output for output in outputs if output["output_type"] == "error"]


RUN_ALL = """
import runpy, sys, traceback
for path in sys.argv[1:]:
    try:
        runpy.run_path(path, run_name="__main__")
    except Exception:
        print(path, traceback.format_exc(), sep="\\n")
"""
"""One process, for a third of the time of a notebook is imports."""


def run_notebooks(notebooks: list[Path], folder: Path, **settings: str) -> str:
    """Run notebooks as scripts, with small data; return what they print."""
    environment = {**os.environ, **SMALL, "MPLBACKEND": "Agg", "LAI_NOTEBOOK_OUT": str(folder)}
    run = subprocess.run(
        [sys.executable, "-c", RUN_ALL, *notebooks],
        cwd=folder,
        env={**environment, **settings},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-4000:]
    return run.stdout


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("notebooks")
    return folder, run_notebooks(NOTEBOOKS, folder)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(notebook: Path, ran: tuple[Path, str]) -> None:
    folder, printed = ran
    assert str(notebook) not in printed, printed[printed.index(str(notebook)) :][:4000]
    figures = list(folder.glob(f"{notebook.name[0]}_*.png"))
    assert figures
    assert all(figure.stat().st_size > 10_000 for figure in figures)


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.shared
def test_notebooks_take_real_scenes_and_a_season(tmp_path: Path, shared_data: Path) -> None:
    chips = tmp_path / "chips"
    chips.mkdir()
    for chip in sorted((shared_data / "chips").glob("bigearthnet*.tif"))[:5]:
        (chips / chip.name).symlink_to(chip.resolve())
    real = {
        "LAI_NOTEBOOK_SCENE": sorted((shared_data / "chips").glob("*.tif"))[0].resolve(),
        "LAI_NOTEBOOK_SCENES": chips,
        "LAI_NOTEBOOK_SERIES": next((shared_data / "timeseries").glob("0000*.nc")).resolve(),
        "LAI_NOTEBOOK_PX": 48,
    }
    notebooks = [NOTEBOOKS[number - 1] for number in (1, 2, 3, 5)]

    printed = run_notebooks(notebooks, tmp_path, **{name: str(real[name]) for name in real})

    assert not [path for path in notebooks if str(path) in printed], printed[:4000]
    drawn = {figure.name[0] for figure in tmp_path.glob("?_*.png")}
    assert drawn == {"1", "2", "3", "5"}
