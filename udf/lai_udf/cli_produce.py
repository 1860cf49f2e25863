"""`lai-udf produce`: many areas over a period on openEO back-ends."""

import os
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from tqdm import tqdm

CDSE = "https://openeo.dataspace.copernicus.eu"
PASSWORD_VARIABLE = "LAI_UDF_PASSWORD"
Day = Annotated[datetime, typer.Option(formats=["%Y-%m-%d"])]


def produce(
    areas: Annotated[
        Path, typer.Argument(metavar="AREAS", help="GeoJSON, GeoPackage, GeoParquet.")
    ],
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="Folder of results and table.")],
    start: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First day.")],
    end: Annotated[
        datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="Day after the last one.")
    ],
    backend: Annotated[
        list[str] | None, typer.Option(help="Address of a back-end; more than one is possible.")
    ] = None,
    target: Annotated[Literal["sl2p", "field"], typer.Option(help="As in `run`.")] = "sl2p",
    variables: Annotated[
        str, typer.Option(help="Of LAI, FAPAR, FCOVER, CCC, CWC; comma-separated.")
    ] = "LAI",
    resolution: Annotated[int, typer.Option(help="20 or 10 m.")] = 20,
    step_days: Annotated[
        int | None, typer.Option(min=1, help="Gap-filled series with a date every so many days.")
    ] = None,
    collection: Annotated[str | None, typer.Option(help="Default: that of CDSE.")] = None,
    scale: Annotated[float | None, typer.Option(help="Reflectance per digital number.")] = None,
    offset: Annotated[float | None, typer.Option(help="Reflectance at digital number 0.")] = None,
    job_options: Annotated[
        Path | None, typer.Option(help="`job_options.json` of `lai-udf pack`.")
    ] = None,
    user: Annotated[
        str | None, typer.Option(help=f"Basic authentication; password in {PASSWORD_VARIABLE}.")
    ] = None,
    parallel: Annotated[int, typer.Option(min=1, help="Jobs at a time on each back-end.")] = 2,
    poll: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 60,
    dry_run: Annotated[bool, typer.Option(help="Print the plan, and run nothing.")] = False,
) -> None:
    """Produce LAI of many areas: plan, run, follow and download a batch job for each tile.

    Areas are cut into tiles of 20 km on the grid of their UTM zone. The table of jobs in OUTPUT
    survives a kill: the same command goes on where it was, and with a later `--to` adds the new
    dates only. Then publish: `lai-service publish --jobs OUTPUT/jobs.parquet`.
    """
    from lai_udf.produce import order

    names = [name.strip() for name in variables.split(",") if name.strip()]
    settings: dict[str, Any] = {"target": target, "variables": names, "resolution": resolution}
    given = {
        "collection": collection,
        "reflectance_scale": scale,
        "reflectance_offset": offset,
        "step_days": step_days,
    }
    settings |= {key: value for key, value in given.items() if value is not None}
    period = start.date(), end.date()
    rows, estimate = order.plan_order(areas, *period, output, settings)
    for line in estimate.lines():
        typer.echo(line, err=True)
    if dry_run:
        for title in rows["title"]:
            typer.echo(title)
        return
    options = order.read_job_options(job_options) if job_options else None
    connections = order.connect(backend or [CDSE], user, os.environ.get(PASSWORD_VARIABLE))
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
        raise typer.Exit(3)
