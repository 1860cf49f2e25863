"""The current folder of a UDF in the worker processes of a Dask cluster.

A UDF finds its archives under `./name`. The process of a job runs in the folder that holds them;
the processes of a cluster serve many jobs. They get the folder as a zip together with their tasks,
unpack it once, and change into it. The current folder belongs to a whole process: tasks of one
place run side by side, tasks of another wait until those are done, and then the modules and models
of the former place are forgotten.
"""

import hashlib
import io
import os
import shutil
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

EPOCH = (1980, 1, 1, 0, 0, 0)
"""Time of all members, so that equal folders have equal digests."""


@dataclass(frozen=True)
class Place:
    """The folder of a job, ready to travel."""

    digest: str
    """SHA-256 of the zip; names the folder on a worker."""
    archive: bytes = field(repr=False)
    """The files as a zip."""
    threads: int = 1
    """Threads that one call of the UDF may use (`OMP_NUM_THREADS`)."""


@dataclass
class _Occupancy:
    """Which place this process works in."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    digest: str | None = None
    tasks: int = 0


_OCCUPANCY = _Occupancy()


def pack_place(folder: Path, threads: int) -> Place:
    """Pack the current folder of a job.

    Args:
        folder: the folder; files and folders below it travel.
        threads: threads that one call of the UDF may use.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                member = zipfile.ZipInfo(path.relative_to(folder).as_posix(), EPOCH)
                with path.open("rb") as source, archive.open(member, "w") as target:
                    shutil.copyfileobj(source, target)
    content = buffer.getvalue()
    return Place(hashlib.sha256(content).hexdigest(), content, threads)


@contextmanager
def occupy(place: Place | None, on_move: Callable[[], None]) -> Iterator[None]:
    """Work in a place; blocks while this process works in another one.

    Args:
        place: where to work; None: the process already is where it should be.
        on_move: called when the process comes from elsewhere; forgets what was loaded there.

    Raises:
        OSError: the files cannot be written on this worker.
    """
    if place is None:
        yield
        return
    with _OCCUPANCY.changed:
        _OCCUPANCY.changed.wait_for(
            lambda: _OCCUPANCY.tasks == 0 or _OCCUPANCY.digest == place.digest
        )
        if _OCCUPANCY.digest != place.digest:
            os.chdir(_unpack(place))
            on_move()
            _OCCUPANCY.digest = place.digest
        os.environ["OMP_NUM_THREADS"] = str(place.threads)
        _OCCUPANCY.tasks += 1
    try:
        yield
    finally:
        with _OCCUPANCY.changed:
            _OCCUPANCY.tasks -= 1
            _OCCUPANCY.changed.notify_all()


def _unpack(place: Place) -> Path:
    """Return the folder of a place, made at the first use, removed with the Dask worker."""
    from distributed import get_worker

    folder = Path(get_worker().local_directory) / f"place-{place.digest[:16]}"
    if not folder.is_dir():
        partial = folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        with zipfile.ZipFile(io.BytesIO(place.archive)) as archive:
            partial.mkdir(parents=True)
            archive.extractall(partial)
        partial.rename(folder)
    return folder
