"""`python -m experiments.seasons OUTPUT`: three seasons, tables and figures."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from lai_training.cli.frame import one_sentence, show_progress


def main(
    out: Annotated[Path, typer.Argument(metavar="OUTPUT", help="Folder.")],
    size: Annotated[int, typer.Option(min=64, max=2048, help="Side of a landscape, px.")] = 320,
    dates: Annotated[int, typer.Option(min=2, help="Overpasses, February to November.")] = 14,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same seasons.")] = 0,
    model: Annotated[Path | None, typer.Option(help="Model bundle; default: ours.")] = None,
    target: Annotated[Literal["sl2p", "field"], typer.Option(help="What LAI means.")] = "sl2p",
) -> None:
    """Calibrate parcel intervals on two simulated seasons and judge them on a third."""
    from experiments.seasons.benchmark import run_benchmark, score_truth
    from lai_training.parcels.report import format_report, write_report
    from lai_training.simulation.spectral_library import shipped_library
    from lai_udf.identity import RunOptions

    with one_sentence(), show_progress("season", "date") as progress:
        options = RunOptions(model=model, target=target)
        result = run_benchmark(
            out,
            shipped_library(),
            size_px=size,
            dates=dates,
            seed=seed,
            options=options,
            progress=progress,
        )
        files = write_report(result.observations, out / "report")
    typer.echo(format_report(result.observations), err=True)
    typer.echo("\nAgainst the truth\n" + score_truth(result.observations).to_string(), err=True)
    typer.echo(
        "\nThe pixels' own intervals, averaged (lai-train parcels, where a bundle states no shared "
        f"error), hold {result.pixel_coverage:.1%} of the true means; shrunk by the "
        f"correlation of pixel errors in the other seasons, {result.correlation:.2f}, "
        f"{result.shrunk_coverage:.1%}.",
        err=True,
    )
    for path in files:
        typer.echo(path)


if __name__ == "__main__":
    typer.run(main)
