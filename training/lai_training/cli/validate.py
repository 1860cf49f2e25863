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
    from dataclasses import replace

    import numpy as np

    from lai_training.calibration.calibrate import leave_out
    from lai_training.calibration.measurements import gather_further, gather_measurements
    from lai_training.calibration.networks import is_taught_by_all, list_networks
    from lai_training.calibration.pairs import list_baselines, read_pairs
    from lai_training.calibration.report import format_report, write_report
    from lai_training.calibration.validate import validate as score
    from lai_training.calibration.worth import describe_worth, measure_floor
    from lai_udf.bundle import default_bundle_path
    from lai_udf.predict import BANDS

    with one_sentence():
        table = read_pairs(pairs)
        bundles = model or [default_bundle_path()]
        lai = gather_measurements(pairs, further)
        own = any(is_taught_by_all(table, bundle) for bundle in bundles)
        left_out = leave_out(lai["LAI"], "LAI", lai["LAI"].fold, sun=True) if own else None
        predictors = list_baselines(table)
        for bundle in bundles:
            predictors |= list_networks(bundle, table, gather_further(further), left_out)
        result = score(table, predictors, rng=np.random.default_rng(seed))
        result = replace(result, floor=measure_floor(table, BANDS))
        if left_out is not None:
            crops = table["crop"].fillna("unknown").str.casefold().to_numpy(str)
            others = {name: found for name, found in lai.items() if name != "LAI"}
            rng = np.random.default_rng(seed)
            result = replace(result, worth=describe_worth(lai["LAI"], left_out, others, crops, rng))
        files = write_report(result, out)
    typer.echo(format_report(result))
    for path in files:
        typer.echo(path, err=True)
