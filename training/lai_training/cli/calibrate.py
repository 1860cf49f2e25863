"""`lai-train calibrate`: fit field correction and intervals; write them into a bundle."""

from pathlib import Path
from typing import Annotated

import typer

from lai_training.cli.frame import one_sentence


def calibrate(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE.zip", help="Bundle to calibrate.")],
    pairs: Annotated[Path, typer.Option(help="Field pairs of LAI, CSV.")],
    further: Annotated[
        Path | None,
        typer.Option(help="Folder of further tables: GROUNDED EO, Swiss winter wheat."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Zip to write. Default: BUNDLE itself.")] = None,
    like: Annotated[
        Path | None,
        typer.Option(help="Take the calibration of this bundle instead of fitting one."),
    ] = None,
) -> None:
    """Fit field correction and intervals to field measurements; write them into a bundle.

    The calibration depends on SL2P and the field data alone: the same for every network.
    """
    from lai_training.bundles.recalibrate import make_calibration, rewrite_bundle
    from lai_udf.predict import load_model

    with one_sentence():
        calibration = (
            make_calibration(pairs, further)
            if like is None
            else load_model(str(like)).contract["calibration"]
        )
        path = rewrite_bundle(bundle, "calibration", calibration, out or bundle)
    typer.echo(path)
