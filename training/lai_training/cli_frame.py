"""What all commands of `lai-train` share: how they report progress, and how they fail."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from lai_training.errors import LaiTrainingError
from lai_udf.errors import LaiUdfError
from lai_udf.predict import LaiInputError


@contextmanager
def one_sentence() -> Iterator[None]:
    """Print our own errors as one sentence and exit with code 1."""
    try:
        yield
    except (LaiTrainingError, LaiUdfError, LaiInputError) as error:
        typer.echo(f"lai-train: {error}", err=True)
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
