"""`lai-train prepare`: real Sentinel-2 products to a pool of training patches."""

from pathlib import Path
from typing import Annotated

import typer

from lai_training.cli.frame import one_sentence, show_progress


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
    """Turn Sentinel-2 L2A products into training patches with SL2P labels."""
    from lai_training.datasets.config import PrepareConfig
    from lai_training.datasets.manifest import MANIFEST, format_manifest
    from lai_training.datasets.prepare import prepare as make_pool
    from lai_training.learn.config_files import read_yaml

    with one_sentence(), show_progress("prepare", "product") as progress:
        wanted = read_yaml(config, PrepareConfig)
        wanted = wanted.model_copy(update={"sources": (*wanted.sources, *(source or ()))})
        manifest = make_pool(wanted, out, progress=progress)
    typer.echo(format_manifest(manifest))
    typer.echo(out / MANIFEST)
