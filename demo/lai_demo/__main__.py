"""`python -m lai_demo`: what `make demo` calls. Progress and summary on stdout."""

from pathlib import Path
from typing import Annotated

import typer

from lai_udf.frame import one_sentence

SETTINGS = {
    "reflectance_scale": "SCALE=",
    "reflectance_offset": "OFFSET=",
    "datetime": "DATETIME=",
    "samples": "SAMPLES=",
}
"""What `make demo` calls parameters."""


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
    with one_sentence("lai-demo", SETTINGS):
        from lai_demo import steps
        from lai_demo.servers import LaiDemoError
        from lai_service.errors import LaiServiceError

        given = {"reflectance_scale": scale, "reflectance_offset": offset}
        declared = {name: _number(name, text) for name, text in given.items() if text}
        options = steps.DemoOptions(
            out=out,
            scene=scene or None,
            declared=declared | ({"datetime": datetime} if datetime else {}),
            samples=samples,
            window=window,
            model=model,
            serve=serve,
        )
        try:
            typer.echo(steps.run_demo(options, typer.echo))
        except LaiServiceError as error:
            raise LaiDemoError(str(error)) from error


def _number(name: str, text: str) -> float:
    from lai_demo.servers import LaiDemoError

    try:
        return float(text)
    except ValueError as error:
        raise LaiDemoError(parameter=name, value=text, expected="a number") from error


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False, rich_markup_mode=None)
    app.command()(main)
    app()
