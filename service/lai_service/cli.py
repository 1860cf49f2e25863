"""The command line: `lai-service serve | publish | browser | export | repair | upgrade | backup`.

Results go to stdout, logs and errors to stderr. Exit code 1: the work could not be done, with one
sentence why; 2: wrong use of the command. Each command imports what it needs, so that `publish`
does not wait for GDAL and titiler.
"""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from lai_service.errors import LaiServiceError, SettingsError
from lai_udf.frame import version_option

try:
    from lai_service.settings import Settings, read_settings
except ModuleNotFoundError as missing:
    raise SystemExit(
        f"lai-service: {missing.name} is not installed; it comes with the extra 'service': "
        "pip install 'sentinel2-lai[service]'"
    ) from missing


class Commands(TyperGroup):
    """The commands; a fault that their user can mend is one sentence and exit code 1."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401  (typer keeps its context class private)
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # the reader of our output went away: typer handles it
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


app = typer.Typer(
    cls=Commands,
    help="Publish LAI items: STAC API, files, tiles and time series. Settings: LAI_SERVICE_*.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain text, the same on every terminal and in every log
)


@app.callback()
def main(version: VersionOption = False) -> None:  # type: ignore[valid-type]
    """Take the options that belong to no command."""


@app.command()
def serve(
    host: Annotated[str, typer.Option(metavar="HOST", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(metavar="PORT", min=0, max=65535, help="Port to listen on; 0: a free one."),
    ] = 8080,
    data: DataOption = None,
    allow: Annotated[
        list[Path] | None,
        typer.Option(metavar="FOLDER", help="Folder that may be published from; repeatable."),
    ] = None,
    root_path: Annotated[
        str, typer.Option(metavar="PATH", help="Path that a proxy in front takes off: /lai.")
    ] = "",
) -> None:
    """Serve the catalogue over HTTP.

    Writing needs LAI_SERVICE_TOKEN.
    """
    from lai_service.ops.request_log import configure_logging
    from lai_service.settings import warn_of_unknown_variables

    settings = settings_of(data, allowed_roots=tuple(allow or ()), root_path=root_path)
    configure_logging(settings.log)
    warn_of_unknown_variables()
    from lai_service.ops.serving import hold_port, serve_forever

    with hold_port(host, port) as held:  # before the slow import that follows
        from lai_service.app import create_app

        app = create_app(settings)
        serve_forever(app, held, settings.trusted_proxies, settings.root_path)


@app.command()
def publish(
    sources: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="SOURCE",
            help="Folders of items, of COGs from `lai-udf run`, or of the results of openEO jobs; "
            "or folders of such folders.",
            exists=True,
        ),
    ] = None,
    jobs: Annotated[
        Path | None, typer.Option(metavar="TABLE", help="Table of `lai-udf produce`.", exists=True)
    ] = None,
    url: Annotated[
        str, typer.Option(metavar="URL", help="Address of the service.")
    ] = "http://127.0.0.1:8080",
    token: Annotated[
        str | None, typer.Option(metavar="TOKEN", help="Bearer token.", envvar="LAI_SERVICE_TOKEN")
    ] = None,
    collection: Annotated[
        str | None, typer.Option(metavar="ID", help="Collection to publish into.")
    ] = None,
) -> None:
    """Publish results through a running service.

    Results are items, COGs and openEO jobs; prints their addresses.

    What is there already stays as it is: the same command resumes after an interruption.
    """
    from lai_service.ops.client import find_sources, folders_of_table, publish_many

    paths = [*(sources or []), *(folders_of_table(jobs) if jobs else [])]
    if not paths:
        raise typer.BadParameter("give a SOURCE or --jobs TABLE")
    if not publish_many(find_sources(paths), url, token, collection, typer.echo):
        raise typer.Exit(1)


@app.command()
def browser(
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Build again.")] = False,
    folder: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where to put it.")] = None,
) -> None:
    """Build STAC Browser (needs node 20).

    From npm; `serve` then shows it at /browser.
    """
    from lai_service.ops.browser_build import BROWSER_VERSION, build_browser, cache_folder, is_built

    target = folder or cache_folder()
    if rebuild or not is_built(target):
        typer.echo(f"npm fetches and builds STAC Browser {BROWSER_VERSION}: some minutes", err=True)
    typer.echo(str(build_browser(target, rebuild=rebuild)))


@app.command()
def export(
    target: Annotated[
        Path, typer.Argument(metavar="TARGET", help="New folder for the static catalogue.")
    ],
    data: DataOption = None,
    files: Annotated[bool, typer.Option(help="Copy the rasters too.")] = True,
) -> None:
    """Write the catalogue as static STAC files.

    Any web server can show them.
    """
    from lai_service.catalogue.databases import open_catalogue
    from lai_service.ops.export import export_catalogue

    settings = settings_of(data)
    count = export_catalogue(open_catalogue(settings, make=False), settings, target, files=files)
    typer.echo(f"{count} items: {target / 'catalog.json'}")


@app.command()
def repair(
    data: DataOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would go.")] = False,
) -> None:
    """Repair files and summaries.

    Removes files that no item names, makes summaries anew, and lists items whose files are gone.
    """
    from lai_service.catalogue.databases import open_catalogue
    from lai_service.ops.upkeep import repair_data

    settings = settings_of(data)
    report = repair_data(open_catalogue(settings, make=False), settings.data, dry_run=dry_run)
    for path in report.removed:
        typer.echo(f"{'would remove' if dry_run else 'removed'} {path}")
    if not report.removed and not report.broken:
        typer.echo("nothing to repair")
    for name in report.broken:
        typer.echo(f"files missing: {name}", err=True)
    if report.broken:
        raise typer.Exit(1)


@app.command()
def upgrade(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FOLDER", help="Item folders in place of the catalogue."),
    ] = None,
    data: DataOption = None,
) -> None:
    """Upgrade items of an earlier release.

    They get the ids, fields and numbers of today.
    """
    from lai_stac.upgrade import upgrade_folder
    from lai_udf.predict import LaiError

    failed: list[tuple[str, str]] = []
    if folders:
        for folder in folders:
            try:
                typer.echo(f"{folder} -> {upgrade_folder(folder)}")
            except LaiError as error:
                failed.append((str(folder), str(error)))
    else:
        from lai_service.catalogue.databases import open_catalogue
        from lai_service.ops.upkeep import upgrade_catalogue

        settings = settings_of(data)
        catalogue = open_catalogue(settings, make=False)
        done, failed = upgrade_catalogue(
            catalogue, settings.data, lambda old, new: typer.echo(f"{old} -> {new}")
        )
        if not done and not failed:
            typer.echo("nothing to upgrade")
    for name, reason in failed:
        typer.echo(f"not upgraded: {name}: {reason}", err=True)
    if failed:
        raise typer.Exit(1)


@app.command()
def backup(
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="New SQLite file.")],
    data: DataOption = None,
) -> None:
    """Copy the database while the service runs.

    Restoring is copying it back.
    """
    from lai_service.catalogue.databases import open_catalogue
    from lai_service.catalogue.sqlite import SqliteCatalogue

    catalogue = open_catalogue(settings_of(data), make=False)
    if not isinstance(catalogue, SqliteCatalogue):
        raise SettingsError("pg_dump backs up a PostgreSQL catalogue; see the service README")
    catalogue.backup(target)
    typer.echo(str(target))


if __name__ == "__main__":
    app()
