"""`lai-train fit` and `export`: from an experiment to a bundle that ships."""

from pathlib import Path
from typing import Annotated

import typer

from lai_training.cli.frame import one_sentence, show_progress

POOLS = Path("build/pools")


def fit(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", exists=True, help="YAML of training/configs.")
    ],
    run: Annotated[
        Path | None, typer.Option(help="Folder of the run; default: runs/<name of the config>.")
    ] = None,
    pools: Annotated[Path, typer.Option(help="Where simulated patches are kept.")] = POOLS,
    scenes: Annotated[
        Path | None,
        typer.Option(help="Folder of real scenes; only for configs that learn from scenes."),
    ] = None,
) -> None:
    """Fit a network, or go on with a fit that was interrupted."""
    from lai_training.learn.config import FitConfig, read_any_config

    folder = run or Path("runs") / config.stem
    with one_sentence():
        experiment = read_any_config(config)
        if not isinstance(experiment, FitConfig):
            from lai_training.restore.fit import fit_bodies
            from lai_training.restore.scenes import read_scenes

            found = read_scenes(scenes or Path(experiment.scenes))
            with show_progress("fit", "batch") as progress:
                fit_bodies(experiment, found, folder, pools=pools, progress=progress)
            typer.echo(folder)
            return
        if scenes is not None:
            raise typer.BadParameter("this config learns from a pool: --scenes is not for it")
        from lai_training.learn.fit import fit as fit_network

        with show_progress("fit", "batch") as progress:
            best = fit_network(experiment, folder, pools=pools, progress=progress)
    typer.echo(best)


def export(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", exists=True, help="Folder of a finished run.")
    ],
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Zip to write.")],
    version: Annotated[str, typer.Option(help="Version of the model, such as 0.1.0.")],
    pairs: Annotated[
        Path,
        typer.Option(metavar="PAIRS.csv", exists=True, help="Field pairs to calibrate on."),
    ],
    scenes: Annotated[
        Path | None, typer.Option(exists=True, help="Folder of real scenes (.tif) to score on.")
    ] = None,
    further: Annotated[
        Path | None,
        typer.Option(exists=True, help="Folder of further field tables, as for `calibrate`."),
    ] = None,
) -> None:
    """Turn a finished run into a calibrated, scored model bundle."""
    from lai_training.bundles.release import release

    with one_sentence(), show_progress("export", "scene") as progress:
        path = release(
            run,
            bundle,
            version=version,
            pairs=pairs,
            scenes=scenes,
            further=further,
            progress=progress,
        )
    typer.echo(path)
