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

from lai_backend.limits import (
    MAX_PROCESSES,
    ControlGroup,
    family,
    memory_of,
    over_limit_sentence,
    too_long_sentence,
    too_many_sentence,
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
WALL = 1.25
"""Where the control group stands beyond the limit that the supervisor looks at."""
CLOCK_FILE = "/proc/{pid}/stat"
_CONTEXT = multiprocessing.get_context("forkserver")


@dataclass(frozen=True)
class Worker:
    """A running or ended worker process."""

    pid: int
    """Process number, also its group."""
    started: str
    """When the system started it (clock ticks since boot); empty where unknown."""
    process: ForkServerProcess | None
    """Handle; None for a worker that an earlier server started."""
    memory_bytes: int | None = None
    """Memory that the worker and what it started may use; None: no limit."""
    deadline: float | None = None
    """When its time is over (`time.time()`); None: no limit."""
    seconds: float = 0.0
    """How much time it had."""
    group: ControlGroup | None = field(default=None, repr=False, compare=False)
    """Its control group; None: there is none."""

    def is_running(self) -> bool:
        """Return whether the process still lives."""
        if self.process is not None:
            return self.process.is_alive()
        return bool(self.started) and process_start(self.pid) == self.started

    def exit_code(self) -> int | None:
        """Return the exit code, negative for a signal; None while running or unknown."""
        return None if self.process is None else self.process.exitcode

    def excess(self) -> str | None:
        """Say which limit the worker and what it started exceed; None: none."""
        if self.deadline is not None and time.time() > self.deadline:
            return too_long_sentence(self.seconds)
        processes = family(self.pid)
        if len(processes) > MAX_PROCESSES:
            return too_many_sentence()
        if self.memory_bytes is not None and memory_of(processes) > self.memory_bytes:
            return over_limit_sentence(self.memory_bytes)
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
        for pid in started:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        self.clean_up()

    def clean_up(self) -> None:
        """Remove the control group of an ended worker, and what hides in it."""
        if self.group is not None:
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
    """Start a worker on a job folder that holds `task.json`; waits for a helper still importing."""
    process = _CONTEXT.Process(target=run_job, args=(str(job_folder),))
    process.start()
    assert process.pid is not None  # it has been started
    group = None
    with contextlib.suppress(OSError):
        wall = None if task.memory_bytes is None else int(task.memory_bytes * WALL)
        group = ControlGroup(job_folder.name, wall, 2 * MAX_PROCESSES)
        group.add(process.pid)
    return Worker(
        process.pid,
        process_start(process.pid),
        process,
        task.memory_bytes,
        None if task.seconds is None else time.time() + task.seconds,
        task.seconds or 0.0,
        group,
    )


def process_start(pid: int) -> str:
    """Return when the system started a process, empty if there is none or it is a zombie."""
    try:
        fields = Path(CLOCK_FILE.format(pid=pid)).read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]
