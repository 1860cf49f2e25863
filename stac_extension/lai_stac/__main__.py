"""`python -m lai_stac FOLDER …`: write the STAC items of what `lai-udf run` left in folders."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(pretty_exceptions_enable=False, add_completion=False, rich_markup_mode=None)


@app.command()
def main(
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDER", help="Output folders of lai-udf run.")
    ],
    model: Annotated[
        list[Path] | None,
        typer.Option(metavar="BUNDLE", help="Bundle that made them; default: ours. Repeatable."),
    ] = None,
) -> None:
    """Describe every result below the folders; the paths of the items go to stdout."""
    from lai_stac.cog_items import describe_runs
    from lai_stac.errors import LaiStacError
    from lai_udf.bundle import open_bundle
    from lai_udf.predict import LaiModelError

    try:
        bundles = [open_bundle(path) for path in model or []]
        paths = describe_runs(folders, bundles=bundles)
    except (LaiStacError, LaiModelError) as error:
        typer.echo(f"lai_stac: {error}", err=True)
        raise typer.Exit(1) from error
    for path in paths:
        typer.echo(path)


if __name__ == "__main__":
    app(prog_name="python -m lai_stac")
