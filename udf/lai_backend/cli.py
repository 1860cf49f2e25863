"""`lai-backend`: serve an openEO back-end on this machine."""

import os
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lai-backend {version('sentinel2-lai')}")
        raise typer.Exit


@app.callback()
def main(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Run an openEO back-end for one machine."""


@app.command()
def serve(
    collections: Annotated[
        list[Path], typer.Option(help="Folder with STAC collections; may be repeated.")
    ],
    data: Annotated[Path, typer.Option(help="Folder for jobs, results and the password.")] = Path(
        "lai-backend-data"
    ),
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0: a free one.")
    ] = 8081,
    allow: Annotated[
        list[Path] | None, typer.Option(help="Further folder to read from; may be repeated.")
    ] = None,
    user: Annotated[str, typer.Option(help="Name of the account.")] = "lai",
    password: Annotated[
        str | None, typer.Option(envvar="LAI_BACKEND_PASSWORD", help="Drawn if not given.")
    ] = None,
    strict: Annotated[bool, typer.Option(help="Behave like the cloud back-ends.")] = False,
    max_jobs: Annotated[int, typer.Option(min=1, help="Batch jobs at the same time.")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="Threads of one worker process.")] = 2,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes of one job.")] = 1,
    scheduler: Annotated[
        str | None,
        typer.Option(envvar="DASK_SCHEDULER_ADDRESS", help="Compute on this Dask cluster."),
    ] = None,
    memory: Annotated[
        str | None, typer.Option(help="Memory of one job, as 8g; default: 80 % of all.")
    ] = None,
) -> None:
    """Serve the openEO API until interrupted; prints the address when ready."""
    from lai_backend.errors import LaiBackendError
    from lai_backend.launcher import warm_up
    from lai_backend.limits import parse_memory
    from lai_backend.settings import Settings

    try:
        settings = Settings(
            data_dir=data.expanduser().resolve(),
            collection_dirs=tuple(folder.expanduser().resolve() for folder in collections),
            allowed_roots=tuple(folder.expanduser().resolve() for folder in allow or ()),
            host=host,
            port=port,
            user=user,
            password=password,
            strict=strict,
            max_jobs=max_jobs,
            threads=threads,
            workers=workers,
            scheduler=scheduler or None,
            memory_bytes=parse_memory(memory, "--memory"),
        )
        os.environ.pop("LAI_BACKEND_PASSWORD", None)  # workers inherit the environment
        warm_up()  # while this process imports
        from lai_backend.serving import serve as serve_forever  # takes seconds to import

        serve_forever(settings, on_ready=typer.echo)
    except LaiBackendError as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(2) from error
