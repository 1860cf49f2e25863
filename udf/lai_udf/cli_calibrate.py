"""`lai-udf calibrate`: a user's own measurements, for estimates of their region and season."""

from pathlib import Path
from typing import Annotated

import typer


def calibrate(
    points: Annotated[
        Path,
        typer.Argument(
            metavar="POINTS.csv",
            help="Own measurements, CSV or GeoParquet: lon, lat, date, lai and, if known, lai_sd.",
        ),
    ],
    output: Annotated[Path, typer.Argument(metavar="OUT.json", help="File to write.")],
    over: Annotated[
        list[Path],
        typer.Option(help="Results of lai-udf run --target field, or scenes; may be repeated."),
    ],
    model: Annotated[Path | None, typer.Option(help="Model bundle; default: ours.")] = None,
) -> None:
    """Fit the error that all pixels of a date share to own points, for --calibration.

    A few points of a date shift LAI and narrow its interval there and then; points of other dates
    count the less the more days lie between. What they are worth is told by leaving points out.
    """
    from lai_udf.bundle import open_bundle
    from lai_udf.calibration import match_points, write_calibration
    from lai_udf.own_points import open_field_results, read_points
    from lai_udf.predict import load_model

    table = read_points(points)
    bundle = open_bundle(model)
    with open_field_results(over, model) as results:
        matches, refused = match_points(table, results)
    report = write_calibration(output, load_model(str(bundle.path)), matches, refused)
    for each in refused:
        typer.echo(f"row {each.row} not used: {each.reason}", err=True)
    typer.echo(
        f"{report['points']} points: RMSE {report['rmse_before']} before"
        + (
            "; one point alone leaves nothing to judge its worth by"
            if report["rmse_after"] is None
            else f", {report['rmse_after']} after (points left out); width "
            f"{report['width_before']} before, {report['width_after']} after"
        ),
        err=True,
    )
    typer.echo(output)
