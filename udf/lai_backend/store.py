"""The registry: batch jobs and user-defined processes in one SQLite file.

Every call opens its own connection, so that threads of the server need no lock; SQLite orders the
writers. Dates are ISO 8601 in UTC, objects JSON.
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
    """One batch job as the registry holds it."""

    id: str  # also the name of its folder
    user: str  # owner
    status: str  # created, queued, running, canceled, finished or error
    process: dict[str, Any]  # as the client sent it
    options: dict[str, Any]  # job options of the client
    details: dict[str, Any]  # title, description, plan, budget, log_level
    created: datetime
    updated: datetime  # last change of status
    started: datetime | None = None  # when its worker started
    finished: datetime | None = None  # when its worker ended
    pid: int | None = None  # process of the worker
    pid_started: str | None = None  # start time of that process; a later one differs
    reason: str | None = None  # why it ended in `error`, where the worker could not report it


class Store:
    """Jobs and user-defined processes in a SQLite file, whose folder must exist."""

    def __init__(self, path: Path) -> None:
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

    def _rows(self, query: str, *values: str) -> list[sqlite3.Row]:
        with self._connect() as connection:
            return connection.execute(query, values).fetchall()

    def _change(self, query: str, *values: object) -> bool:
        """Run a statement and return whether it changed one row."""
        with self._connect() as connection:
            return connection.execute(query, [*map(_write_value, values)]).rowcount == 1

    def add_job(self, job: Job) -> None:
        """Add a new job."""
        columns = vars(job)
        marks = ", ".join("?" for _ in columns)
        self._change(f"INSERT INTO jobs ({', '.join(columns)}) VALUES ({marks})", *columns.values())

    def job(self, job_id: str) -> Job | None:
        """Return a job, None if there is none."""
        return next(map(_read_job, self._rows("SELECT * FROM jobs WHERE id = ?", job_id)), None)

    def jobs_of(self, user: str) -> list[Job]:
        """Return the jobs of a user, the newest first."""
        query = "SELECT * FROM jobs WHERE user = ? ORDER BY created DESC"
        return list(map(_read_job, self._rows(query, user)))

    def jobs_in(self, status: str) -> list[Job]:
        """Return all jobs in a status, the longest waiting first."""
        query = "SELECT * FROM jobs WHERE status = ? ORDER BY updated"
        return list(map(_read_job, self._rows(query, status)))

    def move_job(self, job_id: str, before: tuple[str, ...], after: str, **changes: object) -> bool:
        """Change the status of a job and further columns, see `change_job`."""
        return self.change_job(job_id, before, status=after, updated=datetime.now(UTC), **changes)

    def change_job(self, job_id: str, allowed: tuple[str, ...], **columns: object) -> bool:
        """Change columns of a job if its status is one allowed; return whether it was."""
        assignments = ", ".join(f"{name} = ?" for name in columns)
        marks = ", ".join("?" for _ in allowed)
        query = f"UPDATE jobs SET {assignments} WHERE id = ? AND status IN ({marks})"
        return self._change(query, *columns.values(), job_id, *allowed)

    def remove_job(self, job_id: str) -> None:
        """Delete a job."""
        self._change("DELETE FROM jobs WHERE id = ?", job_id)

    def save_process(self, user: str, process_id: str, spec: Mapping[str, Any]) -> None:
        """Store a user-defined process; an existing one is replaced."""
        query = "INSERT OR REPLACE INTO processes (user, id, spec) VALUES (?, ?, ?)"
        self._change(query, user, process_id, dict(spec))

    def process(self, user: str, process_id: str) -> dict[str, Any] | None:
        """Return a user-defined process, None if there is none."""
        query = "SELECT spec FROM processes WHERE user = ? AND id = ?"
        found = self._rows(query, user, process_id)
        return dict(json.loads(found[0]["spec"])) if found else None

    def processes_of(self, user: str) -> list[dict[str, Any]]:
        """Return the user-defined processes of a user, by identifier."""
        rows = self._rows("SELECT spec FROM processes WHERE user = ? ORDER BY id", user)
        return [dict(json.loads(row["spec"])) for row in rows]

    def remove_process(self, user: str, process_id: str) -> bool:
        """Delete a user-defined process; return whether there was one."""
        return self._change("DELETE FROM processes WHERE user = ? AND id = ?", user, process_id)


def _write_value(value: object) -> object:
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
