"""`lai-train`: train, score and export. Each command parses, calls and prints.

Result paths and tables go to stdout, progress and errors to stderr. Exit code 1: the work could
not be done, with one sentence why; 2: wrong use of the command.
"""

import typer

from lai_training.cli.frame import Commands, VersionOption
from lai_training.cli.judge import calibrate, card, evaluate, parcels, validate
from lai_training.cli.learn import export, fit, prepare, simulate, sl2p

app = typer.Typer(
    cls=Commands,
    help="Learn LAI from Sentinel-2: the teacher SL2P, simulation, training, validation.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain text, the same on every terminal and in every log
)


@app.callback()
def main(_version: VersionOption = False) -> None:
    """Take the options that belong to no command."""


COMMANDS = (simulate, prepare, fit, export, evaluate, card, calibrate, validate, parcels)
for command in COMMANDS:
    app.command()(command)
app.command()(sl2p)
