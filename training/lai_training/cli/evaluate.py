"""`lai-train evaluate` and `card`: what a bundle is worth, and what it says of itself."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from lai_training.cli.frame import one_sentence, show_progress


def evaluate(
    networks: Annotated[
        list[Path],
        typer.Argument(
            metavar="BUNDLE... [SCENES]",
            help="Model bundles and folders of runs; last, if given, a folder of scenes (.tif).",
        ),
    ],
    scenes: Annotated[Path | None, typer.Option(help="Folder of real scenes (.tif).")] = None,
    report: Annotated[
        Path | None, typer.Option(help="Folder for the report; without it, table 4 is printed.")
    ] = None,
    scale: Annotated[Literal["tiny", "small", "full"], typer.Option(help="How much.")] = "small",
    noise: Annotated[
        float, typer.Option(min=0, help="Band noise of the printed table; 1 = as measured.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same simulated scenes.")] = 0,
    series: Annotated[
        Path | None,
        typer.Option(help="Cube of a real series with SCL, for pairs of dates and residual cloud."),
    ] = None,
    ten_metres: Annotated[
        Path | None, typer.Option(help="Folder of real scenes at 10 m (.tif), for maps of 10 m.")
    ] = None,
    record: Annotated[
        bool, typer.Option("--record", help="Write the scores on real imagery into the bundle.")
    ] = False,
) -> None:
    """Score networks against SL2P: the paper's tables and figures, seams, robustness."""
    from lai_training.evaluation.networks import is_network

    if scenes is None and len(networks) > 1 and not is_network(networks[-1]):
        *networks, scenes = networks
    if report is not None:
        real = {"scenes": scenes, "ten_metres": ten_metres, "series": series}
        typer.echo(_write_report(networks, real, report, scale, seed, record))
    elif scenes is not None:
        _print_scores(networks, scenes, noise)
    else:
        raise typer.BadParameter("give --report DIR, or a folder of scenes to print scores of")


def _print_scores(paths: list[Path], scenes: Path, noise: float) -> None:
    """Print the paper's table 4 on real scenes: with angles, without, and with noise."""
    from lai_training.evaluation.networks import open_networks
    from lai_training.scores.emulation import find_scenes, format_scores, score_scenes

    cases = {"angles given": (0.0, True), "nominal angles": (0.0, False)}
    if noise:
        cases[f"with noise {noise:g}"] = (noise, False)
    rows = {}
    with one_sentence(), open_networks(paths) as networks:
        files = find_scenes(scenes)
        for network in networks:
            label = f"{network.name}, " if len(networks) > 1 else ""
            for title, (level, angles) in cases.items():
                with show_progress("evaluate", "scene") as progress:
                    rows[label + title] = score_scenes(
                        files, network.bundle, noise=level, angles=angles, progress=progress
                    )
    typer.echo(format_scores(rows))


def _write_report(
    paths: list[Path],
    real: dict[str, Path | None],
    report: Path,
    scale: str,
    seed: int,
    record: bool,
) -> Path:
    from lai_training.bundles.recalibrate import rewrite_bundle
    from lai_training.evaluation.evaluate import SCALES
    from lai_training.evaluation.evaluate import evaluate as measure
    from lai_training.evaluation.networks import open_networks
    from lai_training.evaluation.real_imagery import score_real_imagery, summarise
    from lai_training.evaluation.report import write_report
    from lai_training.evaluation.scenes import read_real
    from lai_training.simulation.spectral_library import shipped_library

    with (
        one_sentence(),
        show_progress("evaluate", "step") as progress,
        open_networks(paths) as networks,
    ):
        evaluation = measure(
            networks,
            shipped_library(),
            scale=SCALES[scale],
            seed=seed,
            real=read_real(real["scenes"]) if real["scenes"] else [],
            progress=progress,
        )
        chapters = score_real_imagery(networks, **real)
        path = write_report(evaluation, report, chapters)
        for network in networks if record else ():
            worth = {"real_imagery": summarise(chapters, network.name)}
            rewrite_bundle(network.bundle, "metrics", worth, network.bundle)
        return path


def card(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Model bundle.")],
    output: Annotated[
        Path | None, typer.Argument(metavar="[OUT.md]", help="File to write; default: print.")
    ] = None,
) -> None:
    """Write the model card of a bundle, from its model.json alone."""
    from lai_training.bundles.model_card import model_card
    from lai_udf.atomic import disk_errors, move_finished, work_folder
    from lai_udf.bundle import open_bundle

    with one_sentence():
        text = model_card(open_bundle(bundle).description)
        if output is None:
            typer.echo(text, nl=False)
            return
        with work_folder(output.parent) as work, disk_errors(output.parent):
            (work / output.name).write_text(text, encoding="utf-8")
            move_finished({work / output.name: output})
    typer.echo(output)
