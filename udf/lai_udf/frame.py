"""What the commands of all packages share: version, progress, texts they read, how they fail.

Light to import: a command that prints its help does not wait for numpy.
"""

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

OPTIONS = {
    "reflectance_scale": "--scale",
    "reflectance_offset": "--offset",
    "calibration_file": "--calibration",
    "fields": "FIELDS",
}
"""Options and arguments whose name is not that of the parameter."""


def option_name(parameter: str, options: Mapping[str, str] = OPTIONS) -> str:
    """Return the option for a parameter: `--offset` for `reflectance_offset`."""
    return options.get(parameter, f"--{parameter.replace('_', '-')}")


@contextmanager
def one_sentence(program: str, options: Mapping[str, str] | None = None) -> Iterator[None]:
    """Print errors of the project as one sentence behind the program's name; exit with code 1.

    `options`: by parameter, where they differ from `OPTIONS`.
    """
    try:
        yield
    except ValueError as error:
        from lai_udf.predict import LaiError  # slow: not for `--help`

        if not isinstance(error, LaiError):
            raise
        typer.echo(f"{program}: {word(error, options)}", err=True)
        raise typer.Exit(1) from error


def word(error: Any, options: Mapping[str, str] | None = None) -> str:  # noqa: ANN401 (LaiError)
    """Return the sentence of an error with options for parameters."""
    names = {**OPTIONS, **(options or {})}
    sentence: str = error.word(lambda parameter: option_name(parameter, names))
    return sentence


def read_names(text: str, option: str, known: Sequence[str] | None = None) -> tuple[str, ...]:
    """Split `LAI,LAI_SD`; refuse names that are not among the known ones."""
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    unknown = [name for name in names if known is not None and name not in known]
    if unknown or not names:
        wrong = f"{', '.join(unknown)}: " if unknown else ""
        some = "some" if known is None else f"some of {', '.join(known)}"
        message = f"{wrong}give {some}, separated by commas"
        raise typer.BadParameter(message, param_hint=option)
    return names


def read_offset(texts: list[str] | None) -> float | dict[str, float] | None:
    """Return a number, or numbers by the date from which they hold (`2022-01-25=-0.1`)."""
    offsets: dict[str, float] = {}
    for text in texts or ():
        date, _, number = text.rpartition("=")
        try:
            offsets[date] = float(number)
        except ValueError as error:
            raise typer.BadParameter(
                f"{text!r} is neither a number nor DATE=NUMBER", param_hint="--offset"
            ) from error
    if not offsets:
        return None
    if "" in offsets and len(offsets) > 1:
        raise typer.BadParameter("give one number, or only DATE=NUMBER", param_hint="--offset")
    return offsets.get("", offsets)


@contextmanager
def show_progress(title: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on stderr, moved by calls with (done, total), and warnings above it."""
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s")
    with logging_redirect_tqdm(), tqdm(desc=title, unit=unit, leave=False, disable=None) as bar:

        def move(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield move


def commands_of(program: str, extra: str) -> type[TyperGroup]:
    """Return a group whose commands fail in one sentence, by `one_sentence`.

    Where a package is missing, the sentence names the extra that brings it.
    """

    class Commands(TyperGroup):
        """The commands of a program."""

        def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 (typer keeps its context class private)
            """Run the command that was asked for."""
            try:
                with one_sentence(program):
                    return super().invoke(ctx)
            except ModuleNotFoundError as error:
                if (error.name or "").startswith("lai_"):
                    raise
                typer.echo(
                    f"{program}: {ctx.invoked_subcommand} needs the package {error.name}: "
                    f'pip install "sentinel2-lai[{extra}]"',
                    err=True,
                )
                raise typer.Exit(1) from error

    return Commands


def version_option(program: str) -> Any:  # noqa: ANN401 (a type for typer)
    """Return the type of an option that prints the version and ends."""

    def show(wanted: bool) -> None:
        if wanted:
            from importlib.metadata import version

            typer.echo(f"{program} {version('sentinel2-lai')}")
            raise typer.Exit

    return Annotated[
        bool, typer.Option("--version", callback=show, is_eager=True, help="Show the version.")
    ]
