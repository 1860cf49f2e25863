"""`python -m experiments.networks BUNDLE... --report DIR`: tables and figures."""

from pathlib import Path
from typing import Annotated

import typer

from lai_training.cli.frame import one_sentence, show_progress


def main(
    networks: Annotated[
        list[Path], typer.Argument(metavar="BUNDLE...", help="Bundles and folders of runs.")
    ],
    report: Annotated[Path, typer.Option(help="Folder for the report.")] = Path("build/networks"),
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same simulated scenes.")] = 0,
) -> None:
    """Ask of networks whether they leave seams, what disturbs them, what their channels show."""
    from experiments.networks.report import describe
    from lai_training.evaluation.networks import open_networks
    from lai_training.reporting import REPORT, write_report
    from lai_training.simulation.spectral_library import shipped_library

    with (
        one_sentence(),
        show_progress("networks", "chapter") as progress,
        open_networks(networks) as opened,
    ):
        chapters = describe(opened, shipped_library(), seed=seed, progress=progress)
        write_report(chapters, report)
    typer.echo(report / REPORT)


if __name__ == "__main__":
    typer.run(main)
