"""`lai-udf field`: LAI of fields over a season."""

import os
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from lai_udf.frame import show_progress, word

PROGRAM = "lai-udf"
PASSWORD_VARIABLE = "LAI_UDF_PASSWORD"
SOME_REFUSED = 3


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
    start: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First day.")],
    end: Annotated[
        datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="Day after the last one.")
    ],
    id_column: Annotated[str | None, typer.Option(help="Column with the names of fields.")] = None,
    collection: Annotated[str | None, typer.Option(help="Collection of the source.")] = None,
    model: Annotated[Path | None, typer.Option(help="Model bundle; default: ours.")] = None,
    target: Annotated[Literal["sl2p", "field"], typer.Option(help="As in `run`.")] = "sl2p",
    samples: Annotated[int, typer.Option(min=0, help="Monte-Carlo draws; 0 = single pass.")] = 0,
    scale: Annotated[float | None, typer.Option(help="Reflectance per digital number.")] = None,
    offset: Annotated[
        list[str] | None,
        typer.Option(metavar="NUMBER or DATE=NUMBER", help="Reflectance at digital number 0."),
    ] = None,
    min_valid_share: Annotated[
        float, typer.Option(min=0, max=1, help="Least usable share of a field with a mean.")
    ] = 0.5,
    smooth: Annotated[
        int | None, typer.Option(metavar="DAYS", help="Add a smoothed series of this step.")
    ] = None,
    job_options: Annotated[
        Path | None, typer.Option(help="`job_options.json` of `lai-udf pack`, for a back-end.")
    ] = None,
    user: Annotated[
        str | None, typer.Option(help=f"Basic authentication; password in {PASSWORD_VARIABLE}.")
    ] = None,
) -> None:
    """Estimate LAI of fields over a season: fields.csv, fields.parquet, a figure for each field.

    Run again, it adds new dates only. A scene that is refused is named at the end, and the exit
    code is 3; so is a field that no scene meets.
    """
    from lai_udf.cli import read_offset
    from lai_udf.field.memory import Memory

    given = {
        "fields": str(fields.resolve()),
        "source": source,
        "period": [str(start.date()), str(end.date())],
        "options": [id_column, collection, str(model), target, samples, scale, offset],
        "tables": [min_valid_share, smooth],
    }
    memory = Memory(output, given, [fields, Path(source), *([model] if model else [])])
    if (known := memory.recall()) is not None:
        typer.echo(f"{PROGRAM}: nothing is new since the last run", err=True)
        for path in known:
            typer.echo(path)
        return
    from lai_udf.field.order import observe_fields
    from lai_udf.run_options import RunOptions
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
            options=RunOptions(model=model, target=target, samples=samples),
            declared=Declared(scale, read_offset(offset)),
            min_valid_share=min_valid_share,
            smooth_days=smooth,
            user=user,
            password=os.environ.get(PASSWORD_VARIABLE),
            job_options=job_options,
            progress=progress,
        )
    typer.echo(f"{PROGRAM}: {report.made} new results, {report.kept} kept", err=True)
    for path in report.files:
        typer.echo(path)
    for refusal in report.refused:
        typer.echo(f"{PROGRAM}: {refusal.name} is refused: {word(refusal.error)}", err=True)
    for name in report.missed:
        typer.echo(f"{PROGRAM}: field {name} lies in no scene", err=True)
    for name, reason in report.left_out:
        typer.echo(f"{PROGRAM}: field {name} is left out: {reason}", err=True)
    if report.refused or report.missed or report.left_out:
        raise typer.Exit(SOME_REFUSED)
    memory.keep(report.files)
