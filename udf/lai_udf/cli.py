"""`lai-udf`: run the UDF here, or prepare it for a back-end. Commands parse, call and print.

Result paths go to stdout, progress, summaries and errors to stderr. Exit code 1: the work could not
be done, with one sentence why; 2: wrong use of the command; 3: done, but for scenes that are named.
Each command imports what it needs, so that help is quick.
"""

import os
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from lai_udf import cli_options as option
from lai_udf.cli_openeo import check, graph, pack, produce
from lai_udf.frame import (
    commands_of,
    one_sentence,
    read_names,
    read_offset,
    show_progress,
    version_option,
    word,
)

app = typer.Typer(
    cls=commands_of(option.PROGRAM, "cubes,polygons"),
    help="Leaf area index from Sentinel-2: run the function here or send it to the data.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain text, the same on every terminal and in every log
)
VersionOption = version_option(option.PROGRAM)


@app.callback()
def _main(_version: VersionOption = False) -> None:  # type: ignore[valid-type]
    """Give the version without a command."""


@app.command()
def run(
    places: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT... OUTPUT",
            help="Scenes, series or folders of them (GeoTIFF, VRT, STAC, SAFE, EOPF Zarr, a file "
            "for each band, netCDF, Zarr); last the folder for the results.",
        ),
    ],
    model: option.Model = None,
    target: option.Target = "sl2p",
    samples: option.Samples = 0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draws.")] = 0,
    variables: option.Variables = "LAI",
    bands: Annotated[str | None, typer.Option(help="Output bands, comma-separated.")] = None,
    resolution: option.Resolution = 20,
    region: option.Region = "known",
    level: option.Level = 0.95,
    calibration: option.Calibration = None,
    scale: option.Scale = None,
    offset: option.DatedOffset = None,
    datetime: option.Datetime = None,
    input_bands: Annotated[
        str | None, typer.Option(help="Names of the input bands in order, if files name none.")
    ] = None,
    reproject: Annotated[
        bool, typer.Option("--reproject", help="Reproject to the UTM zone what is not in one.")
    ] = False,
    plausibility: Annotated[
        Literal["auto", "off"], typer.Option(help="off: no check of values and scaling.")
    ] = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Compute what is finished already.")
    ] = False,
) -> None:
    """Predict LAI of scenes, a folder for each.

    In it are COGs, quicklook.png and summary.json.

    The folder is named by the identity of the result, so no result replaces another. A scene that
    is refused does not stop the others: it is named at the end, and the exit code is 3.
    """
    if len(places) < 2:
        raise typer.BadParameter("give at least one input, and the folder for the results")
    *sources, output = places
    if "://" in output:
        rule = "results are written to a folder of this machine; copy them from there"
        raise typer.BadParameter(f"{output}: {rule}", param_hint="OUTPUT")
    from lai_udf.identity import RunOptions
    from lai_udf.predict import ALL_OUTPUT_BANDS, VARIABLES
    from lai_udf.run import run_all
    from lai_udf.scenes.metadata import Declared

    run_options = RunOptions(
        model=model,
        target=target,
        samples=samples,
        seed=seed,
        bands=None if bands is None else read_names(bands, "--bands", ALL_OUTPUT_BANDS),
        variables=read_names(variables, "--variables", tuple(VARIABLES)),
        resolution=resolution,
        region=region,
        level=level,
        calibration=calibration,
        plausibility=plausibility,
    )
    names = () if input_bands is None else read_names(input_bands, "--input-bands")
    declared = Declared(scale, read_offset(offset), datetime, names, resolution, reproject)
    options = {"bands": "--input-bands"}
    with one_sentence(option.PROGRAM, options), show_progress("LAI", "window") as progress:
        how = {"overwrite": overwrite, "progress": progress, "skipped": _report_skipped}
        report = run_all(sources, Path(output), run_options, declared, **how)
        if len(report.refused) == 1 and not report.folders:
            raise report.refused[0].error
    _print_report(report, options)


def _report_skipped(folder: Path) -> None:
    typer.echo(f"lai-udf: {folder} is finished already; --overwrite computes it anew", err=True)


def _print_report(report: Any, options: dict[str, str]) -> None:  # noqa: ANN401 (RunReport)
    """Print results to stdout, and to stderr what they hold and what was refused."""
    alone = len(report.folders) == 1
    for folder in report.folders:
        for path in sorted(folder.glob("*.tif")) if alone else [folder]:
            typer.echo(path)
    for summary in report.summaries:
        lines = summary.lines()
        for line in lines if alone else lines[:2]:
            typer.echo(line, err=True)
    for empty in report.empty:
        typer.echo(f"lai-udf: {empty.name} is left out: {empty.error}", err=True)
    for refusal in report.refused:
        typer.echo(f"lai-udf: {refusal.name} is refused: {word(refusal.error, options)}", err=True)
    if report.refused:
        raise typer.Exit(option.SOME_REFUSED if report.folders else 1)


