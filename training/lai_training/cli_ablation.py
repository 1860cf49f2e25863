"""`lai-train ablation`: which parts of a recipe earn their place."""

from pathlib import Path
from typing import Annotated

import typer

from lai_training.cli_fit import POOLS
from lai_training.cli_frame import one_sentence, show_progress


def ablation(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="YAML of training/configs/ablation.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the fits and the table.")],
    pools: Annotated[Path, typer.Option(help="Where simulated patches are kept.")] = POOLS,
) -> None:
    """Fit every variant of a recipe, briefly; tabulate their distance to SL2P.

    Fits that are done are not repeated: interrupted, it goes on where it stopped.
    """
    from lai_training.ablation import run_ablation

    with one_sentence(), show_progress("ablation", "fit") as progress:
        table = run_ablation(config, out, pools=pools, progress=progress)
    typer.echo(table)
    typer.echo(f"fits and tables: {out}")
