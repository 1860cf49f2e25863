"""`lai-udf series`: results or a cube smoothed over time."""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer


def series(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT",
            help="Folder of results of one tile, or a cube in netCDF or Zarr: LAI, or reflectance.",
        ),
    ],
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="Folder for series.nc.")],
    step: Annotated[
        int | None, typer.Option("--step-days", help="Days from date to date; default: 5.")
    ] = None,
    start: Annotated[
        datetime | None,
        typer.Option("--start", formats=["%Y-%m-%d"], help="First date; default: of the input."),
    ] = None,
    end: Annotated[
        datetime | None,
        typer.Option("--end", formats=["%Y-%m-%d"], help="Last date; default: of the input."),
    ] = None,
    dates: Annotated[
        str | None,
        typer.Option(help='Instead: dates, comma-separated, or "observed": those of the input.'),
    ] = None,
    max_gap_days: Annotated[
        float, typer.Option(help="No value further from a usable date than this.")
    ] = 60,
    cogs: Annotated[bool, typer.Option("--cogs", help="COGs of each date as well.")] = False,
    picture: Annotated[bool, typer.Option("--picture", help="Draw the mean curve.")] = False,
    scale: Annotated[float | None, typer.Option(help="Reflectance per digital number.")] = None,
    offset: Annotated[float | None, typer.Option(help="Reflectance at digital number 0.")] = None,
) -> None:
    """Smooth LAI over time: clouds rejected, gaps filled, mowing and harvest kept.

    With the reflectance of a cube clouds are found by their spectra; of results alone, LAI and
    flags have to do. `series.nc` holds LAI, its two widths (LAI_SD: another acquisition; LAI_LOWER
    and LAI_UPPER: LAI in the field) and the days to the nearest usable date.
    """
    from lai_udf.frame import show_progress
    from lai_udf.series_files import open_series_input, write_series

    if dates is not None and (step, start, end) != (None, None, None):
        raise typer.BadParameter("give dates, or a grid by --step-days, --start and --end")
    given = open_series_input(source, scale, offset)
    context: dict[str, Any] = {"max_gap_days": max_gap_days}
    if dates is None:
        days = given.times.astype("datetime64[D]")
        context["step_days"] = 5 if step is None else step
        context["start"] = str(days.min() if start is None else start)[:10]
        context["end"] = str(days.max() if end is None else end)[:10]
    else:
        context["dates"] = dates if dates == "observed" else dates.split(",")
    with show_progress("series", "row") as progress:
        paths = write_series(
            given, output, cogs=cogs, picture=picture, progress=progress, **context
        )
    for path in paths:
        typer.echo(path)
