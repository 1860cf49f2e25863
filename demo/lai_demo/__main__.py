"""`python -m lai_demo`: what `make demo` calls. Progress and summary on stdout."""

from pathlib import Path
from typing import Annotated

import typer

from lai_demo.errors import LaiDemoError


def main(
    scene: Annotated[str, typer.Option(help="GeoTIFF, STAC item or SAFE; empty: simulated.")] = "",
    out: Annotated[Path, typer.Option(help="Output folder.")] = Path("build/demo"),
    scale: Annotated[str, typer.Option(help="Reflectance scale of undeclared data.")] = "",
    offset: Annotated[str, typer.Option(help="Reflectance offset of undeclared data.")] = "",
    datetime: Annotated[str, typer.Option(help="Time of a scene that states none.")] = "",
    samples: Annotated[int, typer.Option(help="Monte-Carlo draws; 0: single pass.")] = 0,
    window: Annotated[int, typer.Option(help="Core of the windows, px: 96 or 224.")] = 224,
    model: Annotated[Path | None, typer.Option(help="Model bundle; default: the shipped.")] = None,
    serve: Annotated[bool, typer.Option(help="Leave the service up.")] = False,
) -> None:
    """Run the whole data flow: scene, openEO back-end, COGs, STAC item, service, search."""
    from lai_demo.pipeline import DemoOptions, run_demo
    from lai_service.errors import LaiServiceError
    from lai_stac.errors import LaiStacError
    from lai_udf.errors import LaiUdfError
    from lai_udf.predict import LaiInputError

    try:
        options = DemoOptions(
            out=out,
            scene=scene or None,
            scale=_number("SCALE", scale),
            offset=_number("OFFSET", offset),
            datetime=datetime or None,
            samples=samples,
            window=window,
            model=model,
            serve=serve,
        )
        typer.echo(run_demo(options, typer.echo))
    except (
        LaiDemoError,
        LaiUdfError,
        LaiInputError,
        LaiStacError,
        LaiServiceError,
        ValueError,
    ) as error:
        typer.echo(f"lai-demo: {error}", err=True)
        raise typer.Exit(1) from error


def _number(name: str, text: str) -> float | None:
    try:
        return float(text) if text else None
    except ValueError as error:
        raise ValueError(f"{name}={text} is no number; write it as 0.0001 or -0.1") from error


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False, rich_markup_mode=None)
    app.command()(main)
    app()
