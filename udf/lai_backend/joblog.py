"""The log of a job, and how far it is: JSON lines that `GET /jobs/{id}/logs` serves as they are.

Our own messages and those of users' code (`openeo.udf.inspect`, `logging`) are kept from the level
the user chose; of libraries only warnings and errors.
"""

import contextlib
import json
import logging
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dask.callbacks

from lai_backend.files import write_json

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
QUIET = (
    *("openeo_pg_parser_networkx", "openeo_processes_dask", "openeo.udf.run_code", "rasterio"),
    *("urllib3", "distributed", "asyncio", "fsspec", "numba", "matplotlib"),
)
MAX_MESSAGE = 20_000
REPORT_EVERY_S = 1.0


class JobLogHandler(logging.Handler):
    """Appends log records to a file, one JSON object a line."""

    def __init__(self, path: Path, level: str) -> None:
        """Open the file and attach to the root logger; `level` is the lowest that is kept."""
        super().__init__(LEVELS.get(level, logging.INFO))
        self._file = path.open("a", encoding="utf-8")
        self._count = 0
        root = logging.getLogger()
        root.addHandler(self)
        root.setLevel(self.level)
        for name in QUIET:
            logging.getLogger(name).setLevel(logging.WARNING)
        logging.captureWarnings(True)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        self._count += 1
        level = next((n for n in reversed(LEVELS) if record.levelno >= LEVELS[n]), "debug")
        entry = _entry(str(self._count), level, self.format(record), record.created)
        code, data = getattr(record, "code", None), getattr(record, "data", None)
        entry |= {"code": str(code)} if code else {}
        entry |= {"data": repr(data)[:MAX_MESSAGE]} if data is not None else {}
        try:
            self._file.write(json.dumps(entry) + "\n")
            self._file.flush()
        except OSError:  # the disk is full: the job continues as far as it can
            self.handleError(record)

    def close(self) -> None:
        """Detach and close the file."""
        logging.getLogger().removeHandler(self)
        with contextlib.suppress(OSError):
            self._file.close()
        super().close()


def read_log(path: Path, level: str, offset: str | None = None) -> Iterator[dict[str, Any]]:
    """Yield the entries of a job log.

    Args:
        path: the file; absent: no entries.
        level: lowest level wanted.
        offset: identifier of the last entry already seen; empty, as some clients send it: none.
    """
    if not path.is_file():
        return
    skipping = bool(offset)
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if not line.endswith("\n"):
                return  # still being written
            entry = json.loads(line)
            if not skipping and LEVELS[entry["level"]] >= LEVELS[level]:
                yield entry
            skipping = skipping and entry["id"] != offset


def append_error(path: Path, message: str) -> None:
    """Add an error to the log of a job whose worker cannot do it itself, if the disk lets us."""
    now = datetime.now(UTC).timestamp()
    with contextlib.suppress(OSError), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(_entry(f"backend-{now:.3f}", "error", message, now)) + "\n")


def _entry(identifier: str, level: str, message: str, seconds: float) -> dict[str, str]:
    when = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return {"id": identifier, "level": level, "message": message[:MAX_MESSAGE], "time": when}


class Progress(dask.callbacks.Callback):
    """Writes how much of the work is done into a file, at most once a second."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path, self._written = path, 0.0

    def _posttask(self, key: Any, result: Any, dsk: Any, state: Any, worker_id: Any) -> None:
        """Report; Dask calls it in one thread."""
        if time.monotonic() - self._written > REPORT_EVERY_S:
            self._written = time.monotonic()
            done = len(state["finished"])
            total = done + sum(len(state[name]) for name in ("ready", "waiting", "running"))
            write_json(self._path, {"percent": round(100 * done / total, 1)})
