"""`lai-train ablation` and `variables`: what a recipe and further heads are worth."""

from pathlib import Path
from typing import Annotated

import typer

from lai_training.cli.fit import POOLS
from lai_training.cli.frame import one_sentence, show_progress


def ablation(
    config: Annotated[
        Path,
        typer.Argument(metavar="CONFIG", exists=True, help="YAML of training/configs/ablation."),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the fits and the table.")],
    pools: Annotated[Path, typer.Option(help="Where simulated patches are kept.")] = POOLS,
) -> None:
    """Fit every variant of a recipe, briefly; tabulate their distance to SL2P.

    Fits that are done are not repeated: interrupted, it goes on where it stopped.
    """
    from lai_training.learn.ablation import run_ablation

    with one_sentence(), show_progress("ablation", "fit") as progress:
        table = run_ablation(config, out, pools=pools, progress=progress)
    typer.echo(table)
    typer.echo(f"fits and tables: {out}")


def variables(
    run: Annotated[Path, typer.Argument(metavar="RUN", exists=True, help="Folder of a fit.")],
    scenes: Annotated[
        Path, typer.Argument(metavar="SCENES", exists=True, help="Folder of scenes (.tif).")
    ],
    noise: Annotated[
        float, typer.Option(min=0, help="Level of band noise; 1 = 3 % of the reflectance + 0.005.")
    ] = 0.0,
) -> None:
    """Score every variable of a network against SL2P on real scenes, angles withheld."""
    from lai_training.learn.variables import format_variables, score_variables
    from lai_training.scores.emulation import find_scenes

    with one_sentence(), show_progress("variables", "scene") as progress:
        table = score_variables(run, find_scenes(scenes), noise=noise, progress=progress)
    typer.echo(format_variables(table))
