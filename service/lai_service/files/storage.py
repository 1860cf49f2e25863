"""Files below the data root: safe paths, staging, and the step that makes them public.

Published files lie in `<data>/<collection>/<item>/<digest>/`, where the digest is of their bytes.
A new version is staged in a hidden folder beside it, flushed to disk, and renamed into place in
one step; the item that points to it is stored after that. So a crash leaves the old version
complete or the new one complete, and at worst a folder that no item names, which `repair` removes.
"""

import fcntl
import hashlib
import io
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lai_service.errors import ForbiddenPathError, InvalidItemError, NotFoundError

__all__ = [
    "file_digest",
    "locked",
    "locked_collection",
    "remove_item_files",
    "resolve_below",
    "source_folder",
    "stage",
]

_STAGING = ".staging-"


def resolve_below(path: Path, roots: Iterable[Path]) -> Path:
    """Return the real path of a file or folder that lies below one of the roots.

    Args:
        path: absolute or relative; links are followed before the check.
        roots: folders that may be read.

    Raises:
        ForbiddenPathError: it lies outside, or there are no roots.
        NotFoundError: it does not exist.
    """
    if "\x00" in str(path):
        raise NotFoundError("a path with a zero character names nothing")
    real = Path(os.path.realpath(path))
    if not any(real.is_relative_to(os.path.realpath(root)) for root in roots):
        raise ForbiddenPathError(
            f"{path} does not lie below a root that the service may read: `lai-service serve "
            "--allow FOLDER` (LAI_SERVICE_ALLOWED_ROOTS) names more"
        )
    if not os.path.exists(real):  # False for a name that is too long, which Path.exists raises
        raise NotFoundError(f"{path} does not exist")
    return real


def source_folder(path: Path, roots: Iterable[Path]) -> Path:
    """Return a folder below an allowed root that holds nothing but files and folders.

    Raises:
        ForbiddenPathError, NotFoundError: it lies elsewhere, or is none.
        InvalidItemError: it holds a pipe, a socket, a device, or a link that leads nowhere.
    """
    folder = resolve_below(path, roots)
    if not folder.is_dir():
        raise NotFoundError(f"{path} is no folder")
    for entry in folder.iterdir():  # a pipe would be read for ever
        if not entry.is_file() and not entry.is_dir():
            raise InvalidItemError(f"{entry.name} in {folder.name} is no regular file")
    return folder


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def locked(data: Path, collection_id: str, *item_ids: str) -> Iterator[None]:
    """Hold the locks of some items' files; they are released even when the process dies.

    A lock is of the file system (flock), so it also holds between worker processes. Whoever holds
    an item shares the lock of its collection, so that nobody removes the collection meanwhile.
    """
    with ExitStack() as held:
        held.enter_context(_flock(data, collection_id, fcntl.LOCK_SH))
        for item_id in sorted(set(item_ids)):  # one order for all, so that nobody waits in a ring
            held.enter_context(_flock(data, f"{collection_id}/{item_id}", fcntl.LOCK_EX))
        yield


@contextmanager
def locked_collection(data: Path, collection_id: str) -> Iterator[None]:
    """Hold the lock of a collection and of all its items."""
    with _flock(data, collection_id, fcntl.LOCK_EX):
        yield


@contextmanager
def _flock(data: Path, name: str, kind: int) -> Iterator[None]:
    folder = data / ".locks"
    folder.mkdir(parents=True, exist_ok=True)
    short = hashlib.sha256(name.encode()).hexdigest()[:32]  # a file name has 255 bytes at most
    with (folder / short).open("w") as file:
        fcntl.flock(file, kind)
        yield


def stage(target: Path, files: Mapping[str, Path | bytes]) -> bool:
    """Copy files into a folder that appears complete or not at all.

    Args:
        target: folder to make; where it exists already, nothing is copied (its name is the digest
            of its content).
        files: source file, or content, of each name inside the folder.

    Returns:
        Whether the folder was made.
    """
    if target.is_dir():
        return False
    _make_folders(target.parent)
    staging = target.parent / f"{_STAGING}{uuid.uuid4().hex}"
    staging.mkdir()
    try:
        for name, source in files.items():
            with (
                io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as read,
                (staging / name).open("xb") as write,
            ):
                shutil.copyfileobj(read, write, 1024 * 1024)
                write.flush()
                os.fsync(write.fileno())
        _sync_folder(staging)
        os.rename(staging, target)
        _sync_folder(target.parent)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return True


def _make_folders(folder: Path) -> None:
    """Make a folder and those above it, so that they survive a power cut."""
    if not folder.is_dir():
        _make_folders(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_item_files(data: Path, collection_id: str, item_id: str | None) -> None:
    """Remove the files of an item, or of a whole collection where `item_id` is None."""
    shutil.rmtree(data / collection_id / (item_id or ""), ignore_errors=True)
