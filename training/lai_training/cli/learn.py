"""Commands that make something: scenes, pools, runs, bundles, and SL2P's estimates."""

from datetime import UTC, datetime, time
from pathlib import Path
from typing import Annotated, Literal

import typer

from lai_training.cli.frame import FurtherOption, one_sentence, show_progress

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
    """Simulate a Sentinel-2 scene.

    Beside it `<name>_truth.tif` holds the true LAI.
    """
    from lai_training.simulation.simulate import simulate as simulate_files

    with one_sentence():
        files = simulate_files(
            output,
            size=size,
            seed=seed,
            date=datetime.combine(date, OVERPASS),
            cloud_cover_percent=clouds,
        )
    typer.echo("\n".join(map(str, files)))


def prepare(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="YAML, as training/configs/paper_data.yaml.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the pool.")],
    source: Annotated[
        list[str] | None,
        typer.Option(
            help="SAFE folder, STAC Item, GeoTIFF, or a folder of such; may be repeated. "
            "Added to the sources of the config."
        ),
    ] = None,
) -> None:
    """Cut training patches from L2A products.

    Their labels are those of SL2P.
    """
    from lai_training.config_files import read_yaml
    from lai_training.datasets.config import PrepareConfig
    from lai_training.datasets.manifest import MANIFEST, format_manifest
    from lai_training.datasets.prepare import prepare as make_pool

    with one_sentence(), show_progress("prepare", "product") as progress:
        wanted = read_yaml(config, PrepareConfig)
        wanted = wanted.model_copy(update={"sources": (*wanted.sources, *(source or ()))})
        manifest = make_pool(wanted, out, progress=progress)
    typer.echo(format_manifest(manifest))
    typer.echo(out / MANIFEST)


POOLS = Path("build/pools")


def fit(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", exists=True, help="YAML of training/configs.")
    ],
    run: Annotated[
        Path | None, typer.Option(help="Folder of the run; default: runs/<name of the config>.")
    ] = None,
    pools: Annotated[Path, typer.Option(help="Where simulated patches are kept.")] = POOLS,
    scenes: Annotated[
        Path | None,
        typer.Option(help="Folder of real scenes; only for configs that learn from scenes."),
    ] = None,
) -> None:
    """Fit a network, or go on with a fit."""
    from lai_training.learn.config import FitConfig, read_config

    folder = run or Path("runs") / config.stem
    with one_sentence():
        experiment = read_config(config)
        from lai_training.learn.fit import fit as fit_network
        from lai_training.restore.fit import fit_bodies
        from lai_training.restore.scenes import read_scenes

        if not isinstance(experiment, FitConfig):
            images = read_scenes(scenes or Path(experiment.scenes))
        elif scenes is not None:
            raise typer.BadParameter("this config learns from a pool: --scenes is not for it")
        with show_progress("fit", "batch") as progress:
            if isinstance(experiment, FitConfig):
                result = fit_network(experiment, folder, pools=pools, progress=progress)
            else:
                result = fit_bodies(experiment, images, folder, pools=pools, progress=progress)
    typer.echo(result)


def export(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", exists=True, help="Folder of a finished run.")
    ],
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Zip to write.")],
    version: Annotated[str, typer.Option(help="Version of the model, such as 0.1.0.")],
    pairs: Annotated[
        Path,
        typer.Option(metavar="PAIRS.csv", exists=True, help="Field pairs to calibrate on."),
    ],
    scenes: Annotated[
        Path | None, typer.Option(exists=True, help="Folder of real scenes (.tif) to score on.")
    ] = None,
    further: FurtherOption = None,
) -> None:
    """Export a finished run as a model bundle.

    The bundle is calibrated and scored.
    """
    from lai_training.release import release

    with one_sentence(), show_progress("export", "scene") as progress:
        path = release(
            run,
            bundle,
            version=version,
            pairs=pairs,
            scenes=scenes,
            further=further,
            progress=progress,
        )
    typer.echo(path)


def sl2p(
    source: Annotated[
        str, typer.Argument(metavar="INPUT", help="GeoTIFF, STAC Item, SAFE, netCDF or Zarr cube.")
    ],
    output: Annotated[
        Path, typer.Argument(metavar="OUTPUT", help="GeoTIFF to write; of a cube: folder.")
    ],
    variable: Annotated[
        list[str] | None,
        typer.Option(help="LAI, FAPAR, FCOVER, CCC, CWC; may be repeated.", show_default="LAI"),
    ] = None,
    network: Annotated[Literal["2_1", "3_0"], typer.Option(help="SNAP's set of networks.")] = "2_1",
    sensor: Annotated[
        Literal["S2A", "S2B", "S2C"] | None, typer.Option(help="Default: that of the scene.")
    ] = None,
    scale: Annotated[float | None, typer.Option(help="Reflectance per digital number.")] = None,
    offset: Annotated[float | None, typer.Option(help="Reflectance at digital number 0.")] = None,
    datetime: Annotated[
        str | None,
        typer.Option(help="Time of a scene that does not state it: 2021-06-24T10:30:31Z."),
    ] = None,
) -> None:
    """Run SL2P, the networks of SNAP, over a scene.

    Writes its values and the flag bits of SNAP.

    Of a cube: LAI of every date, where `lai-udf run` puts that of the network.
    """
    from lai_training.sl2p.scene import choose_sensor, write_sl2p, write_sl2p_series
    from lai_udf.scenes.cubes import CUBE_SUFFIXES, open_dataset
    from lai_udf.scenes.read import open_scene

    if Path(source).suffix.lower() in CUBE_SUFFIXES:
        if (variable or ["LAI"]) != ["LAI"]:
            raise typer.BadParameter("of a cube there is LAI only", param_hint="--variable")
        with one_sentence(), show_progress("SL2P", "date") as progress:
            paths = write_sl2p_series(
                open_dataset(source),
                output,
                network=network,
                sensor=sensor or "S2A",
                reflectance_scale=scale,
                reflectance_offset=offset,
                datetime=datetime,
                progress=progress,
            )
        typer.echo("\n".join(map(str, paths)))
        return
    with one_sentence(), show_progress("SL2P", "strip") as progress:
        scene = open_scene(
            source, reflectance_scale=scale, reflectance_offset=offset, datetime=datetime
        )
        path = write_sl2p(
            scene,
            output,
            variables=variable or ["LAI"],
            network=network,
            sensor=sensor or choose_sensor(scene, network),
            progress=progress,
        )
    typer.echo(path)
