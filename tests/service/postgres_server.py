"""A private PostgreSQL cluster for a test session, in a temporary folder on a free port."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg


def server_binaries() -> Path | str:
    """Return the folder of initdb and pg_ctl with PostGIS, or a sentence why there is none."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in folders:
        share = subprocess.run(
            [folder / "pg_config", "--sharedir"], capture_output=True, text=True, check=False
        ).stdout.strip()
        if (folder / "initdb").exists() and (Path(share) / "extension/postgis.control").exists():
            if os.getuid() == 0 and not shutil.which("runuser"):
                return "PostgreSQL does not run as root, and there is no runuser"
            return folder
    return (
        "no PostgreSQL server with PostGIS found (apt install postgresql postgresql-15-postgis-3)"
    )


def _run(command: list[str | Path]) -> None:
    as_postgres = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    # Into a file: the server that pg_ctl starts would hold a pipe open.
    with tempfile.TemporaryFile() as output:
        done = subprocess.run([*as_postgres, *command], stdout=output, stderr=output, check=False)
        output.seek(0)
        assert done.returncode == 0, output.read().decode()


@contextmanager
def private_server(binaries: Path) -> Iterator[str]:
    """Run a cluster; give the address of an empty database in it; stop and remove it after."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="lai-postgres-"))
    data = folder / "data"
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    control: list[str | Path] = [binaries / "pg_ctl", "-D", data, "-l", folder / "log", "-w"]
    try:
        if os.getuid() == 0:
            shutil.chown(folder, "postgres")
        _run([binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8"])
        _run([*control, "-o", options, "start"])
        try:
            url = f"postgresql://postgres@127.0.0.1:{port}"
            with psycopg.connect(f"{url}/postgres", autocommit=True) as connection:
                connection.execute("create database lai")
            yield f"{url}/lai"
        finally:
            _run([*control, "-m", "immediate", "stop"])
    finally:
        shutil.rmtree(folder)
