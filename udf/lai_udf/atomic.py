"""Files appear whole or not at all: work folders, synced files, and errors that name the path.

What writes rasters works in a hidden folder beside the target, and moves finished files over.
"""

import fcntl
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lai_udf.errors import OutputNotWritableError

PREFIX, SUFFIX = ".lai-", ".partial"  # names of work folders; each is locked by its process
ABANDONED_S = 60  # A work folder that is younger may be about to be locked


@contextmanager
def disk_errors(directory: Path) -> Iterator[None]:
    """Turn what the file system or GDAL raises while writing into one clear error.

    Raises:
        OutputNotWritableError: no right to write, no space left, not a folder.
    """
    try:
        yield
    except _disk_faults() as error:
        reason = str(error.__cause__ or error)
        raise OutputNotWritableError(
            f"cannot write to {directory} ({reason}): choose a folder that can be written and has "
            "space left; nothing was changed there"
        ) from error


def _disk_faults() -> tuple[type[Exception], ...]:
    """Return what a refusing disk raises; what GDAL raises only where it was loaded."""
    module = sys.modules.get("rasterio.errors")
    return (OSError, module.RasterioError) if module else (OSError,)


@contextmanager
def work_folder(directory: Path) -> Iterator[Path]:
    """Make `directory` where it is missing and yield a hidden work folder in it.

    The work folder goes at the end; so does `directory`, if it was made here and is empty, and what
    killed runs left there.

    Raises:
        OutputNotWritableError: the folder cannot be made.
    """
    made: list[Path] = []
    work: Path | None = None
    lock: int | None = None
    try:
        with disk_errors(directory):
            made = [folder for folder in (directory, *directory.parents) if not folder.exists()]
            directory.mkdir(parents=True, exist_ok=True)
            remove_abandoned(directory)
            work = Path(tempfile.mkdtemp(prefix=PREFIX, suffix=SUFFIX, dir=directory))
            lock = _lock(work)
        yield work
    finally:
        if lock is not None:
            os.close(lock)
        if work is not None:
            shutil.rmtree(work, ignore_errors=True)
        with suppress(OSError):  # not empty: finished files lie there
            for folder in made:
                folder.rmdir()


@contextmanager
def new_files(directory: Path) -> Iterator[Path]:
    """Yield a work folder; what the block wrote into it moves to `directory`, or goes if it fails.

    Raises:
        OutputNotWritableError: the folder or disk refuses.
    """
    with work_folder(directory) as work, disk_errors(directory):
        yield work
        move_finished({path: directory / path.name for path in sorted(work.iterdir())})


def remove_abandoned(directory: Path) -> None:
    """Remove the work folders of runs that were killed: those that no process has locked."""
    for folder in directory.glob(f"{PREFIX}*{SUFFIX}"):
        with suppress(OSError):  # locked by a run that works on, or gone already
            lock = _lock(folder)
            if time.time() - folder.stat().st_mtime > ABANDONED_S:
                shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def _lock(folder: Path) -> int:
    """Lock a folder until the handle is closed or the process ends; `OSError` if it is locked."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise
    return handle


def move_finished(files: dict[Path, Path]) -> None:
    """Move finished files to targets on the same disk, synced first; existing ones are replaced."""
    for finished in files:
        _sync(finished)
    for finished, target in files.items():
        os.replace(finished, target)
    for folder in {target.parent for target in files.values()}:
        _sync(folder)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
