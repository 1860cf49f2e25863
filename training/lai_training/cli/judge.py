"""Commands that judge something: bundles, field measurements, parcels."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from lai_training.cli.frame import FurtherOption, one_sentence, show_progress


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
    """Score networks against SL2P.

    The tables and figures of the paper, real imagery.
    """
    from lai_training.evaluation.networks import is_network

    if scenes is None and len(networks) > 1 and not is_network(networks[-1]):
        *networks, scenes = networks
    if scenes is None and report is None:
        raise typer.BadParameter("give --report DIR, or a folder of scenes to print scores of")
    from lai_training.evaluation import evaluate as measures
    from lai_training.evaluation.networks import open_networks
    from lai_training.evaluation.real_imagery import score_real_imagery, summarise
    from lai_training.evaluation.scores import CASES, REAL, read_real, run_cases, tabulate_scores
    from lai_training.evaluation.tables import format_table_4
    from lai_training.release import rewrite_bundle
    from lai_training.reporting import REPORT, write_report
    from lai_training.simulation.spectral_library import shipped_library

    with (
        one_sentence(),
        show_progress("evaluate", "scene") as progress,
        open_networks(networks) as opened,
    ):
        real = read_real(scenes) if scenes else []
        if report is None:
            scores = tabulate_scores(run_cases(real, opened, progress=progress))
            typer.echo("\n\n".join(format_table_4(scores, None, REAL, case) for case in CASES))
            return
        imagery = score_real_imagery(opened, scenes=scenes, ten_metres=ten_metres, series=series)
        chapters = measures.evaluate(
            opened,
            shipped_library(),
            scale=measures.SCALES[scale],
            seed=seed,
            real=real,
            progress=progress,
        )
        write_report([*chapters, *imagery], report)
        for network in opened if record else ():
            worth = {"metrics": {"real_imagery": summarise(imagery, network.name)}}
            rewrite_bundle(network.bundle, worth, network.bundle)
    typer.echo(report / REPORT)


def card(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Model bundle.")],
    output: Annotated[
        Path | None, typer.Argument(metavar="[OUT.md]", help="File to write; default: print.")
    ] = None,
) -> None:
    """Write the model card of a bundle.

    Everything in it comes from `model.json`.
    """
    from lai_training.bundles.model_card import model_card
    from lai_training.reporting import write_files
    from lai_udf.bundle import open_bundle

    with one_sentence():
        text = model_card(open_bundle(bundle).description)
        if output is None:
            typer.echo(text, nl=False)
            return
        write_files(output.parent, {}, {output.name: text})
    typer.echo(output)


def calibrate(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE.zip", help="Bundle to calibrate.")],
    pairs: Annotated[Path, typer.Option(help="Field pairs of LAI, CSV.")],
    further: FurtherOption = None,
    out: Annotated[Path | None, typer.Option(help="Zip to write. Default: BUNDLE itself.")] = None,
    like: Annotated[
        Path | None,
        typer.Option(help="Take the calibration of this bundle instead of fitting one."),
    ] = None,
) -> None:
    """Fit the field correction and intervals.

    Fitted to field measurements, and written into a bundle.

    The calibration depends on SL2P and the field data alone: the same for every network.
    """
    from lai_training.release import make_calibration, rewrite_bundle
    from lai_udf.predict import load_model

    with one_sentence():
        calibration = (
            make_calibration(pairs, further)
            if like is None
            else load_model(str(like)).contract["calibration"]
        )
        path = rewrite_bundle(bundle, {"calibration": calibration}, out or bundle)
    typer.echo(path)


def validate(
    pairs: Annotated[Path, typer.Argument(metavar="PAIRS.csv", help="Field pairs.")],
    out: Annotated[Path, typer.Option(help="Folder for tables and figures.")] = Path(
        "build/validate"
    ),
    model: Annotated[
        list[Path] | None, typer.Option(help="Bundle; may be repeated. Default: the shipped one.")
    ] = None,
    further: FurtherOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = 0,
) -> None:
    """Score networks against field measurements.

    Beside them SL2P, and what else the table holds.

    On site-dates that a bundle was calibrated on, its interval and correction are fitted anew
    without the site-date that is predicted.
    """
    import numpy as np

    from lai_training.calibration.measurements import gather_further, read_pairs
    from lai_training.calibration.predictors import predict_baselines, predict_by_bundle
    from lai_training.calibration.report import describe
    from lai_training.calibration.validate import validate as score
    from lai_training.reporting import format_chapters, write_report
    from lai_udf.bundle import default_bundle_path

    with one_sentence():
        table = read_pairs(pairs)
        predictions, more = predict_baselines(table), gather_further(further)
        for bundle in model or [default_bundle_path()]:
            predictions |= predict_by_bundle(bundle, table, more)
        chapters = describe(score(table, predictions, rng=np.random.default_rng(seed)))
        files = write_report(chapters, out)
    typer.echo(format_chapters(chapters))
    for path in files:
        typer.echo(path, err=True)


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
    smooth: Annotated[
        int | None,
        typer.Option(min=1, max=60, help="Curves of this step, days, and seasons as well."),
    ] = None,
) -> None:
    """Average LAI over parcels.

    With interval and valid fraction; the tables 7-9 and figures 9-12 of the paper.
    """
    import pandas as pd

    from lai_training.parcels.means import (
        add_interval,
        find_items,
        missing_parcels,
        observe_items,
        outline_items,
        read_parcels,
    )
    from lai_training.parcels.report import format_report, write_curves, write_report
    from lai_udf import series
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

        def observe(exclude_flags: int) -> pd.DataFrame:
            observations = observe_items(table, items, exclude_flags=exclude_flags)
            return add_interval(observations, correlation, shared=shared_error(items))

        observed = observe(exclude)
        files = write_report(observed, out, table)
        if smooth is not None:
            counted = observe(series.IMPOSSIBLE_FLAGS if exclude_flags is None else exclude_flags)
            files += write_curves(counted, smooth, out)
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
