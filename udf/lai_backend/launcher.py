"""Start, watch and stop worker processes.

Workers are forked from a helper process that has imported the slow libraries once and has run no
user code (multiprocessing's "forkserver"), so that a small request takes a fraction of a second.
Each worker is the leader of its own process group and outlives a killed server.
"""

import multiprocessing
import multiprocessing.forkserver
import os
import signal
import time
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

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

    def is_running(self) -> bool:
        """Return whether the process still lives."""
        if self.process is not None:
            return self.process.is_alive()
        return bool(self.started) and process_start(self.pid) == self.started

    def exit_code(self) -> int | None:
        """Return the exit code, negative for a signal; None while running or unknown."""
        return None if self.process is None else self.process.exitcode

    def stop(self) -> None:
        """End the worker and everything it started."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not self.is_running():
                return
            _signal_group(self.pid, number)
            deadline = time.monotonic() + STOP_TIMEOUT_S
            while self.is_running() and time.monotonic() < deadline:
                time.sleep(0.05)

    def wait(self) -> None:
        """Wait until the process has ended."""
        if self.process is not None:
            self.process.join()


def warm_up() -> None:
    """Start the helper process, which then imports the slow libraries on its own.

    It keeps the environment and the current folder of this moment, and workers inherit them.
    """
    _CONTEXT.set_forkserver_preload(list(PRELOAD))
    multiprocessing.forkserver.ensure_running()


def start_worker(job_folder: Path, memory_bytes: int | None) -> Worker:
    """Start a worker on a job folder that holds `task.json`; waits for a helper still importing."""
    process = _CONTEXT.Process(target=run_job, args=(str(job_folder),))
    process.start()
    assert process.pid is not None  # it has been started
    return Worker(process.pid, process_start(process.pid), process, memory_bytes)


def process_start(pid: int) -> str:
    """Return when the system started a process, empty if there is none or it is a zombie."""
    try:
        fields = Path(CLOCK_FILE.format(pid=pid)).read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


def _signal_group(pid: int, number: signal.Signals) -> None:
    try:
        if os.getpgid(pid) == pid:
            os.killpg(pid, number)
        else:  # not yet a group leader
            os.kill(pid, number)
    except ProcessLookupError:
        return
