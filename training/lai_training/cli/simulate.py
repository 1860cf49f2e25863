"""`lai-train simulate` and `realism`: make land, and see how it compares with real land."""

from datetime import UTC, datetime, time
from pathlib import Path
from typing import Annotated

import typer

from lai_training.cli.frame import one_sentence

OVERPASS = time(10, 56, 21, tzinfo=UTC)
"""When Sentinel-2 passes over the simulated place."""


def simulate(
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="GeoTIFF to write.")],
    size: Annotated[
        int, typer.Option(min=16, max=5490, help="Height and width, pixels of 20 m.")
    ] = 256,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same scene.")] = 0,
    date: Annotated[
        datetime,
        typer.Option(
            metavar="YYYY-MM-DD",
            formats=["%Y-%m-%d"],
            show_default="2020-06-08",
            help="Day of acquisition.",
        ),
    ] = datetime(2020, 6, 8),
    clouds: Annotated[float, typer.Option(min=0, max=90, help="Share under cloud, percent.")] = 0.0,
) -> None:
    """Simulate a Sentinel-2 scene; beside it `<name>_truth.tif` holds the true LAI."""
    from lai_training.land.simulate import simulate as simulate_files

    with one_sentence():
        files = simulate_files(
            output,
            size=size,
            seed=seed,
            date=datetime.combine(date, OVERPASS),
            cloud_cover_percent=clouds,
        )
    typer.echo(files.scene)
    typer.echo(files.truth)


def realism(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Real scenes (.tif).")],
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="Folder for the report.")],
    pixels: Annotated[
        Path | None, typer.Option(help="Real pixels too: Parquet, ten bands and clear.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the simulated patches.")] = 0,
) -> None:
    """Compare simulated land with real land: a table and a figure."""
    from lai_training.evaluation.realism import compare_with_real
    from lai_training.evaluation.realism_report import format_realism, write_realism
    from lai_training.land.simulate import LIBRARY_PATH
    from lai_training.land.spectral_library import load_or_make_library
    from lai_udf.atomic import disk_errors

    with one_sentence():
        with disk_errors(LIBRARY_PATH.parent):
            library = load_or_make_library(LIBRARY_PATH)
        found = compare_with_real(folder, library, pixels=pixels, seed=seed)
        path = write_realism(found, output)
    typer.echo(format_realism(found))
    typer.echo(path)
