"""Jobs over two real back-ends, through kill -9 of one of them and of the manager."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import openeo
import pandas as pd
import pytest

from backend.conftest import Server, TinyCollection, start_server, stop_server
from lai_udf.produce.table import JobTable

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
JOBS = 24
MANAGER = """
import sys
import openeo
from pathlib import Path
from lai_udf.produce.manager import Producer
from lai_udf.produce.table import JobTable, locked

def create(connection, row, title):
    extent = ["2024-06-01", "2024-06-02"]
    cube = connection.load_collection("TINY", temporal_extent=extent, bands=["B04", "B08"])
    return cube.create_job(out_format="GTiff", title=title)

path = Path(sys.argv[1])
with locked(path):
    manager = Producer(JobTable(path), create, poll_s=0.5, pause_s=0.5)
    for url in sys.argv[2:]:
        connection = openeo.connect(url).authenticate_basic("lai", "secret words")
        manager.add_backend(url, connection=connection, parallel_jobs=3)
    outcome = manager.run()
print(len(outcome.finished), outcome.failed)
"""


def free_port() -> int:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture
def start(tiny: TinyCollection) -> Iterator[Callable[[Path, int], Server]]:
    """Start servers, each in a folder and on a port; stop those that live at the end."""
    servers = []

    def start_one(folder: Path, port: int) -> Server:
        servers.append(start_server(folder, tiny.folder, f"--port={port}", "--max-jobs=2"))
        return servers[-1]

    yield start_one
    for server in servers:
        if server.process.returncode is None:
            stop_server(server)


def manage(table: Path, *urls: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "ignore", "-c", MANAGER, str(table), *urls]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def wait_for(table: Path, finished: int, seconds: float = 600) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        rows = JobTable(table).read()
        if (rows["status"] == "finished").sum() >= finished:
            return
        time.sleep(0.5)
    raise TimeoutError(rows["status"].value_counts().to_dict())


def kill(server: Server) -> None:
    """End a server as the kernel does, its arbiter and what answers; workers live on."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    answering = children.read_text().split()[:1]
    for pid in (server.process.pid, *map(int, answering)):
        os.kill(pid, signal.SIGKILL)
    server.process.wait()
    server.process.stdout.close()


def test_every_job_ends_up_on_disk_once_whoever_is_killed(start, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    table = out / "jobs.parquet"
    titles = [f"tile_{number:02d}" for number in range(JOBS)]
    rows = [{"title": title, "attempt": 1, "settings": "s"} for title in titles]
    JobTable(table).add(pd.DataFrame(rows))
    port = free_port()
    one = start(tmp_path / "one", port)
    other = start(tmp_path / "other", free_port())

    manager = manage(table, one.url, other.url)
    wait_for(table, 4)
    kill(one)
    time.sleep(1)
    one = start(tmp_path / "one", port)
    wait_for(table, 10)
    manager.kill()
    manager.communicate()
    manager = manage(table, one.url, other.url)
    printed, _ = manager.communicate(timeout=1200)

    assert printed.split()[0] == str(JOBS), printed
    folders = sorted(path.name for path in out.iterdir() if path.is_dir())
    assert folders == titles
    for title in titles:
        assert len(list((out / title).rglob("*.tif"))) == 1
        assert len(list((out / title).glob("job_*.json"))) == 1
    made: Counter[str] = Counter()
    for server in (one, other):
        connection: openeo.Connection = server.connect()
        made.update(job["title"] for job in connection.list_jobs(limit=1000))
    first_attempts = {title: count for title, count in made.items() if title in titles}
    assert first_attempts == dict.fromkeys(titles, 1)
    assert sum(made.values()) <= JOBS + 2, "only jobs that died with the server were made again"
