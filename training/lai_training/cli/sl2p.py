"""`lai-train sl2p`: the teacher itself, over a scene or a cube."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from lai_training.cli.frame import one_sentence, show_progress


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
        Literal["S2A", "S2B", "S2C"] | None, typer.Option(help="Default: what the scene says.")
    ] = None,
    scale: Annotated[float | None, typer.Option(help="Reflectance per digital number.")] = None,
    offset: Annotated[float | None, typer.Option(help="Reflectance at digital number 0.")] = None,
    datetime: Annotated[
        str | None,
        typer.Option(help="Time of a scene that does not state it: 2021-06-24T10:30:31Z."),
    ] = None,
) -> None:
    """Run SL2P, the networks of SNAP, over a scene: values and SNAP's flag bits.

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
