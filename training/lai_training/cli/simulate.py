"""`lai-train simulate`: a scene of simulated land, and its truth."""

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
    from lai_training.simulation.simulate import simulate as simulate_files

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
