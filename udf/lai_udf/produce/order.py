"""From areas and a period to results on disk: what `lai-udf produce` does, as one function."""

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import openeo
import pandas as pd

from lai_udf.bundle import open_bundle
from lai_udf.errors import ProductionError
from lai_udf.polygons import LEFT_OUT, read_polygons
from lai_udf.process_graph import COLLECTION, SIDES, lai_from_collection
from lai_udf.produce.manager import Outcome, Producer, Progress
from lai_udf.produce.plan import Estimate, Order, cut_into_tiles, estimate, plan_jobs
from lai_udf.produce.table import TABLE_SUFFIXES, JobTable, locked

TABLE = "jobs.parquet"  # name of the table in the folder of the results, if no other is given


def plan_order(
    areas: Path, start: dt.date, end: dt.date, directory: Path, settings: Mapping[str, Any]
) -> tuple[pd.DataFrame, Estimate]:
    """Return the rows that an order adds to a table, and what they will take; nothing is written.

    `areas`, `directory` and `settings` as for `produce`.
    """
    table = JobTable(table_path(directory))
    model = settings.get("model_file")
    chosen = {key: value for key, value in settings.items() if key != "model_file"}
    order = Order(start, end, chosen, open_bundle(model).checksum)
    whole = dict.fromkeys(("west", "south"), 0.0) | dict.fromkeys(("east", "north"), 10000.0)
    # A wrong setting fails here, before anything is planned, connected or paid.
    days = [start.isoformat(), end.isoformat()]
    lai_from_collection(None, spatial_extent=whole | {"crs": 32631}, temporal_extent=days, **chosen)
    known = table.df if table.exists() else None
    polygons = read_polygons(areas, leave_out_broken=True)
    rows = plan_jobs(cut_into_tiles(polygons), order, known)
    pixel_m, variables = float(chosen.get("resolution", 20)), chosen.get("variables", ("LAI",))
    planned = estimate(rows, pixel_m=pixel_m, variables=len(variables))
    return rows, replace(planned, left_out=tuple(polygons.attrs.get(LEFT_OUT, ())))


def produce(
    areas: Path,
    start: dt.date,
    end: dt.date,
    directory: Path,
    connections: Mapping[str, openeo.Connection],
    *,
    settings: Mapping[str, Any] | None = None,
    job_options: Mapping[str, Any] | None = None,
    parallel_jobs: int = 2,
    poll_s: float = 60,
    progress: Progress | None = None,
) -> Outcome:
    """Run the jobs of an order to their end and download the results.

    Called again with the same table, it resumes where it was; with a later end, it adds the new
    dates only.

    Args:
        areas: file of polygons, see `lai_udf.polygons.read_polygons`.
        start: first day.
        end: day after the last one.
        directory: where results and table are, or will be; or the table itself.
        connections: authenticated, by a name for each back-end.
        settings: keywords of `lai_from_collection`; `model_file` names another bundle.
        job_options: of `lai-udf pack`; None: the bundle of this machine, for a local back-end.
        parallel_jobs: on each back-end.
        poll_s: seconds between two rounds.
        progress: called after each round.

    Raises:
        ProductionError: no plan, or another manager works on the table.
        PolygonFileError: the areas cannot be read.
    """
    settings = dict(settings or {})
    bundle = open_bundle(settings.get("model_file"))
    if job_options is None:
        job_options = {"udf-dependency-archives": [f"{bundle.path.resolve().as_uri()}#lai_model"]}
    path = table_path(directory)
    with locked(path):
        rows, _ = plan_order(areas, start, end, directory, settings)
        table = JobTable(path)
        if len(rows) or not table.exists():
            table.add(rows)
        chosen = {key: value for key, value in settings.items() if key != "model_file"}
        digest = Order(start, end, chosen, bundle.checksum).digest

        def create(connection: openeo.Connection, row: "pd.Series[Any]", title: str) -> Any:  # noqa: ANN401
            if row["settings"] != digest:
                raise ProductionError(
                    f"{path} holds unfinished jobs of other settings or another model: finish "
                    "them with those first, or choose another folder"
                )
            extent = {side: float(row[side]) for side in SIDES} | {"crs": int(row["epsg"])}
            lai = lai_from_collection(
                connection,
                spatial_extent=extent,
                temporal_extent=[str(row["start"]), str(row["end"])],
                **{"collection": COLLECTION, **chosen},
            )
            return lai.create_job(out_format="GTiff", title=title, job_options=dict(job_options))

        manager = Producer(table, create, poll_s=poll_s, progress=progress)
        for name, connection in connections.items():
            manager.add_backend(name, connection=connection, parallel_jobs=parallel_jobs)
        manager.retry_failed(settings=digest)  # what made them fail may have been mended
        outcome = manager.run()
        own = set(table.df.loc[table.df["settings"] == digest, "title"])
        outcome.finished = [title for title in outcome.finished if title in own]
        return outcome


def table_path(directory: Path) -> Path:
    """Return the table in a folder, or the file itself if it is named."""
    return directory if directory.suffix.lower() in TABLE_SUFFIXES else directory / TABLE


def connect(
    urls: Sequence[str], user: str | None = None, password: str | None = None
) -> dict[str, openeo.Connection]:
    """Return authenticated connections by address: basic with a user, else OpenID Connect.

    Raises:
        ProductionError: a back-end does not answer or refuses the user.
    """
    connections = {}
    for url in urls:
        try:
            connection = openeo.connect(url)
            connections[url] = (
                connection.authenticate_oidc()
                if user is None
                else connection.authenticate_basic(user, password)
            )
        except Exception as error:  # the client raises its own, those of requests and of OIDC
            raise ProductionError(f"{url}: no connection ({error})") from error
    return connections


def read_job_options(path: Path) -> dict[str, Any]:
    """Return the job options that `lai-udf pack` wrote."""
    try:
        options = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ProductionError(f"{path} cannot be read as job options ({error})") from error
    if not isinstance(options, dict):
        raise ProductionError(f"{path} holds no job options")
    return options
