"""A server to load: where it keeps its things, how it is started and killed, what it holds."""

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import requests

from lai_service import Settings

TOKEN = "load-test-token"
TIMEOUT_S = 120
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["__main__", "lai_service.app"])


@dataclass(frozen=True)
class Site:
    """One service on this machine."""

    folder: Path
    """Where its data root, its log and the results to publish lie."""
    database_url: str | None = None
    """PostgreSQL database; None is the SQLite file."""
    processes: int = 1
    """Worker processes of the server."""
    port: int = 0
    """Where it listens."""

    @property
    def address(self) -> str:
        """Address of the service."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def data(self) -> Path:
        """Data root."""
        return self.folder / "data"

    @property
    def results(self) -> Path:
        """Folder from which may be published."""
        return self.folder / "results"

    @property
    def log(self) -> Path:
        """What the server wrote."""
        return self.folder / "server.log"

    @property
    def settings(self) -> Settings:
        """Settings of the server."""
        return Settings(
            data=self.data,
            allowed_roots=(self.results,),
            token=TOKEN,
            database_url=self.database_url,
        )

    @property
    def environment(self) -> dict[str, str]:
        """Settings of the server and of the commands."""
        settings = {
            "LAI_SERVICE_DATA": str(self.data),
            "LAI_SERVICE_ALLOWED_ROOTS": str(self.results),
            "LAI_SERVICE_TOKEN": TOKEN,
        }
        if self.database_url:
            settings["LAI_SERVICE_DATABASE_URL"] = self.database_url
        return {**os.environ, **settings}


def free_port() -> int:
    """Return a free port of the loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(site: Site) -> subprocess.Popen[bytes]:
    """Start the server and wait until it answers."""
    command = [sys.executable, "-m", "lai_service.cli", "serve", "--port", str(site.port)]
    if site.processes > 1:
        command = [sys.executable, "-m", "uvicorn", "--factory", "lai_service.app:create_app"]
        command += ["--port", str(site.port), "--workers", str(site.processes), "--no-access-log"]
    site.results.mkdir(parents=True, exist_ok=True)
    with site.log.open("ab") as log:
        server = subprocess.Popen(
            command, env=site.environment, stdout=log, stderr=log, start_new_session=True
        )
    _wait_for(site, lambda: server.poll() is None)
    return server


def _wait_for(site: Site, is_alive: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline and is_alive():
        try:
            if requests.get(f"{site.address}/_mgmt/ping", timeout=5).ok:
                return
        except requests.ConnectionError:
            time.sleep(0.05)
    sys.exit(f"the server did not start:\n{site.log.read_text()[-2000:]}")


@contextmanager
def forked(site: Site, task: Callable[[Settings, int], None]) -> Iterator[BaseProcess]:
    """Run a task in a copy of a process that has the service imported; kill it at the end.

    What takes seconds otherwise, and most of the time of many kills, takes a fraction of one.
    """
    process = _FORKS.Process(target=_run, args=(site, task))
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def _run(site: Site, task: Callable[[Settings, int], None]) -> None:
    with site.log.open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    task(site.settings, site.port)


def serve(settings: Settings, port: int) -> None:
    """Serve until killed, as `lai-service serve` does."""
    from lai_service.app import create_app
    from lai_service.ops.request_log import configure_logging
    from lai_service.ops.serving import hold_port, serve_forever

    configure_logging(settings.log)
    serve_forever(create_app(settings), hold_port("127.0.0.1", port))


def repair_again_and_again(settings: Settings, port: int) -> None:
    """Repair the data root until killed, as `lai-service repair` does once."""
    from lai_service.catalogue.databases import open_catalogue
    from lai_service.ops.upkeep import repair_data

    catalogue = open_catalogue(settings)
    while True:
        repair_data(catalogue, settings.data)


@contextmanager
def serving_fork(site: Site) -> Iterator[BaseProcess]:
    """Run the server for a while, started at once."""
    with forked(site, serve) as server:
        _wait_for(site, server.is_alive)
        yield server


def kill(server: subprocess.Popen[bytes]) -> None:
    """End the server and its workers at once; nothing of them runs any more."""
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()


@contextmanager
def serving(site: Site) -> Iterator[subprocess.Popen[bytes]]:
    """Run the server for a while."""
    server = start(site)
    try:
        yield server
    finally:
        if server.poll() is None:
            kill(server)


@contextmanager
def session() -> Iterator[requests.Session]:
    """Return a client with the token."""
    with requests.Session() as made:
        made.headers["Authorization"] = f"Bearer {TOKEN}"
        made.trust_env = False
        yield made


def stored_items(site: Site) -> dict[str, dict[str, Any]]:
    """Return every item of the catalogue by its id."""
    found: dict[str, dict[str, Any]] = {}
    address: str | None = f"{site.address}/search?limit=500"
    with session() as http:
        while address:
            page = http.get(address, timeout=TIMEOUT_S).json()
            found |= {item["id"]: item for item in page["features"]}
            address = next((x["href"] for x in page["links"] if x["rel"] == "next"), None)
    return found


def stored_files(site: Site) -> set[str]:
    """Return every published file as a path below the data root; staging folders count."""
    return {
        str(path.relative_to(site.data))
        for path in site.data.rglob("*")
        if path.is_file() and path.relative_to(site.data).parts[0] not in (".locks", ".catalogue")
    }


def repair(site: Site) -> str:
    """Run `lai-service repair` beside the server; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "lai_service.cli", "repair"],
        env=site.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr if done.returncode == 0 else f"FAILED {done.stderr}"
