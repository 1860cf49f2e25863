"""`lai-udf`: run the UDF here, or prepare it for a back-end. Commands parse, call and print.

Result paths go to stdout, progress, summaries and errors to stderr. Exit code 1: the work could not
be done, with one sentence why; 2: wrong use of the command; 3: done, but for scenes that are named.
Each command imports what it needs, so that help is quick.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from lai_udf.cli_calibrate import calibrate
from lai_udf.cli_field import field
from lai_udf.cli_produce import produce
from lai_udf.cli_series import series
from lai_udf.frame import (
    commands_of,
    one_sentence,
    show_progress,
    version_option,
    word,
)

PROGRAM = "lai-udf"
SOME_REFUSED = 3

app = typer.Typer(
    cls=commands_of(PROGRAM, "cubes,polygons"),
    help="Leaf area index from Sentinel-2: run the function here or send it to the data.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain text, the same on every terminal and in every log
)
VersionOption = version_option(PROGRAM)


@app.callback()
def _main(_version: VersionOption = False) -> None:  # type: ignore[valid-type]
    """Give the version without a command."""


DatetimeOption = Annotated[
    str | None, typer.Option(help="Time of a scene that does not state it: 2021-06-24T10:30:31Z.")
]
ModelOption = Annotated[Path | None, typer.Option(help="Model bundle; default: ours.")]
TargetOption = Annotated[
    Literal["sl2p", "field"], typer.Option(help="What SNAP would say, or field LAI.")
]
ScaleOption = Annotated[float | None, typer.Option(help="Reflectance per digital number.")]
OffsetOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NUMBER or DATE=NUMBER",
        help="Reflectance at digital number 0; repeat with dates where it changes: "
        "2022-01-25=-0.1.",
    ),
]


def _split(text: str, option: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise typer.BadParameter("name some, separated by commas", param_hint=option)
    return names


def _choose(text: str | None, option: str, known: tuple[str, ...]) -> tuple[str, ...] | None:
    """Split `LAI,LAI_SD`; refuse names that are not known."""
    if text is None:
        return None
    names = _split(text, option)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise typer.BadParameter(
            f"{', '.join(unknown)}: give some of {', '.join(known)}, separated by commas",
            param_hint=option,
        )
    return names


def read_offset(texts: list[str] | None) -> float | dict[str, float] | None:
    """Return a number, or numbers by the date from which they hold."""
    found: dict[str, float] = {}
    for text in texts or ():
        date, _, number = text.rpartition("=")
        try:
            found[date] = float(number)
        except ValueError as error:
            raise typer.BadParameter(
                f"{text!r} is neither a number nor DATE=NUMBER", param_hint="--offset"
            ) from error
    if not found:
        return None
    if "" in found and len(found) > 1:
        raise typer.BadParameter("give one number, or only DATE=NUMBER", param_hint="--offset")
    return found.get("", found)


def _read_output(text: str) -> Path:
    if "://" in text:
        raise typer.BadParameter(
            f"{text}: results are written to a folder of this machine; copy them from there",
            param_hint="OUTPUT",
        )
    return Path(text)


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
    model: ModelOption = None,
    target: TargetOption = "sl2p",
    samples: Annotated[int, typer.Option(min=0, help="Monte-Carlo draws; 0 = single pass.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draws.")] = 0,
    variables: Annotated[str, typer.Option(help="Variables, comma-separated.")] = "LAI",
    bands: Annotated[str | None, typer.Option(help="Output bands, comma-separated.")] = None,
    resolution: Annotated[int, typer.Option(help="Side of a pixel, m: 20 or 10.")] = 20,
    region: Annotated[
        Literal["known", "new"], typer.Option(help="Interval for known or for new regions.")
    ] = "known",
    level: Annotated[float, typer.Option(help="Level of the interval.")] = 0.95,
    calibration: Annotated[Path | None, typer.Option(help="File of own field points.")] = None,
    scale: ScaleOption = None,
    offset: OffsetOption = None,
    datetime: DatetimeOption = None,
    input_bands: Annotated[
        str | None, typer.Option(help="Names of the input bands in order, if files name none.")
    ] = None,
    reproject: Annotated[
        bool, typer.Option("--reproject", help="Reproject to the UTM zone what is not in one.")
    ] = False,
    plausibility: Annotated[
        Literal["auto", "off"], typer.Option(help="off: doubt no value and no scaling.")
    ] = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Compute what is finished already.")
    ] = False,
) -> None:
    """Predict LAI of scenes: a folder for each, with COGs, quicklook.png and summary.json.

    The folder is named by the identity of the result, so no result replaces another. A scene that
    is refused does not stop the others: it is named at the end, and the exit code is 3.
    """
    if len(places) < 2:
        raise typer.BadParameter("give at least one input, and the folder for the results")
    from lai_udf.predict import ALL_OUTPUT_BANDS, VARIABLES
    from lai_udf.run import run_all
    from lai_udf.run_options import RunOptions
    from lai_udf.scenes.metadata import Declared

    run_options = RunOptions(
        model=model,
        target=target,
        samples=samples,
        seed=seed,
        bands=_choose(bands, "--bands", ALL_OUTPUT_BANDS),
        variables=_choose(variables, "--variables", tuple(VARIABLES)) or ("LAI",),
        resolution=resolution,
        region=region,
        level=level,
        calibration=calibration,
        plausibility=plausibility,
    )
    names = () if input_bands is None else _split(input_bands, "--input-bands")
    declared = Declared(scale, read_offset(offset), datetime, names, resolution, reproject)
    options = {"bands": "--input-bands"}
    with one_sentence(PROGRAM, options), show_progress("LAI", "window") as progress:
        report = run_all(
            places[:-1],
            _read_output(places[-1]),
            run_options,
            declared,
            overwrite=overwrite,
            progress=progress,
            skipped=_report_skipped,
        )
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
        raise typer.Exit(SOME_REFUSED if report.folders else 1)


app.command()(field)
app.command()(series)
app.command()(calibrate)
app.command()(produce)


@app.command()
def graph(
    output: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder to write.")] = Path(
        "udf/openeo_udp"
    ),
    estimate: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write nothing; say what this graph takes.")
    ] = None,
    revision: Annotated[str, typer.Option(help="Commit or tag that links lead to.")] = "main",
    reference: Annotated[
        str | None, typer.Option(help="Address of results to compare the benchmark with.")
    ] = None,
) -> None:
    """Write the user-defined process `sentinel2_lai`, its catalogue records and its benchmark."""
    from lai_udf.bundle import DEFAULT_BUNDLE
    from lai_udf.check_graph import read_graph
    from lai_udf.produce.plan import estimate_graph
    from lai_udf.udp import write_documents

    if estimate is not None:
        lines = estimate_graph(read_graph(estimate)).lines()
    else:
        paths = write_documents(output, Path(DEFAULT_BUNDLE).stem, revision, reference)
        lines = [str(path) for path in paths]
    for line in lines:
        typer.echo(line)


@app.command()
def check(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="UDF (.py), graph (.json), cube.")],
    scale: ScaleOption = None,
    offset: Annotated[float | None, typer.Option(help="Reflectance at digital number 0.")] = None,
    datetime: DatetimeOption = None,
) -> None:
    """Find what a back-end would stumble over in a UDF, graph or cube, before a job is paid."""
    from lai_udf.check import check_file

    report = check_file(path, reflectance_scale=scale, reflectance_offset=offset, datetime=datetime)
    for line in (*report.facts, *report.problems):
        typer.echo(line)
    if report.problems:
        raise typer.Exit(1)


@app.command()
def pack(
    output: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder for the archives.")],
    model: ModelOption = None,
    python: Annotated[str, typer.Option(help="Python version of the back-end.")] = "3.11",
    base_url: Annotated[
        str, typer.Option(help="Where the archives will be uploaded.")
    ] = "https://example.com/lai",
    upload: Annotated[
        str | None,
        typer.Option(metavar="BACK-END", help="Upload the archives to the storage of a back-end."),
    ] = None,
    runtime: Annotated[bool, typer.Option(help="Fetch the ONNX Runtime as well.")] = True,
    measure: Annotated[bool, typer.Option(help="Run the UDF, for its memory.")] = True,
) -> None:
    """Pack model and runtime for a cloud back-end, with job options and checksums."""
    from lai_udf.bundle import open_bundle
    from lai_udf.pack import pack as pack_files
    from lai_udf.pack import upload_archives

    packed = pack_files(
        output,
        open_bundle(model),
        python=python,
        base_url=base_url,
        runtime=runtime,
        measure=measure,
    )
    if upload is not None:
        upload_archives(packed, upload)
    for path in packed.files:
        typer.echo(path)
    if packed.skipped:
        typer.echo(f"lai-udf: no runtime archive: {packed.skipped}", err=True)
    if packed.measured is not None:
        typer.echo(f"lai-udf: {packed.measured}", err=True)
    todo = "Submit" if upload else f"Upload the archives to {base_url}, then"
    typer.echo(f"# {todo}:\n{packed.submission}", err=True)
