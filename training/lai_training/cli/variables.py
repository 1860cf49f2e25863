"""`lai-train variables`: what further heads of a network are worth."""

from pathlib import Path
from typing import Annotated

import typer

from lai_training.cli.frame import one_sentence, show_progress


def variables(
    run: Annotated[Path, typer.Argument(metavar="RUN", exists=True, help="Folder of a fit.")],
    scenes: Annotated[
        Path, typer.Argument(metavar="SCENES", exists=True, help="Folder of scenes (.tif).")
    ],
    noise: Annotated[
        float, typer.Option(min=0, help="Level of band noise; 1 = as measured.")
    ] = 0.0,
) -> None:
    """Score every variable of a network against SL2P on real scenes, angles withheld."""
    from lai_training.learn.variables import format_variables, score_variables
    from lai_training.scores.emulation import find_scenes

    with one_sentence(), show_progress("variables", "scene") as progress:
        table = score_variables(run, find_scenes(scenes), noise=noise, progress=progress)
    typer.echo(format_variables(table))
