"""What all commands of `lai-service` share: settings, the version, and how they fail."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from lai_service.errors import LaiServiceError
from lai_service.settings import Settings, read_settings
from lai_udf.frame import version_option

__all__ = ["Commands", "DataOption", "VersionOption", "settings_of"]


class Commands(TyperGroup):
    """The commands; a fault that their user can mend is one sentence and exit code 1."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401  (typer keeps its context class private)
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # the reader of our output went away: typer knows what to do
        except (LaiServiceError, OSError) as error:
            sentence = str(error)
            if isinstance(error, OSError) and error.filename:
                sentence = f"{error.filename}: {error.strerror}"
            typer.echo(f"lai-service: {sentence}", err=True)
            raise typer.Exit(1) from error


def settings_of(data: Path | None, **given: object) -> Settings:
    """Read the settings of a command; `data` is its `--data`, None where it was not given.

    Raises:
        SettingsError: a setting makes no sense.
    """
    return read_settings(**{key: value for key, value in {"data": data, **given}.items() if value})


DataOption = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="Data root (LAI_SERVICE_DATA).")
]
VersionOption = version_option("lai-service")
