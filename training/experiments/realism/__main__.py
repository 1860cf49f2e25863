"""`python -m experiments.realism FOLDER OUTPUT`: a table and a figure."""

from pathlib import Path
from typing import Annotated

import typer

from lai_training.cli.frame import one_sentence


def main(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Real scenes (.tif).")],
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="Folder for the report.")],
    pixels: Annotated[
        Path | None, typer.Option(help="Real pixels too: Parquet, ten bands and clear.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the simulated patches.")] = 0,
) -> None:
    """Compare simulated land with real land: a table and a figure."""
    from experiments.realism.report import format_realism, write_realism
    from experiments.realism.statistics import compare_with_real
    from lai_training.simulation.spectral_library import shipped_library

    with one_sentence():
        found = compare_with_real(folder, shipped_library(), pixels=pixels, seed=seed)
        path = write_realism(found, output)
    typer.echo(format_realism(found))
    typer.echo(path)


if __name__ == "__main__":
    typer.run(main)
