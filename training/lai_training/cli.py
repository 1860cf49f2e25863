"""`lai-train`: teach, score and export. Each command parses, calls and prints.

Result paths and tables go to stdout, progress and errors to stderr. Exit code 1: the work could
not be done, with one sentence why; 2: wrong use of the command.
"""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import typer

from lai_training import cli_parcels
from lai_training.cli_fit import evaluate, export, fit
from lai_training.cli_frame import one_sentence, show_progress
from lai_training.cli_simulate import realism, simulate
from lai_udf.products import open_scene

app = typer.Typer(
    help="Learn LAI from Sentinel-2: the teacher SL2P, simulation, training, validation.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for command in (simulate, realism, fit, export, evaluate):
    app.command()(command)
cli_parcels.register(app)


@app.command()
def sl2p(
    source: Annotated[str, typer.Argument(metavar="INPUT", help="GeoTIFF, STAC Item or SAFE.")],
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="GeoTIFF to write.")],
    variable: Annotated[
        list[str] | None, typer.Option(help="LAI, FAPAR, FCOVER, CCC, CWC; may be repeated.")
    ] = None,
    network: Annotated[Literal["2_1", "3_0"], typer.Option(help="SNAP's set of networks.")] = "2_1",
    sensor: Annotated[
        Literal["S2A", "S2B", "S2C"] | None, typer.Option(help="Default: what the scene says.")
    ] = None,
    scale: Annotated[float | None, typer.Option(help="Reflectance per digital number.")] = None,
    offset: Annotated[float | None, typer.Option(help="Reflectance at digital number 0.")] = None,
) -> None:
    """Run SL2P, the networks of SNAP, over a scene: values and SNAP's flag bits."""
    from lai_training.sl2p_scene import choose_sensor, write_sl2p

    with one_sentence(), show_progress("SL2P", "strip") as progress:
        scene = open_scene(source, reflectance_scale=scale, reflectance_offset=offset)
        path = write_sl2p(
            scene,
            output,
            variables=variable or ["LAI"],
            network=network,
            sensor=sensor or choose_sensor(scene, network),
            progress=progress,
        )
    typer.echo(path)


@app.command()
def validate(
    pairs: Annotated[Path, typer.Argument(metavar="PAIRS.csv", help="Field pairs.")],
    out: Annotated[Path, typer.Option(help="Folder for tables and figure.")] = Path(
        "build/validate"
    ),
    model: Annotated[Path | None, typer.Option(help="Model bundle to score beside SL2P.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
) -> None:
    """Score SL2P, what else the table holds and a network against field-measured LAI.

    A bundle that was calibrated on the same pairs is scored on its own teaching here; its
    `model.json` holds the scores of site-dates that were left out.
    """
    from lai_training.emulation import list_networks
    from lai_training.pairs import list_baselines, read_pairs
    from lai_training.validate import validate as score
    from lai_training.validate_report import format_report, write_report

    with one_sentence():
        table = read_pairs(pairs)
        predictors = list_baselines(table) | (list_networks(model) if model else {})
        result = score(table, predictors, rng=np.random.default_rng(seed))
        write_report(result, out)
    typer.echo(format_report(result))
    typer.echo(f"tables and figure: {out}")
