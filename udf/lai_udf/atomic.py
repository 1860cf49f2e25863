"""Files appear whole or not at all: work folders, synced files, and errors that say where.

What writes rasters works in a hidden folder beside the target, and moves finished files over.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import rasterio
from rasterio.errors import RasterioError

from lai_udf.errors import OutputNotWritableError

CACHE_BYTES = 8 * 2**20
"""Decoded blocks that GDAL keeps while a scene is streamed. By default it takes a twentieth of the
memory of the machine: it would grow with the scene."""


@contextmanager
def small_cache() -> Iterator[None]:
    """Keep GDAL's cache of blocks small, where nobody has set its size."""
    if "GDAL_CACHEMAX" in os.environ:
        yield
        return
    with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES):
        yield


@contextmanager
def disk_errors(directory: Path) -> Iterator[None]:
    """Turn what the file system or GDAL raises while writing into one clear error.

    Raises:
        OutputNotWritableError: no right to write, no space left, not a folder.
    """
    try:
        yield
    except (OSError, RasterioError) as error:
        reason = str(error.__cause__ or error)
        raise OutputNotWritableError(
            f"cannot write to {directory} ({reason}): choose a folder that can be written and has "
            "space left; nothing was changed there"
        ) from error


@contextmanager
def work_folder(directory: Path) -> Iterator[Path]:
    """Make `directory` where it is missing and yield a hidden work folder in it.

    The work folder goes away at the end; so does `directory`, if it was made here and is empty.

    Raises:
        OutputNotWritableError: the folder cannot be made.
    """
    made: list[Path] = []
    work: Path | None = None
    try:
        with disk_errors(directory):
            made = [folder for folder in (directory, *directory.parents) if not folder.exists()]
            directory.mkdir(parents=True, exist_ok=True)
            work = Path(tempfile.mkdtemp(prefix=".lai-", suffix=".partial", dir=directory))
        yield work
    finally:
        if work is not None:
            shutil.rmtree(work, ignore_errors=True)
        with suppress(OSError):  # not empty: finished files lie there
            for folder in made:
                folder.rmdir()


def move_finished(files: dict[Path, Path]) -> None:
    """Move finished files to their targets, each synced to disk first; existing ones are replaced.

    Args:
        files: target by finished file, on the same file system.
    """
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
