"""Batch jobs from `queued` to their end, and synchronous requests.

One thread polls the registry: it starts waiting jobs when workers are free, and settles running
ones whose worker has ended. Its state is in the registry and the job folders, so a restarted
server carries on: jobs whose worker lives are watched further, the others become `error` with a
reason.
"""

import contextlib
import logging
import shutil
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lai_backend.errors import BusyError, LaiBackendError, WorkerError, describe_error
from lai_backend.files import read_json
from lai_backend.joblog import append_error
from lai_backend.launcher import Worker, start_worker, warm_up
from lai_backend.limits import ControlGroup
from lai_backend.settings import BackendSettings, Task
from lai_backend.store import Job, Store
from lai_backend.worker import NO_OUTCOME_EXIT

_log = logging.getLogger(__name__)
POLL_S = 0.2
OUTPUT_TAIL = 2000
GONE = "The worker process of the job is gone."


class Supervisor:
    """Runs the workers of one server."""

    def __init__(
        self, settings: BackendSettings, store: Store, make_task: Callable[[Job], Task]
    ) -> None:
        """Prepare; `start` begins the work.

        Args:
            settings: folders and limits.
            store: the registry.
            make_task: turns a job into the task of its worker; may raise `LaiBackendError`.
        """
        self.settings = settings
        self._store = store
        self._make_task = make_task
        self._workers: dict[str, Worker] = {}
        self._ended: dict[str, str] = {}
        self._requests = threading.BoundedSemaphore(settings.max_requests)
        self._lock = threading.RLock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)

    def start(self) -> None:
        """Take over the jobs of an earlier server and begin to watch; the data folder is locked."""
        shutil.rmtree(self.settings.data_dir / "requests", ignore_errors=True)  # of a killed server
        warm_up()
        for job in self._store.jobs_in("running"):
            if job.pid is not None:
                task = None
                with contextlib.suppress(OSError, ValueError):
                    task = Task.model_validate(read_json(self.job_folder(job.id) / "task.json"))
                since, group = (job.started or job.updated).timestamp(), ControlGroup(job.id)
                self._workers[job.id] = Worker(job.pid, job.pid_started or "", group, task, since)
        self._thread.start()

    def stop(self) -> None:
        """Stop watching, and end all workers; their jobs wait for the next server."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        with self._lock:
            self.settle()
            for name, worker in self._workers.items():
                worker.stop()
                idle = {"started": None, "pid": None, "pid_started": None}
                self._store.move_job(name, ("running",), "queued", **idle)

    def job_folder(self, job_id: str) -> Path:
        """Return the folder of a job."""
        return self.settings.data_dir / "jobs" / job_id

    def cancel(self, job: Job) -> None:
        """Stop a job that waits or runs."""
        with self._lock:
            worker = self._workers.pop(job.id, None)
            if worker is not None:
                worker.stop()
            self._end(job, "canceled")

    def remove(self, job: Job) -> None:
        """Stop a job and delete everything it left."""
        self.cancel(job)
        self._store.remove_job(job.id)
        shutil.rmtree(self.job_folder(job.id), ignore_errors=True)

    def progress(self, job_id: str) -> float | None:
        """Return the percentage done of a running job, None if its worker has not reported it."""
        try:
            return float(read_json(self.job_folder(job_id) / "progress.json")["percent"])
        except (OSError, ValueError):
            return None

    def outcome(self, job_id: str) -> dict[str, Any] | None:
        """Return what the worker of a job left, None if it left nothing."""
        try:
            return dict(read_json(self.job_folder(job_id) / "outcome.json"))
        except OSError:
            return None

    def settle(self) -> None:
        """Bring the registry up to date now, instead of at the next look."""
        with self._lock:
            for job in self._store.jobs_in("running"):
                worker = self._workers.get(job.id)
                if worker is not None and worker.is_running():
                    continue
                self._workers.pop(job.id, None)
                if worker is not None:
                    worker.group.close()
                outcome = self.outcome(job.id)
                if outcome is None or job.id in self._ended:
                    cause = self._ended.pop(job.id, GONE)
                    self._fail(job, _death(worker, self.job_folder(job.id), cause))
                else:
                    self._end(job, str(outcome["status"]))

    def start_waiting(self) -> None:
        """Start the jobs that wait, as far as workers are free, instead of at the next look."""
        with self._lock:
            free = self.settings.max_jobs - len(self._store.jobs_in("running"))
            for job in self._store.jobs_in("queued")[: max(free, 0)]:
                self._start_job(job)

    def run_now(
        self, task: Task, gone: Callable[[], bool] = lambda: False
    ) -> tuple[Path, dict[str, Any]]:
        """Run a synchronous request in a worker and wait for it.

        Args:
            task: what to do.
            gone: whether who asked has gone away; then the worker is ended.

        Returns:
            The job folder, which the caller removes, and the outcome.
        """
        if not self._requests.acquire(blocking=False):
            raise BusyError(
                f"{self.settings.max_requests} synchronous requests are at work; try again later "
                "or run a batch job."
            )
        folder = self.settings.data_dir / "requests" / uuid.uuid4().hex
        try:
            folder.mkdir(parents=True)
            worker = start_worker(folder, task)
            with self._lock:
                self._workers[folder.name] = worker
            while not worker.wait(POLL_S):
                if gone() or self._stopping.is_set():
                    worker.stop()
            worker.group.close()
        finally:
            with self._lock:
                self._workers.pop(folder.name, None)
            self._requests.release()
        try:
            return folder, dict(read_json(folder / "outcome.json"))
        except OSError:
            reason = self._ended.pop(folder.name, "The request ended without an outcome.")
            error = WorkerError(_death(worker, folder, reason))
            return folder, {"status": "error", "error": describe_error(error)}

    def _watch(self) -> None:
        while not self._stopping.wait(POLL_S):
            try:
                self._end_excesses()
                self.settle()
                self.start_waiting()
            except Exception:
                _log.exception("Looking after the jobs failed; trying again.")

    def _end_excesses(self) -> None:
        """End the workers that use more memory, processes or time than they may."""
        with self._lock:
            workers = dict(self._workers)
        for name, worker in workers.items():
            reason = worker.excess() if worker.is_running() else None
            if reason is not None:
                self._ended[name] = reason
                worker.stop()

    def _start_job(self, job: Job) -> None:
        folder = self.job_folder(job.id)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            folder.mkdir(parents=True)
            worker = start_worker(folder, self._make_task(job))
        except (LaiBackendError, OSError) as error:
            self._fail(job, f"The job cannot be started: {error}")
            return
        self._workers[job.id] = worker
        moved = self._store.move_job(
            job.id,
            ("queued",),
            "running",
            started=datetime.now(UTC),
            pid=worker.pid,
            pid_started=worker.started,
        )
        if not moved:  # canceled in the meantime
            self._workers.pop(job.id).stop()

    def _end(self, job: Job, status: str, reason: str | None = None) -> None:
        now = datetime.now(UTC)
        self._store.move_job(job.id, ("queued", "running"), status, finished=now, reason=reason)

    def _fail(self, job: Job, reason: str) -> None:
        folder = self.job_folder(job.id)
        shutil.rmtree(folder / "results", ignore_errors=True)  # what a killed worker left
        append_error(folder / "log.jsonl", reason)
        self._end(job, "error", reason)


def _death(worker: Worker | None, folder: Path, reason: str) -> str:
    """Return how a worker without an outcome ended."""
    if "was ended" in reason:
        return reason
    code = worker.exit_code() if worker is not None else None
    if code == -9:
        how = "It was killed (signal 9), most often because memory ran out."
    elif code == NO_OUTCOME_EXIT:
        how = f"It could not write into {folder}; is the disk full?"
    elif code is None:
        how = "Start the job again."
    else:
        how = f"It was ended by signal {-code}." if code < 0 else f"It ended with exit code {code}."
    try:
        tail = (folder / "output.txt").read_text(errors="replace")[-OUTPUT_TAIL:].strip()
    except OSError:
        tail = ""
    return f"{reason} {how}" + (f" Its last output: {tail}" if tail else "")
