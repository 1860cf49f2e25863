"""The command line: `lai-service serve | publish | browser | export | repair | backup`.

Each command imports what it needs, so that `publish` does not wait for GDAL and titiler.
"""

import logging
from pathlib import Path
from typing import Annotated

import typer

from lai_service.errors import LaiServiceError, SettingsError

try:
    from lai_service.settings import Settings
except ModuleNotFoundError as missing:
    raise SystemExit(
        f"lai-service: {missing.name} is not installed; it comes with the extra 'service': "
        "pip install 'sentinel2-lai[service]'"
    ) from missing

__all__ = ["app"]

app = typer.Typer(
    help="Publish LAI items: STAC API, files, tiles and time series. Settings: LAI_SERVICE_*.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _fail(error: Exception) -> typer.Exit:
    typer.echo(f"lai-service: {error}", err=True)
    return typer.Exit(1)


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8080,
    data: Annotated[Path | None, typer.Option(help="Data root (LAI_SERVICE_DATA).")] = None,
    allow: Annotated[
        list[Path] | None, typer.Option(help="Folder that may be published from; repeatable.")
    ] = None,
) -> None:
    """Serve the catalogue; writes need LAI_SERVICE_TOKEN."""
    from lai_service.request_log import configure_logging

    configure_logging(Settings().log)
    logging.getLogger("stac_fastapi.types.config").setLevel(logging.ERROR)  # warns about defaults
    import uvicorn

    from lai_service.app import create_app

    defaults = Settings()
    roots = tuple(allow) if allow else defaults.allowed_roots
    try:
        service = create_app(Settings(data=data or defaults.data, allowed_roots=roots))
    except LaiServiceError as error:
        raise _fail(error) from error
    uvicorn.run(
        service, host=host, port=port, proxy_headers=True, access_log=False, log_config=None
    )


@app.command()
def publish(
    source: Annotated[
        Path,
        typer.Argument(
            help="Folder of an item, or its JSON; or folder of an openEO job's results.",
            exists=True,
        ),
    ],
    url: Annotated[str, typer.Option(help="Address of the service.")] = "http://127.0.0.1:8080",
    token: Annotated[
        str | None, typer.Option(help="Bearer token.", envvar="LAI_SERVICE_TOKEN")
    ] = None,
    collection: Annotated[str | None, typer.Option(help="Collection to publish into.")] = None,
) -> None:
    """Publish an item, or an openEO job, through a running service; prints the addresses."""
    from lai_service.client import holds_results, publish_directory, publish_results

    try:
        if holds_results(source):
            published = publish_results(source, url, token, collection)
        else:
            published = [publish_directory(source, url, token, collection)]
    except LaiServiceError as error:
        raise _fail(error) from error
    for one in published:
        typer.echo(f"{one.outcome}: {one.address}")


@app.command()
def browser(
    rebuild: Annotated[bool, typer.Option(help="Build again.")] = False,
    folder: Annotated[Path | None, typer.Option(help="Where to put it.")] = None,
) -> None:
    """Build STAC Browser from npm (node 20); `serve` then shows it at /browser."""
    from lai_service.browser_build import build_browser, cache_folder

    try:
        built = build_browser(folder or cache_folder(), rebuild=rebuild)
    except LaiServiceError as error:
        raise _fail(error) from error
    typer.echo(str(built))


@app.command()
def export(
    target: Annotated[Path, typer.Argument(help="New folder for the static catalogue.")],
    files: Annotated[bool, typer.Option(help="Copy the rasters too.")] = True,
) -> None:
    """Write the whole catalogue as plain STAC files that any web server can show."""
    from lai_service.databases import open_catalogue
    from lai_service.export import export_catalogue

    settings = Settings()
    try:
        catalogue = open_catalogue(settings)
        count = export_catalogue(catalogue, settings, target, files=files)
    except LaiServiceError as error:
        raise _fail(error) from error
    typer.echo(f"{count} items: {target / 'catalog.json'}")


@app.command()
def repair(
    dry_run: Annotated[bool, typer.Option(help="Only list what would go.")] = False,
) -> None:
    """Remove files that no item names, left by a crash; lists items whose files are gone."""
    from lai_service.databases import open_catalogue
    from lai_service.repair import repair_data

    settings = Settings()
    try:
        report = repair_data(open_catalogue(settings), settings.data, dry_run=dry_run)
    except LaiServiceError as error:
        raise _fail(error) from error
    for path in report.removed:
        typer.echo(f"{'would remove' if dry_run else 'removed'} {path}")
    for name in report.broken:
        typer.echo(f"files missing: {name}", err=True)
    if report.broken:
        raise typer.Exit(1)


@app.command()
def backup(
    target: Annotated[Path, typer.Argument(help="New SQLite file.")],
) -> None:
    """Copy the catalogue's database while the service runs; restoring is copying it back."""
    from lai_service.catalogue_sqlite import SqliteCatalogue

    settings = Settings()
    if settings.database_url is not None:
        raise _fail(
            SettingsError("pg_dump backs up a PostgreSQL catalogue; see the service README")
        )
    try:
        SqliteCatalogue(settings.database_path).backup(target)
    except LaiServiceError as error:
        raise _fail(error) from error
    typer.echo(str(target))


if __name__ == "__main__":
    app()
