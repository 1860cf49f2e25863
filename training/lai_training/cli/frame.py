"""What all commands of `lai-train` share, on top of `lai_udf.frame`."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from lai_udf import frame

PROGRAM = "lai-train"
VersionOption = frame.version_option(PROGRAM)
FurtherOption = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        help="Folder of further field tables to fit on: GROUNDED EO, Swiss winter wheat.",
    ),
]


class Commands(frame.commands_of(PROGRAM, "training")):  # type: ignore[misc]
    """The commands; one that finds a package missing names the extra that brings it."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 (typer keeps its context class private)
        """Run the command that was asked for."""
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # its build and its GPUs are no news
        return super().invoke(ctx)


def one_sentence() -> AbstractContextManager[None]:
    """Print our own errors as one sentence and exit with code 1."""
    return frame.one_sentence(PROGRAM)


@contextmanager
def show_progress(title: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on stderr, moved by calls with (done, total), and log lines above it."""
    logging.getLogger("lai_training").setLevel(logging.INFO)
    with frame.show_progress(title, unit) as move:
        yield move
