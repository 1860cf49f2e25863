"""`lai-backend`: serve an openEO back-end on this machine."""

import os
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)


def _show_version(wanted: bool) -> None:
    if wanted:
        try:
            found = version("lai-backend")
        except PackageNotFoundError:
            found = version("sentinel2-lai")
        typer.echo(f"lai-backend {found}")
        raise typer.Exit


def _resolved(folders: Sequence[Path]) -> tuple[Path, ...]:
    return tuple(folder.expanduser().resolve() for folder in folders)


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
    max_jobs: Annotated[int, typer.Option(min=1, help="Batch jobs at the same time.")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="Threads of one worker process.")] = 2,
    memory: Annotated[
        str | None, typer.Option(help="Memory of one job, as 8g; default: 80 % of all.")
    ] = None,
    job_time: Annotated[float, typer.Option(min=1, help="Seconds of one batch job.")] = 86_400,
    request_time: Annotated[
        float, typer.Option(min=1, help="Seconds of one synchronous request.")
    ] = 600,
    max_requests: Annotated[
        int, typer.Option(min=1, help="Synchronous requests at the same time.")
    ] = 4,
    scratch: Annotated[str, typer.Option(help="Space for temporary files of a UDF, as 1g.")] = "1g",
    udf_network: Annotated[bool, typer.Option(help="Let UDFs use the network.")] = False,
    private_network: Annotated[
        bool, typer.Option(help="Let requests name addresses of private networks.")
    ] = False,
) -> None:
    """Serve the openEO API until interrupted.

    Prints the address when ready.
    """
    from lai_backend.errors import LaiBackendError
    from lai_backend.limits import parse_memory
    from lai_backend.settings import BackendSettings

    try:
        settings = BackendSettings(
            data_dir=data.expanduser().resolve(),
            collection_dirs=_resolved(collections),
            allowed_roots=_resolved(allow or ()),
            host=host,
            port=port,
            user=user,
            password=password,
            max_jobs=max_jobs,
            threads=threads,
            memory_bytes=parse_memory(memory, "--memory"),
            job_seconds=job_time,
            request_seconds=request_time,
            max_requests=max_requests,
            scratch_bytes=parse_memory(scratch, "--scratch", 2**20) or 2**30,
            network=udf_network,
            private_network=private_network,
        )
        os.environ.pop("LAI_BACKEND_PASSWORD", None)  # workers inherit the environment
        from lai_backend.launcher import warm_up

        warm_up()  # the helper of the workers imports its libraries while this process does
        from lai_backend.serving import serve as serve_forever  # takes seconds to import

        serve_forever(settings, on_ready=typer.echo)
    except ModuleNotFoundError as error:
        typer.echo(
            f"Error: the back-end needs packages of its own, {error.name} is missing: install the "
            "distribution lai-backend (pip install ./udf/lai_backend in a checkout).",
            err=True,
        )
        raise typer.Exit(2) from error
    except LaiBackendError as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(2) from error
