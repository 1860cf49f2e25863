"""Start, watch and stop worker processes.

Workers are forked from a helper process that has imported the slow libraries once and has run no
user code (multiprocessing's "forkserver"), so that a small request takes a fraction of a second.
Each worker is the leader of its own session and outlives a killed server; what it starts ends with
it.
"""

import contextlib
import multiprocessing
import multiprocessing.forkserver
import os
import signal
import time
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import psutil

from lai_backend.files import write_json
from lai_backend.limits import (
    MAX_PROCESSES,
    REMEDY,
    ControlGroup,
    family,
    memory_of,
    process_start,
)
from lai_backend.settings import Task
from lai_backend.worker import run_job

PRELOAD = (  # the first is the main module of a server, which workers import as well
    "lai_backend.cli",
    "openeo_pg_parser_networkx",
    "lai_backend.processes",
    "lai_backend.worker",
    "lai_backend.archives",
    "netCDF4",
)
STOP_TIMEOUT_S = 5.0
WALL = 1.25  # where the control group stands beyond the limit that the supervisor looks at
_CONTEXT = multiprocessing.get_context("forkserver")


@dataclass(frozen=True)
class Worker:
    """A running or ended worker process, also of an earlier server."""

    pid: int  # also its group
    started: str  # when the system started it; empty where unknown
    group: ControlGroup = field(repr=False, compare=False)
    task: Task | None = None  # what it works on, with its limits; None: unknown
    since: float = 0.0  # when it began, seconds since the epoch
    process: ForkServerProcess | None = None  # handle; None for one of an earlier server

    def is_running(self) -> bool:
        """Return whether the process still lives."""
        if self.process is not None:
            return self.process.is_alive()
        return bool(self.started) and process_start(self.pid) == self.started

    def exit_code(self) -> int | None:
        """Return the exit code, negative for a signal; None while running or unknown."""
        return None if self.process is None else self.process.exitcode

    def excess(self) -> str | None:
        """Return which limit the worker and what it started exceed; None: none."""
        processes = family(self.pid)
        if len(processes) > MAX_PROCESSES:
            return f"The job had more than the {MAX_PROCESSES} processes it may have and was ended."
        if self.task is None:
            return None
        seconds, most = self.task.seconds, self.task.memory_bytes
        if seconds is not None and time.time() > self.since + seconds:
            return (
                f"Time ran out: the job took more than the {seconds:g} s it may take and was "
                "ended. Use a smaller extent or fewer dates, or a batch job instead of a request."
            )
        if most is not None and memory_of(processes) > most:
            return (
                f"Memory ran out: the job used more than the {most / 2**30:.1f} GiB it may have "
                f"and was ended. {REMEDY}"
            )
        return None

    def stop(self) -> None:
        """End the worker and everything it started."""
        started = family(self.pid)[1:] if self.is_running() else []
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not self.is_running():
                break
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)
            until = time.monotonic() + STOP_TIMEOUT_S
            while self.is_running() and time.monotonic() < until:
                time.sleep(0.05)
        for process in started:
            with contextlib.suppress(psutil.Error):
                process.kill()
        self.group.close()

    def wait(self, seconds: float) -> bool:
        """Wait for the process to end, for some time; return whether it has."""
        if self.process is not None:
            self.process.join(seconds)
        return not self.is_running()


def warm_up() -> None:
    """Start the helper process, which then imports the slow libraries on its own.

    It keeps the environment and the current folder of this moment, and workers inherit them.
    """
    _CONTEXT.set_forkserver_preload(list(PRELOAD))
    multiprocessing.forkserver.ensure_running()


def start_worker(job_folder: Path, task: Task) -> Worker:
    """Start a worker on a job folder; waits for a helper still importing."""
    write_json(job_folder / "task.json", task.model_dump(mode="json"))
    process = _CONTEXT.Process(target=run_job, args=(str(job_folder),))
    process.start()
    assert process.pid is not None  # it has been started
    group = ControlGroup(job_folder.name)
    with contextlib.suppress(OSError):
        wall = None if task.memory_bytes is None else int(task.memory_bytes * WALL)
        group.create(wall, 2 * MAX_PROCESSES)
        group.add(process.pid)
    return Worker(process.pid, process_start(process.pid), group, task, time.time(), process)
