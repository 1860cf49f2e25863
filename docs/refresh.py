"""Refresh what the documents take from the shipped model: a table and figures.

    .venv/bin/python docs/refresh.py                # the table in README.md
    .venv/bin/python docs/refresh.py --notebooks    # and the notebooks with their outputs, minutes
    .venv/bin/python docs/refresh.py --notebooks 2 3

`tests/test_documents.py` fails while README.md holds the figures of another model.
"""

import argparse
import base64
import io
import os
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
BEGIN, END = "<!-- figures:begin -->", "<!-- figures:end -->"
WIDTH_PX = 1000
COLOURS = 256


def format_figures(contract: dict[str, Any]) -> str:
    """Return the table of a model's figures, from its `lai:contract`, in Markdown."""
    scores = contract["calibration"]["scores_left_out_site_dates"]
    pairs = contract["calibration"]["n_pairs"]
    field = (
        "{}, RMSE {rmse:.2f}, bias {bias:+.2f}; 95 % interval covers {coverage:.1%}, "
        "mean width {mean_width:.2f}"
    )
    metrics = contract.get("metrics", {})
    rows = [
        _emulation(name, found) for name, found in metrics.items() if name.startswith("sl2p_on_")
    ]
    rows += [
        (f'{pairs} field pairs, `target="{target}"`', field.format("against measured LAI", **found))
        for target, found in scores.items()
    ]
    lines = [
        f"| model {contract['model_id']} {contract['model_version']} | figures (LAI in m² m⁻²) |",
        "|---|---|",
        *[f"| {what} | {figures} |" for what, figures in rows],
    ]
    return "\n".join(lines)


def _emulation(name: str, found: dict[str, Any]) -> tuple[str, str]:
    """Return a row of scores against SL2P on real scenes."""
    what = name.removeprefix("sl2p_on_").replace("_", " ").replace("scenes", "scenes,", 1)
    figures = (
        f"against SL2P, r {found['correlation']:.4f}, mean distance {found['distance']:.3f}, "
        f"RMSE {found['rmse']:.3f}, R² {found['r_squared']:.4f}"
    )
    if "rmse_sl2p" in found:
        figures += f"; SL2P's own RMSE under that noise {found['rmse_sl2p']:.3f}"
    return f"{found['scenes']} {what}, {found['n']:,} clear vegetated pixels", figures


def insert_figures(readme: str, table: str) -> str:
    """Return the README with `table` between its markers."""
    before, rest = readme.split(BEGIN)
    return f"{before}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}"


def shrink(source: Path | io.BytesIO, target: Path | io.BytesIO) -> None:
    """Write a picture with at most `WIDTH_PX` columns and `COLOURS` colours, as PNG."""
    from PIL import Image

    content = source.read_bytes() if isinstance(source, Path) else source.getvalue()
    with Image.open(io.BytesIO(content)) as picture:
        width = min(WIDTH_PX, picture.width)
        height = round(picture.height * width / picture.width)
        small = picture.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    palette = Image.Quantize.MAXCOVERAGE  # rare colours too: those of the colour bars
    small.quantize(COLOURS, palette, dither=Image.Dither.NONE).save(target, "PNG", optimize=True)


def build_notebooks(numbers: list[str]) -> None:
    """Run notebooks as they stand, and write them beside their sources, outputs included."""
    import jupytext
    from nbclient import NotebookClient

    environment = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}
    for source in sorted((ROOT / "notebooks").glob("[0-9]_*.py")):
        if numbers and source.name[0] not in numbers:
            continue
        notebook = jupytext.read(source)
        with tempfile.TemporaryDirectory() as folder:
            os.environ.update(environment, LAI_NOTEBOOK_OUT=folder)
            os.environ.pop("MPLBACKEND", None)
            NotebookClient(
                notebook, timeout=300, resources={"metadata": {"path": folder}}
            ).execute()
            for number, cell in enumerate(notebook.cells):
                cell.id = f"cell-{number}"
                cell.metadata.pop("execution", None)
                tidy_outputs(cell, folder)
        notebook.metadata.pop("jupytext", None)
        notebook.metadata["language_info"] = {"name": "python"}
        jupytext.write(notebook, source.with_suffix(".ipynb"), fmt="ipynb")


def tidy_outputs(cell: Any, folder: str) -> None:  # noqa: ANN401  (a cell of nbformat)
    """Keep what a reader wants: printed lines without this machine's folder, small pictures."""
    kept = []
    for output in cell.get("outputs", []):
        if output.output_type == "stream" and output.name == "stderr":
            continue
        if output.output_type == "stream":
            output.text = output.text.replace(folder, "build/notebooks")
        data = output.get("data", {})
        if "image/png" in data:
            small = io.BytesIO()
            shrink(io.BytesIO(base64.b64decode(data["image/png"])), small)
            data["image/png"] = base64.b64encode(small.getvalue()).decode("ascii")
        kept.append(output)
    if "outputs" in cell:
        cell.outputs = kept


def main() -> None:
    """Refresh the table, and what else is asked for."""
    from lai_udf.bundle import open_bundle

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--notebooks", nargs="*", help="run these, or all: notebooks/*.ipynb")
    asked = parser.parse_args()
    table = format_figures(dict(open_bundle().contract))
    README.write_text(insert_figures(README.read_text("utf-8"), table), "utf-8")
    if asked.notebooks is not None:
        build_notebooks(asked.notebooks)


if __name__ == "__main__":
    main()