@app.command()
def field(
    fields: Annotated[
        Path, typer.Argument(metavar="FIELDS", help="GeoJSON, GeoPackage, GeoParquet; any CRS.")
    ],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of tables and figures.")],
    source: Annotated[
        str,
        typer.Option(
            metavar="SOURCE",
            help="File or folder of scenes, address of a STAC API or of an openEO back-end.",
        ),
    ],
    start: option.From,
    end: option.To,
    id_column: Annotated[str | None, typer.Option(help="Column with the names of fields.")] = None,
    collection: option.Collection = None,
    model: option.Model = None,
    target: option.Target = "sl2p",
    samples: option.Samples = 0,
    variables: option.Variables = "LAI",
    resolution: option.Resolution = 20,
    region: option.Region = "known",
    level: option.Level = 0.95,
    calibration: option.Calibration = None,
    scale: option.Scale = None,
    offset: option.DatedOffset = None,
    min_valid_share: Annotated[
        float, typer.Option(min=0, max=1, help="Least usable share of a field with a mean.")
    ] = 0.5,
    smooth: Annotated[
        int | None, typer.Option(metavar="DAYS", min=1, help="Add a smoothed series of this step.")
    ] = None,
    job_options: option.JobOptions = None,
    user: option.User = None,
) -> None:
    """Estimate the LAI of fields over a season.

    Writes fields.csv, fields.parquet and a figure for each field.

    Run again, it adds new dates only. A scene that is refused is named at the end, and the exit
    code is 3; so is a field that no scene meets.
    """
    from lai_udf.field.memory import Memory

    asked = [fields.resolve(), source, start.date(), end.date(), id_column, collection, model]
    asked += [target, samples, variables, resolution, region, level, calibration, scale, offset]
    files = [path for path in (model, calibration) if path is not None]
    inputs = [fields, Path(source), *files]
    memory = Memory(output, [*asked, min_valid_share, smooth], inputs)
    if (finished := memory.recall()) is not None:
        typer.echo(f"{option.PROGRAM}: nothing is new since the last run", err=True)
        for path in finished:
            typer.echo(path)
        return
    from lai_udf.field.order import observe_fields
    from lai_udf.identity import RunOptions
    from lai_udf.predict import VARIABLES
    from lai_udf.scenes.metadata import Declared

    with show_progress("LAI", "window") as progress:
        report = observe_fields(
            fields,
            source,
            start.date(),
            end.date(),
            output,
            id_column=id_column,
            collection=collection,
            options=RunOptions(
                model=model,
                target=target,
                samples=samples,
                variables=read_names(variables, "--variables", tuple(VARIABLES)),
                resolution=resolution,
                region=region,
                level=level,
                calibration=calibration,
            ),
            declared=Declared(scale, read_offset(offset), resolution=resolution),
            min_valid_share=min_valid_share,
            smooth_days=smooth,
            user=user,
            password=os.environ.get(option.PASSWORD_VARIABLE),
            job_options=job_options,
            progress=progress,
        )
    typer.echo(f"{option.PROGRAM}: {report.made} new results, {report.kept} kept", err=True)
    for path in report.files:
        typer.echo(path)
    missing = [f"{refusal.name} is refused: {word(refusal.error)}" for refusal in report.refused]
    missing += [f"field {name} lies in no scene" for name in report.missed]
    missing += [f"field {name} is left out: {reason}" for name, reason in report.left_out]
    for sentence in missing:
        typer.echo(f"{option.PROGRAM}: {sentence}", err=True)
    if missing:
        raise typer.Exit(option.SOME_REFUSED)
    memory.keep(report.files)


@app.command()
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
    scale: option.Scale = None,
    offset: option.DatedOffset = None,
) -> None:
    """Smooth LAI over time and fill its gaps.

    Clouds are rejected, mowing and harvest kept.

    With the reflectance of a cube clouds are found by their spectra; of results alone, LAI and
    flags have to do. `series.nc` holds LAI, its two widths (LAI_SD: another acquisition; LAI_LOWER
    and LAI_UPPER: LAI in the field) and the days to the nearest usable date.
    """
    from lai_udf.series_files import open_series_input, write_series

    if dates is not None and (step, start, end) != (None, None, None):
        raise typer.BadParameter("give dates, or a grid by --step-days, --start and --end")
    opened = open_series_input(source, scale, read_offset(offset))
    context: dict[str, Any] = {"max_gap_days": max_gap_days}
    if dates is None:
        days = opened.times.astype("datetime64[D]")
        context["step_days"] = 5 if step is None else step
        context["start"] = str(days.min() if start is None else start)[:10]
        context["end"] = str(days.max() if end is None else end)[:10]
    else:
        context["dates"] = dates if dates == "observed" else dates.split(",")
    with show_progress("series", "row") as progress:
        how: dict[str, Any] = {"cogs": cogs, "picture": picture, "progress": progress}
        for path in write_series(opened, output, **how, **context):
            typer.echo(path)


@app.command()
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
    model: option.Model = None,
) -> None:
    """Calibrate LAI by points of your own.

    Fits the error that all pixels of a date share, for --calibration.

    A few points of a date shift LAI and narrow its interval there and then; points of other dates
    count the less the more days lie between. Their worth is measured by leaving points out.
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
    after = "; one point alone leaves nothing to judge its worth by"
    if report["rmse_after"] is not None:
        after = ", {rmse_after} after (points left out); width {width_before} before, "
        after = (after + "{width_after} after").format(**report)
    typer.echo(f"{report['points']} points: RMSE {report['rmse_before']} before{after}", err=True)
    typer.echo(output)


for command in (produce, graph, check, pack):
    app.command()(command)
