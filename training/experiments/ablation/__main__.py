"""`python -m experiments.ablation CONFIG OUT`: fits and a table."""

from pathlib import Path
from typing import Annotated

import typer

from lai_training.cli.frame import one_sentence, show_progress
from lai_training.cli.learn import POOLS


def main(
    config: Annotated[
        Path,
        typer.Argument(metavar="CONFIG", exists=True, help="YAML, as configs/recipe.yaml here."),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the fits and the table.")],
    pools: Annotated[Path, typer.Option(help="Where simulated patches are kept.")] = POOLS,
) -> None:
    """Fit every variant of a recipe, briefly; tabulate their distance to SL2P.

    Fits that are done are not repeated: interrupted, it resumes where it stopped.
    """
    from experiments.ablation.fits import run_ablation

    with one_sentence(), show_progress("ablation", "fit") as progress:
        table = run_ablation(config, out, pools=pools, progress=progress)
    typer.echo(table)
    typer.echo(f"fits and tables: {out}")


if __name__ == "__main__":
    typer.run(main)
