"""`lai-train validate`: SL2P, peers and networks against field measurements."""

from pathlib import Path
from typing import Annotated

import typer

from lai_training.cli.frame import one_sentence


def validate(
    pairs: Annotated[Path, typer.Argument(metavar="PAIRS.csv", help="Field pairs.")],
    out: Annotated[Path, typer.Option(help="Folder for tables and figures.")] = Path(
        "build/validate"
    ),
    model: Annotated[
        list[Path] | None, typer.Option(help="Bundle; may be repeated. Default: the shipped one.")
    ] = None,
    further: Annotated[
        Path | None,
        typer.Option(help="Folder of further field tables that teach where a bundle is left out."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = 0,
) -> None:
    """Score SL2P, what else the table holds and networks against field-measured LAI.

    On site-dates that a bundle was calibrated on, its interval and correction are fitted anew
    without the site-date that is predicted.
    """
    import numpy as np

    from lai_training.bundles.recalibrate import gather_further
    from lai_training.calibration.networks import list_networks
    from lai_training.calibration.pairs import list_baselines, read_pairs
    from lai_training.calibration.report import format_report, write_report
    from lai_training.calibration.validate import validate as score
    from lai_udf.bundle import default_bundle_path

    with one_sentence():
        table = read_pairs(pairs)
        predictors = list_baselines(table)
        for bundle in model or [default_bundle_path()]:
            predictors |= list_networks(bundle, table, gather_further(further))
        result = score(table, predictors, rng=np.random.default_rng(seed))
        files = write_report(result, out)
    typer.echo(format_report(result))
    for path in files:
        typer.echo(path, err=True)
