"""`lai-udf graph, check, pack, produce`: prepare the UDF for openEO back-ends, and run it there."""

import logging
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from tqdm import tqdm

from lai_udf import cli_options as option
from lai_udf.frame import one_sentence, read_names

CDSE = "https://openeo.dataspace.copernicus.eu"


def produce(
    areas: Annotated[
        Path, typer.Argument(metavar="AREAS", help="GeoJSON, GeoPackage, GeoParquet.")
    ],
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="Folder of results and table.")],
    start: option.From,
    end: option.To,
    backend: Annotated[
        list[str] | None, typer.Option(help="Address of a back-end; more than one is possible.")
    ] = None,
    target: option.Target = "sl2p",
    variables: option.Variables = "LAI",
    resolution: option.Resolution = 20,
    region: option.Region = "known",
    level: option.Level = 0.95,
    step_days: Annotated[
        int | None, typer.Option(min=1, help="Gap-filled series with a date every so many days.")
    ] = None,
    collection: option.Collection = None,
    auxiliary_bands: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="Of SCL and angles, what the collection has ('' = no)."),
    ] = None,
    scale: option.Scale = None,
    offset: option.Offset = None,
    job_options: option.JobOptions = None,
    user: option.User = None,
    parallel: Annotated[int, typer.Option(min=1, help="Jobs at a time on each back-end.")] = 2,
    poll: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 60,
    dry_run: Annotated[bool, typer.Option(help="Print the plan, and run nothing.")] = False,
) -> None:
    """Produce LAI of many areas on back-ends.

    Plans, runs, follows and downloads a batch job for each tile.

    Areas are cut into tiles of 20 km on the grid of their UTM zone. The table of jobs in OUTPUT
    survives a kill: the same command resumes where it was, and with a later `--to` adds the new
    dates only. Then publish: `lai-service publish --jobs OUTPUT/jobs.parquet`.
    """
    from lai_udf.identity import changed_settings
    from lai_udf.produce import order

    settings: dict[str, Any] = {
        "target": target,
        "variables": list(read_names(variables, "--variables")),
        "resolution": resolution,
    }
    further = {
        "collection": collection,
        "auxiliary_bands": None
        if auxiliary_bands is None
        else [name.strip() for name in auxiliary_bands.split(",") if name.strip()],
        "reflectance_scale": scale,
        "reflectance_offset": offset,
        "step_days": step_days,
        "region": region,
        "level": level,
    }
    settings |= changed_settings(further)
    period = start.date(), end.date()
    with one_sentence(option.PROGRAM, {"start": "--from", "end": "--to"}):
        rows, estimate = order.plan_order(areas, *period, output, settings)
    for line in estimate.lines():
        typer.echo(line, err=True)
    if dry_run:
        for title in rows["title"]:
            typer.echo(title)
        return
    options = order.read_job_options(job_options) if job_options else None
    logging.getLogger("openeo.extra").setLevel(logging.ERROR)  # reasons are printed at the end
    connections = order.connect(backend or [CDSE], user, os.environ.get(option.PASSWORD_VARIABLE))
    with tqdm(desc="jobs", unit="job", leave=False, disable=None) as bar:

        def move(counts: Any, costs: float) -> None:  # noqa: ANN401  (a mapping of pandas)
            bar.total = sum(counts.values())
            bar.set_postfix(counts | ({"costs": f"{costs:g}"} if costs else {}))
            bar.update(counts.get("finished", 0) - bar.n)

        outcome = order.produce(
            areas,
            *period,
            output,
            connections,
            settings=settings,
            job_options=options,
            parallel_jobs=parallel,
            poll_s=poll,
            progress=move,
        )
    for title, status in outcome.failed.items():
        typer.echo(f"{title}: {status}", err=True)
    typer.echo(order.table_path(output))
    if outcome.failed:
        raise typer.Exit(option.SOME_REFUSED)


def graph(
    output: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder to write.")] = Path(
        "udf/openeo_udp"
    ),
    estimate: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write nothing; print what this graph takes."),
    ] = None,
    revision: Annotated[str, typer.Option(help="Commit or tag that links lead to.")] = "main",
    reference: Annotated[
        str | None, typer.Option(help="Address of results to compare the benchmark with.")
    ] = None,
) -> None:
    """Write the openEO process and its records.

    The user-defined process `sentinel2_lai`, its catalogue records and its benchmark.
    """
    from lai_udf.bundle import DEFAULT_BUNDLE
    from lai_udf.check import read_graph
    from lai_udf.produce.plan import estimate_graph
    from lai_udf.udp import write_documents

    if estimate is not None:
        lines = estimate_graph(read_graph(estimate)).lines()
    else:
        paths = write_documents(output, Path(DEFAULT_BUNDLE).stem, revision, reference)
        lines = [str(path) for path in paths]
    for line in lines:
        typer.echo(line)


def check(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="UDF (.py), graph (.json), cube.")],
    scale: option.Scale = None,
    offset: option.Offset = None,
    datetime: option.Datetime = None,
) -> None:
    """Check a UDF, graph or cube for a back-end.

    Finds what a back-end would stumble over, before a job is paid.
    """
    from lai_udf.check import check_file

    report = check_file(path, reflectance_scale=scale, reflectance_offset=offset, datetime=datetime)
    for line in (*report.facts, *report.problems):
        typer.echo(line)
    if report.problems:
        raise typer.Exit(1)


def pack(
    output: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder for the archives.")],
    model: option.Model = None,
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
    """Pack model and runtime for a back-end.

    Job options and checksums are written beside the archives.
    """
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
