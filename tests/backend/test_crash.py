"""A server in the place of a killed one."""

import os
import signal
import time
from pathlib import Path

import pytest

from backend import udfs
from backend.clients import around, load, wait
from backend.conftest import Server, start_server, stop_server

pytestmark = pytest.mark.slow  # the quick one: test_running_jobs_wait_for_the_next_server


def start_long_job(server: Server, flag: Path, *, runs: bool = True):
    connection = server.connect()
    cube = load(connection, temporal_extent=["2024-06-01", "2024-06-02"])
    context = {"flag": str(flag), "model": "."}
    job = around(cube, udfs.WAITS, context=context, size=200).create_job()
    job.start()
    folder = server.data / "jobs" / job.job_id
    while runs and not (folder / "work").is_dir():
        time.sleep(0.05)
    return job


@pytest.fixture(scope="module")
def after_a_crash(tiny, tmp_path_factory):
    """Return a server in the place of a killed one, and the identifiers of three jobs.

    One lost its worker with the server, one continues, one was waiting for a place.
    """
    folder = tmp_path_factory.mktemp("crash")
    first = start_server(folder, tiny.folder, "--max-jobs=2")
    dead = start_long_job(first, first.seen / "never")
    alive = start_long_job(first, first.seen / "go")
    waiting = start_long_job(first, first.seen / "go", runs=False)
    assert waiting.status() == "queued"
    first.process.kill()
    first.process.wait()
    assert first.process.stdout is not None
    first.process.stdout.close()
    _kill_worker_of(folder / "jobs" / dead.job_id)
    second = start_server(folder, tiny.folder)
    (second.seen / "go").touch()
    yield second.connect(), dead.job_id, alive.job_id, waiting.job_id
    stop_server(second)


def test_after_a_crash_jobs_go_on_or_fail_with_a_reason_but_none_is_lost(after_a_crash):
    connection, *identifiers = after_a_crash
    dead, alive, waiting = (connection.job(identifier) for identifier in identifiers)
    assert wait(dead) == "error"
    assert "The worker process of the job is gone" in dead.logs(level="error")[0]["message"]
    for job in (alive, waiting):
        assert wait(job) == "finished"
        assert job.get_results().get_assets()


def _kill_worker_of(job_folder: Path) -> None:
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and (process / "cwd").readlink() == job_folder / "work":
                os.kill(int(process.name), signal.SIGKILL)
        except OSError:
            continue
