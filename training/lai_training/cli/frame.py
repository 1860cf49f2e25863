"""What all commands of `lai-train` share: the version, their progress, and how they fail.

`sentinel2-lai` installs without what training needs; a command that lacks it says what to install.
"""

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Annotated, Any

import typer
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm
from typer.core import TyperGroup

from lai_training.errors import LaiTrainingError
from lai_udf.errors import LaiUdfError
from lai_udf.predict import LaiInputError


class Commands(TyperGroup):
    """The commands; one that finds a package missing says which extra brings it."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401  (typer keeps its context class private)
        """Run the command that was asked for."""
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # its build and its GPUs are no news
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("lai_"):
                raise
            typer.echo(
                f"lai-train: {ctx.invoked_subcommand} needs the package {error.name}: "
                'pip install "sentinel2-lai[training]"',
                err=True,
            )
            raise typer.Exit(1) from error


@contextmanager
def one_sentence(say: Callable[[str], str] = str) -> Iterator[None]:
    """Print our own errors as one sentence, in the words of `say`, and exit with code 1."""
    try:
        yield
    except (LaiTrainingError, LaiUdfError, LaiInputError) as error:
        typer.echo(f"lai-train: {say(str(error))}", err=True)
        raise typer.Exit(1) from error


@contextmanager
def show_progress(title: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on stderr, moved by calls with (done, total), and log lines above it."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s")
    logging.getLogger("lai_training").setLevel(logging.INFO)
    with (
        logging_redirect_tqdm(),
        tqdm(desc=title, unit=unit, leave=False, disable=None) as bar,
    ):

        def move(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield move


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lai-train {version('sentinel2-lai')}")
        raise typer.Exit


VersionOption = Annotated[
    bool,
    typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
]
