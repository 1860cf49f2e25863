"""Batch jobs from `queued` to their end, and synchronous requests.

One thread looks at the registry: it starts waiting jobs when there is room, and settles running
ones whose worker has ended. What it knows lies in the registry and the job folders, so a restarted
server carries on: jobs whose worker lives are watched further, the others become `error` with a
reason.
"""

import logging
import shutil
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lai_backend.errors import LaiBackendError, WorkerError, describe_error
from lai_backend.files import read_json, write_json
from lai_backend.joblog import append_error
from lai_backend.launcher import Worker, start_worker, warm_up
from lai_backend.limits import group_memory, over_limit_sentence
from lai_backend.settings import Settings, Task
from lai_backend.store import Job, Store
from lai_backend.worker import NO_OUTCOME_EXIT

_log = logging.getLogger(__name__)
POLL_S = 0.2
OUTPUT_TAIL = 2000
MakeTask = Callable[[Job], Task]


class Supervisor:
    """Runs the workers of one server."""

    def __init__(self, settings: Settings, store: Store, make_task: MakeTask) -> None:
        """Prepare; `start` begins the work.

        Args:
            settings: folders and limits.
            store: the registry.
            make_task: turns a job into what its worker is told; may raise `LaiBackendError`.
        """
        self._settings = settings
        self._store = store
        self._make_task = make_task
        self._workers: dict[str, Worker] = {}
        self._ended: dict[str, str] = {}
        self._lock = threading.RLock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)

    def start(self) -> None:
        """Take over the jobs of an earlier server and begin to watch."""
        warm_up()
        for job in self._store.jobs_in("running"):
            if job.pid is not None:
                started, limit = job.pid_started or "", self._memory_of(job.id)
                worker = Worker(job.pid, started, None, limit)
                self._workers[job.id] = worker
        self._thread.start()

    def stop(self) -> None:
        """Stop watching, and end all workers; their jobs become `error`."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        with self._lock:
            for worker in self._workers.values():
                worker.stop()
            self._settle_all("The back-end was stopped while the job was running.")

    def job_folder(self, job_id: str) -> Path:
        """Return the folder of a job."""
        return self._settings.data_dir / "jobs" / job_id

    def cancel(self, job: Job) -> None:
        """Stop a job that waits or runs."""
        with self._lock:
            worker = self._workers.pop(job.id, None)
            if worker is not None:
                worker.stop()
            self._store.move_job(
                job.id, ("queued", "running"), "canceled", finished=datetime.now(UTC)
            )

    def remove(self, job: Job) -> None:
        """Stop a job and delete everything it left."""
        self.cancel(job)
        self._store.remove_job(job.id)
        shutil.rmtree(self.job_folder(job.id), ignore_errors=True)

    def progress(self, job_id: str) -> float | None:
        """Return the percentage done of a running job, None if it has not said."""
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
            self._settle_all("The worker process of the job is gone.")

    def start_waiting(self) -> None:
        """Start the jobs that wait, as far as there is room, instead of at the next look."""
        with self._lock:
            room = self._settings.max_jobs - len(self._store.jobs_in("running"))
            for job in self._store.jobs_in("queued")[: max(room, 0)]:
                self._start_job(job)

    def run_now(self, task: Task) -> tuple[Path, dict[str, Any]]:
        """Run a synchronous request in a worker and wait for it.

        Args:
            task: what to do.

        Returns:
            The job folder, which the caller removes, and the outcome.
        """
        folder = self._settings.data_dir / "requests" / uuid.uuid4().hex
        folder.mkdir(parents=True)
        write_json(folder / "task.json", task.model_dump(mode="json"))
        worker = start_worker(folder, task.memory_bytes)
        with self._lock:
            self._workers[folder.name] = worker
        try:
            worker.wait()
        finally:
            with self._lock:
                self._workers.pop(folder.name, None)
        try:
            return folder, dict(read_json(folder / "outcome.json"))
        except OSError:
            reason = self._ended.pop(folder.name, "The request ended without an outcome.")
            error = WorkerError(_death(worker, folder, reason))
            return folder, {"status": "error", "error": describe_error(error)}

    def _watch(self) -> None:
        while not self._stopping.wait(POLL_S):
            try:
                self._end_eaters()
                self.settle()
                self.start_waiting()
            except Exception:
                _log.exception("Looking after the jobs failed; trying again.")

    def _end_eaters(self) -> None:
        """End the workers that use more memory than they may."""
        with self._lock:
            workers = dict(self._workers)
        for name, worker in workers.items():
            limit = worker.memory_bytes
            if limit is not None and group_memory(worker.pid) > limit and worker.is_running():
                self._ended[name] = over_limit_sentence(limit)
                worker.stop()

    def _memory_of(self, job_id: str) -> int | None:
        """Return the limit of a job that an earlier server started."""
        try:
            return Task.model_validate(
                read_json(self.job_folder(job_id) / "task.json")
            ).memory_bytes
        except (OSError, ValueError):
            return None

    def _start_job(self, job: Job) -> None:
        folder = self.job_folder(job.id)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            folder.mkdir(parents=True)
            task = self._make_task(job)
            write_json(folder / "task.json", task.model_dump(mode="json"))
        except (LaiBackendError, OSError) as error:
            self._fail(job, f"The job cannot be started: {error}")
            return
        worker = start_worker(folder, task.memory_bytes)
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

    def _settle_all(self, reason: str) -> None:
        for job in self._store.jobs_in("running"):
            worker = self._workers.get(job.id)
            if worker is not None and worker.is_running():
                continue
            self._workers.pop(job.id, None)
            outcome = self.outcome(job.id)
            if outcome is None:
                cause = self._ended.pop(job.id, reason)
                self._fail(job, _death(worker, self.job_folder(job.id), cause))
            else:
                self._store.move_job(
                    job.id, ("running",), str(outcome["status"]), finished=datetime.now(UTC)
                )

    def _fail(self, job: Job, reason: str) -> None:
        folder = self.job_folder(job.id)
        shutil.rmtree(folder / "results", ignore_errors=True)  # what a killed worker left
        append_error(folder / "log.jsonl", reason)
        self._store.move_job(
            job.id, ("queued", "running"), "error", finished=datetime.now(UTC), reason=reason
        )


def _death(worker: Worker | None, folder: Path, reason: str) -> str:
    """Say how a worker without an outcome ended."""
    if reason.startswith("Memory ran out"):
        return reason
    code = worker.exit_code() if worker is not None else None
    if code == -9:
        how = "It was killed (signal 9), most often because memory ran out."
    elif code == NO_OUTCOME_EXIT:
        how = f"It could not write into {folder}; is the disk full?"
    elif code is not None and code < 0:
        how = f"It was ended by signal {-code}."
    elif code is not None:
        how = f"It ended with exit code {code}."
    else:
        how = "Start the job again."
    try:
        tail = (folder / "output.txt").read_text(errors="replace")[-OUTPUT_TAIL:].strip()
    except OSError:
        tail = ""
    return f"{reason} {how}" + (f" Its last output: {tail}" if tail else "")
