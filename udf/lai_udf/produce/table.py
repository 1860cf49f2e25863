"""The table of jobs: a Parquet or CSV file that survives a kill, worked on by one manager."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
from openeo.extra.job_management import FullDataFrameJobDatabase, MultiBackendJobManager

from lai_udf.atomic import disk_errors
from lai_udf.errors import ProductionError

TABLE_SUFFIXES = (".parquet", ".geoparquet", ".csv")
TEXT_COLUMNS = ("title", "tile", "areas", "start", "end", "settings", "folder")


class JobTable(FullDataFrameJobDatabase):
    """Job database of openEO's manager whose file is never half-written."""

    def __init__(self, path: Path) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.path = path
        if path.suffix.lower() not in TABLE_SUFFIXES:
            raise ProductionError(
                parameter="table", value=str(path), expected="a file .parquet or .csv"
            )

    def __repr__(self) -> str:
        """Name the file in logs."""
        return f"JobTable({str(self.path)!r})"

    def exists(self) -> bool:
        """Return whether there is a table."""
        return self.path.exists()

    def read(self) -> pd.DataFrame:
        """Read the table; raise `ProductionError` if it is none of ours."""
        try:
            if self.path.suffix.lower() == ".csv":
                kinds = MultiBackendJobManager._column_requirements.dtype_mapping()
                rows = pd.read_csv(self.path, dtype=kinds | dict.fromkeys(TEXT_COLUMNS, "str"))
            else:
                rows = pd.read_parquet(self.path)
        except (OSError, ValueError) as error:
            raise ProductionError(
                f"{self.path} cannot be read as a table of jobs ({error})"
            ) from error
        if missing := {"title", "status", "attempt"} - set(rows.columns):
            raise ProductionError(f"{self.path} is no table of jobs: it lacks {sorted(missing)}")
        return rows

    def persist(self, df: pd.DataFrame) -> None:
        """Merge rows and write the whole table beside its place, then move it there."""
        self._merge_into_df(df)
        self._write()

    def add(self, rows: pd.DataFrame) -> None:
        """Append planned rows."""
        new = MultiBackendJobManager._column_requirements.normalize_df(rows)
        new["folder"] = None
        if self.exists():
            new = pd.concat([self.df.astype(object), new.astype(object)], ignore_index=True)
            new = new.infer_objects()
        self._df = new
        self._write()

    def _write(self) -> None:
        part = self.path.with_name(f".{self.path.name}.partial")
        with disk_errors(self.path.parent):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.suffix.lower() == ".csv":
                self.df.to_csv(part, index=False)
            else:
                self.df.to_parquet(part, index=False)
            os.replace(part, self.path)


@contextmanager
def locked(table: Path) -> Iterator[None]:
    """Hold the lock file of a table, so that one manager works on it.

    Raises:
        ProductionError: another manager holds it. The lock goes with its process, however it ends.
    """
    with disk_errors(table.parent):
        table.parent.mkdir(parents=True, exist_ok=True)
        lock = table.with_name(f".{table.name}.lock").open("w")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ProductionError(
                f"another manager works on {table}: wait for it, or stop it"
            ) from error
        yield
