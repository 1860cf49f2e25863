"""The registry: batch jobs and user-defined processes in one SQLite file.

Every call opens its own connection, so that threads of the server need no lock; SQLite orders the
writers. Dates are ISO 8601 in UTC.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

BUSY_TIMEOUT_S = 30.0
SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY,
    user TEXT NOT NULL,
    status TEXT NOT NULL,
    process TEXT NOT NULL,
    options TEXT NOT NULL,
    details TEXT NOT NULL,
    created TEXT NOT NULL,
    updated TEXT NOT NULL,
    started TEXT,
    finished TEXT,
    pid INTEGER,
    pid_started TEXT,
    reason TEXT
);
CREATE INDEX IF NOT EXISTS jobs_by_user ON jobs (user, created);
CREATE TABLE IF NOT EXISTS processes (
    user TEXT NOT NULL,
    id TEXT NOT NULL,
    spec TEXT NOT NULL,
    PRIMARY KEY (user, id)
);
"""


@dataclass(frozen=True)
class Job:
    """One batch job as the registry knows it."""

    id: str
    """Identifier, also the name of its folder."""
    user: str
    """Owner."""
    status: str
    """created, queued, running, canceled, finished or error."""
    process: dict[str, Any]
    """The process as the client sent it."""
    options: dict[str, Any]
    """Job options of the client."""
    details: dict[str, Any]
    """title, description, plan, budget, log_level."""
    created: datetime
    """When the client made it."""
    updated: datetime
    """Last change of status."""
    started: datetime | None = None
    """When its worker started."""
    finished: datetime | None = None
    """When its worker ended."""
    pid: int | None = None
    """Process of the worker."""
    pid_started: str | None = None
    """Start time of that process, to tell it from a later one with the same number."""
    reason: str | None = None
    """Why it ended in `error`, where the worker could not say."""


class Store:
    """Jobs and user-defined processes in a SQLite file."""

    def __init__(self, path: Path) -> None:
        """Open or make the registry.

        Args:
            path: the SQLite file; its folder must exist.
        """
        self._path = path
        with self._connect() as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.executescript(SCHEMA)

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self._path, timeout=BUSY_TIMEOUT_S)
        connection.row_factory = sqlite3.Row
        try:
            with connection:
                yield connection
        finally:
            connection.close()

    def add_job(self, job: Job) -> None:
        """Add a new job."""
        values = (
            job.id,
            job.user,
            job.status,
            json.dumps(job.process),
            json.dumps(job.options),
            json.dumps(job.details),
            job.created.isoformat(),
            job.updated.isoformat(),
        )
        with self._connect() as connection:
            connection.execute(
                "INSERT INTO jobs (id, user, status, process, options, details, created, updated) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                values,
            )

    def job(self, job_id: str) -> Job | None:
        """Return a job, None if there is none."""
        with self._connect() as connection:
            row = connection.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone()
        return None if row is None else _read_job(row)

    def jobs_of(self, user: str) -> list[Job]:
        """Return the jobs of a user, the newest first."""
        with self._connect() as connection:
            rows = connection.execute(
                "SELECT * FROM jobs WHERE user = ? ORDER BY created DESC", (user,)
            ).fetchall()
        return [_read_job(row) for row in rows]

    def jobs_in(self, status: str) -> list[Job]:
        """Return all jobs in a status, the longest waiting first."""
        with self._connect() as connection:
            rows = connection.execute(
                "SELECT * FROM jobs WHERE status = ? ORDER BY updated", (status,)
            ).fetchall()
        return [_read_job(row) for row in rows]

    def move_job(self, job_id: str, before: tuple[str, ...], after: str, **changes: Any) -> bool:  # noqa: ANN401
        """Change the status of a job, if it still is what the caller believes.

        Args:
            job_id: the job.
            before: statuses in which the change is allowed.
            after: the new status.
            changes: further columns: started, finished, pid, pid_started, reason.

        Returns:
            Whether the change happened.
        """
        return self.change_job(job_id, before, status=after, updated=datetime.now(UTC), **changes)

    def change_job(self, job_id: str, allowed: tuple[str, ...], **columns: Any) -> bool:  # noqa: ANN401
        """Change a job, if its status allows it.

        Args:
            job_id: the job.
            allowed: statuses in which the change is allowed.
            columns: new values, at least one; names as the fields of `Job`.

        Returns:
            Whether the change happened.
        """
        assignments = ", ".join(f"{name} = ?" for name in columns)
        marks = ", ".join("?" for _ in allowed)
        with self._connect() as connection:
            cursor = connection.execute(
                f"UPDATE jobs SET {assignments} WHERE id = ? AND status IN ({marks})",
                (*map(_write_value, columns.values()), job_id, *allowed),
            )
            return cursor.rowcount == 1

    def remove_job(self, job_id: str) -> None:
        """Forget a job."""
        with self._connect() as connection:
            connection.execute("DELETE FROM jobs WHERE id = ?", (job_id,))

    def save_process(self, user: str, process_id: str, spec: Mapping[str, Any]) -> None:
        """Store a user-defined process; an existing one is replaced."""
        with self._connect() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO processes (user, id, spec) VALUES (?, ?, ?)",
                (user, process_id, json.dumps(spec)),
            )

    def process(self, user: str, process_id: str) -> dict[str, Any] | None:
        """Return a user-defined process, None if there is none."""
        with self._connect() as connection:
            row = connection.execute(
                "SELECT spec FROM processes WHERE user = ? AND id = ?", (user, process_id)
            ).fetchone()
        return None if row is None else dict(json.loads(row["spec"]))

    def processes_of(self, user: str) -> list[dict[str, Any]]:
        """Return the user-defined processes of a user, by identifier."""
        with self._connect() as connection:
            rows = connection.execute(
                "SELECT spec FROM processes WHERE user = ? ORDER BY id", (user,)
            ).fetchall()
        return [dict(json.loads(row["spec"])) for row in rows]

    def remove_process(self, user: str, process_id: str) -> bool:
        """Forget a user-defined process; return whether there was one."""
        with self._connect() as connection:
            cursor = connection.execute(
                "DELETE FROM processes WHERE user = ? AND id = ?", (user, process_id)
            )
            return cursor.rowcount == 1


def _write_value(value: Any) -> Any:  # noqa: ANN401 - what a column holds
    if isinstance(value, datetime):
        return value.isoformat()
    return json.dumps(value) if isinstance(value, dict) else value


def _read_job(row: sqlite3.Row) -> Job:
    values = dict(row)
    for name in ("process", "options", "details"):
        values[name] = json.loads(values[name])
    for name in ("created", "updated", "started", "finished"):
        values[name] = datetime.fromisoformat(values[name]) if values[name] else None
    return Job(**values)
