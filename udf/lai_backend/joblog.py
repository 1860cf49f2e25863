"""The log of a job: JSON lines that `GET /jobs/{id}/logs` serves as they are.

Our own messages and those of users' code (`openeo.udf.inspect`, `logging`) are kept from the level
the user chose; libraries speak only when they warn.
"""

import contextlib
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
QUIET = (
    "openeo_pg_parser_networkx",
    "openeo_processes_dask",
    "openeo.udf.run_code",
    "rasterio",
    "urllib3",
    "distributed",
    "asyncio",
    "fsspec",
    "numba",
    "matplotlib",
)
MAX_MESSAGE = 20_000


class JobLogHandler(logging.Handler):
    """Appends log records to a file, one JSON object a line."""

    def __init__(self, path: Path, level: str) -> None:
        """Open the file and attach to the root logger.

        Args:
            path: file to append to.
            level: lowest level: debug, info, warning or error.
        """
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
        entry: dict[str, Any] = {
            "id": str(self._count),
            "level": _level_name(record.levelno),
            "message": self.format(record)[:MAX_MESSAGE],
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        }
        code = getattr(record, "code", None)
        if code:
            entry["code"] = str(code)
        data = getattr(record, "data", None)
        if data is not None:
            entry["data"] = repr(data)[:MAX_MESSAGE]
        try:
            self._file.write(json.dumps(entry) + "\n")
            self._file.flush()
        except OSError:  # the disk is full: the job goes on as far as it can
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
            if not skipping and LEVELS[entry["level"]] >= LEVELS.get(level, 0):
                yield entry
            skipping = skipping and entry["id"] != offset


def append_error(path: Path, message: str) -> None:
    """Add an error to the log of a job whose worker cannot do it itself, if the disk lets us."""
    entry = {
        "id": f"backend-{datetime.now(UTC).timestamp():.3f}",
        "level": "error",
        "message": message,
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
    }
    with contextlib.suppress(OSError), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


def _level_name(number: int) -> str:
    for name in ("error", "warning", "info"):
        if number >= LEVELS[name]:
            return name
    return "debug"
