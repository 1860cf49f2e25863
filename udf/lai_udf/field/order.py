"""Fields, a source and a period in; tables and figures out. What `lai-udf field` does."""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import shapely
from shapely.geometry import mapping

from lai_udf.errors import EmptySceneError, GeometryError, UnreadableProductError
from lai_udf.field.season import COLLECTION, Period, kind_of, run_season, search_api
from lai_udf.field.table import build_table, choose_comparable, find_lai, smooth_table, write_tables
from lai_udf.identity import RunOptions
from lai_udf.polygons import LEFT_OUT, read_polygons
from lai_udf.predict import LaiInputError
from lai_udf.run import Refusal
from lai_udf.scenes.metadata import Declared
from lai_udf.scenes.read import describe
from lai_udf.series import IMPOSSIBLE_FLAGS
from lai_udf.zonal import MIN_VALID_SHARE

RESULTS = "lai"  # folder of the results, in that of the tables
POLL_S = 10.0  # between two looks at jobs: those of fields are short

Progress = Callable[[int, int], None]


@dataclass
class FieldReport:
    """What came out."""

    files: list[Path] = field(default_factory=list)
    made: int = 0  # results that were made now
    kept: int = 0  # results of earlier runs
    refused: list[Refusal] = field(default_factory=list)  # scenes that were not run
    missed: list[str] = field(default_factory=list)  # fields that no result meets
    left_out: list[tuple[str, str]] = field(default_factory=list)
    """Polygons that cannot be used, and why."""


def observe_fields(
    fields_file: Path,
    source: str,
    start: dt.date,
    end: dt.date,
    directory: Path,
    *,
    id_column: str | None = None,
    collection: str | None = None,
    options: RunOptions | None = None,
    declared: Declared | None = None,
    min_valid_share: float = MIN_VALID_SHARE,
    smooth_days: int | None = None,
    user: str | None = None,
    password: str | None = None,
    job_options: Path | None = None,
    progress: Progress | None = None,
) -> FieldReport:
    """Estimate LAI of fields over a period.

    Args:
        fields_file: polygons, see `lai_udf.polygons.read_polygons`.
        source: file or folder of scenes, address of a STAC API or of an openEO back-end.
        start: first day.
        end: day after the last one.
        directory: for tables and figures; results of scenes go to `lai` in it, and stay.
        id_column: column with the names of fields.
        collection: of a STAC API or back-end; None: Sentinel-2 L2A by its usual name.
        options: what to compute.
        declared: scaling that goes before what scenes state.
        min_valid_share: least usable share of a field that has a mean, 0-1.
        smooth_days: step of a smoothed series beside the observations; None: none.
        user: for an openEO back-end with basic authentication.
        password: with `user`.
        job_options: of `lai-udf pack`, for an openEO back-end.
        progress: called as the work advances.

    Raises:
        EmptySceneError: no usable scene in the period.
        LaiError: another of its family: fields that cannot be read, or lie within no scene.
    """
    options, declared = options or RunOptions(), declared or Declared()
    if "LAI" not in options.variables:
        raise LaiInputError(
            parameter="variables",
            value=",".join(options.variables),
            expected="LAI among them: the curve of a field is that of its LAI",
        )
    fields = read_polygons(fields_file, id_column, leave_out_broken=True)
    report = FieldReport(left_out=list(fields.attrs.get(LEFT_OUT, [])))
    period, kind, results = Period(start, end), kind_of(source), directory / RESULTS
    if kind == "openeo":
        login = (user, password)
        report.refused, folders, report.kept = _order(
            fields_file, source, period, results, options, login, job_options, collection
        )
    else:
        entries = describe(source, declared)
        if kind == "stac":
            degrees = fields.to_crs("EPSG:4326").geometry  # boxes: small enough for a request
            area = mapping(shapely.union_all([shapely.box(*each.bounds) for each in degrees]))
            entries = search_api(source, collection or COLLECTION, area, period, declared)
        report.refused, folders, report.kept = run_season(
            entries, fields, period, results, options, progress
        )
    report.made = len(folders) - report.kept
    comparable = choose_comparable(find_lai(results), folders)
    in_period = [result for result in comparable if period.holds(result.datetime.isoformat())]
    if not in_period:
        for refusal in report.refused:
            raise refusal.error
        raise EmptySceneError(
            f"{source}: no scene between {start} and {end} has LAI for any field",
            parameter="fields",
            value=str(fields_file),
            expected="polygons within the scenes",
        )
    build = partial(build_table, fields, in_period, min_valid_share=min_valid_share)
    table = build()
    met = set() if table.empty else set(table["field"])
    report.missed = [name for name in fields["id"] if name not in met]
    if not met:
        raise GeometryError(f"no field of {fields_file} lies within a scene of {source}")
    smoothed = None
    if smooth_days is not None:
        counted = build(exclude_flags=IMPOSSIBLE_FLAGS)
        table, smoothed = smooth_table(table, counted, smooth_days, options.level)
    report.files = write_tables(table, fields, directory, smoothed)
    return report


def _order(
    fields: Path,
    source: str,
    period: Period,
    directory: Path,
    options: RunOptions,
    login: tuple[str | None, str | None],
    job_options: Path | None,
    collection: str | None,
) -> tuple[list[Refusal], list[Path], int]:
    """Compute on an openEO back-end; jobs of earlier runs are not repeated.

    Returns:
        What failed; folders of what is there, made with these settings; how many were before.
    """
    from lai_udf.produce import order

    if options.calibration is not None:
        raise LaiInputError(
            parameter="calibration",
            value=str(options.calibration),
            expected="no file where an openEO back-end computes: it does not have it",
        )
    names = ("target", "samples", "seed", "resolution", "region", "level")
    settings = {name: getattr(options, name) for name in names}
    settings["variables"] = list(options.variables)
    if collection is not None:
        settings["collection"] = collection
    if options.model is not None:
        settings["model_file"] = str(options.model)
    before = {path.name for path in directory.glob("lai_*")}
    outcome = order.produce(
        fields,
        period.start,
        period.end,
        directory,
        order.connect([source], *login),
        settings=settings,
        job_options=order.read_job_options(job_options) if job_options else None,
        poll_s=POLL_S,
    )
    refused = [
        Refusal(title, UnreadableProductError(f"the job ended as {status}"))
        for title, status in outcome.failed.items()
    ]
    kept = len(before.intersection(outcome.finished))
    return refused, [directory / title for title in outcome.finished], kept
