"""`lai-train parcels`: LAI per parcel and date."""

from pathlib import Path
from typing import Annotated

import typer

from lai_training.cli.frame import one_sentence

SHOWN = 5
"""Parcels that are named where many have no row."""


def parcels(
    sources: Annotated[list[Path], typer.Argument(metavar="ITEMS", help="LAI items or folders.")],
    parcel_file: Annotated[Path, typer.Option("--parcels", help="GeoParquet, GPKG, SHP, GeoJSON.")],
    out: Annotated[Path, typer.Option(help="Folder for tables and figures.")] = Path(
        "build/parcels"
    ),
    id_column: Annotated[
        str | None, typer.Option(help="Parcel's id; default: ID_PARCEL, id, name …")
    ] = None,
    crop_column: Annotated[
        str | None, typer.Option(help="Crop code; default: CODE_CULTU, crop.")
    ] = None,
    buffer_m: Annotated[float, typer.Option(min=0, help="Metres kept from the border.")] = 0.0,
    exclude_flags: Annotated[
        int | None,
        typer.Option(min=0, max=255, help="Bits of LAI_FLAGS that keep a pixel out; 0: none."),
    ] = None,
    correlation: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Of the errors of two pixels of a parcel; default: of the bundle."
        ),
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="Parcel calibration; replaces the correlation.")
    ] = None,
    smooth: Annotated[
        int | None,
        typer.Option(min=1, max=60, help="Curves of this step, days, and seasons as well."),
    ] = None,
) -> None:
    """Average LAI over parcels, with interval and valid fraction; tables 7-9, figures 9-12."""
    from lai_training.parcels.interval import add_interval, read_calibration
    from lai_training.parcels.means import (
        find_items,
        missing_parcels,
        observe_items,
        outline_items,
    )
    from lai_training.parcels.read import read_parcels
    from lai_training.parcels.report import format_report, write_observations, write_report
    from lai_udf.calibration import shared_error
    from lai_udf.polygons import LEFT_OUT
    from lai_udf.predict import UNUSABLE_FLAGS

    exclude = UNUSABLE_FLAGS if exclude_flags is None else exclude_flags
    with one_sentence():
        items = find_items(sources)
        within = outline_items(items)
        table = read_parcels(
            parcel_file,
            id_column=id_column,
            crop_column=crop_column,
            inner_buffer_m=buffer_m,
            within=within,
        )
        observed = observe_items(table, items, exclude_flags=exclude)
        known = read_calibration(calibration) if calibration else None
        observed = add_interval(observed, correlation, known, shared=shared_error(items))
        files = [*write_report(observed, out), write_observations(observed, table, out)]
        if smooth is not None:
            from lai_training.parcels.curves import write_curves

            files += write_curves(observed, smooth, out)
    typer.echo(format_report(observed), err=True)
    _report_gaps(table.attrs[LEFT_OUT], missing_parcels(table, observed))
    if exclude and observed["lai"].isna().all():
        typer.echo(
            "No parcel has a mean: half of it must be free of the flags of --exclude-flags; with "
            "0 no flag counts.",
            err=True,
        )
    for path in files:
        typer.echo(path)


def _report_gaps(left_out: list[tuple[str, str]], missing: list[str]) -> None:
    """Print which parcels have no row, and why; a few by name."""
    for name, reason in left_out[:SHOWN]:
        typer.echo(f"Parcel {name} is left out: {reason}.", err=True)
    if len(left_out) > SHOWN:
        typer.echo(f"{len(left_out) - SHOWN} more are left out.", err=True)
    if missing:
        names = ", ".join(missing[:SHOWN]) + (", …" if len(missing) > SHOWN else "")
        typer.echo(f"{len(missing)} parcels meet no raster: {names}.", err=True)
