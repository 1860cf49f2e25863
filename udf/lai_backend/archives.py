"""`udf-dependency-archives`: zip files unpacked into the worker's folder before the UDF runs.

An entry is `address#folder`, as on the cloud back-ends: `https://host/model.zip#lai_model` appears
as `./lai_model`. Archives are hostile until proven otherwise: names that leave the folder, links,
and bombs are refused before anything is written.
"""

import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from urllib.parse import urldefrag

from lai_backend.access import allowed_path, download, is_web_address
from lai_backend.errors import ArchiveError, SourceError

OPTION = "udf-dependency-archives"
MAX_ARCHIVE_BYTES = 2_000_000_000
MAX_UNPACKED_BYTES = 6_000_000_000
MAX_MEMBERS = 50_000
MAX_RATIO = 200


def unpack_archives(entries: object, folder: Path, roots: Sequence[Path]) -> list[Path]:
    """Fetch and unpack the archives of a job.

    Args:
        entries: value of the job option `udf-dependency-archives`; None: no archives.
        folder: the worker's folder.
        roots: folders below which local archives may lie.

    Returns:
        The folders made, in order.
    """
    if entries is None:
        return []
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise ArchiveError(f"{OPTION} must be a list of strings 'address#folder'.")
    targets: list[Path] = []
    for entry in entries:
        address, name = urldefrag(entry)
        target = _target(name, folder, entry)
        if target in targets:
            raise ArchiveError(f"Two archives of {OPTION} go into ./{name}; one folder each.")
        with _fetched(address, folder, roots) as archive:
            unpack(archive, target, address)
        targets.append(target)
    return targets


def _target(name: str, folder: Path, entry: str) -> Path:
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or path == PurePosixPath("."):
        raise ArchiveError(f"{entry!r}: write the folder after '#', as in model.zip#lai_model.")
    return folder / path


@contextmanager
def _fetched(address: str, folder: Path, roots: Sequence[Path]) -> Iterator[Path]:
    """Yield a local archive, or a copy of one from the web that is removed afterwards."""
    if not is_web_address(address):
        path = allowed_path(address, roots)
        if not path.is_file():
            raise ArchiveError(f"There is no archive {path}.")
        yield path
        return
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".zip") as file:
        try:
            download(address, file, MAX_ARCHIVE_BYTES)
        except SourceError as error:
            raise ArchiveError(str(error)) from error
        yield Path(file.name)


def unpack(archive: Path, target: Path, name: str) -> None:
    """Unpack a zip file into a new folder, or refuse it whole; `name` is the user's for it."""
    try:
        with zipfile.ZipFile(archive) as opened:
            members = opened.infolist()
            _check_members(members, name)
            target.mkdir(parents=True, exist_ok=True)
            opened.extractall(target)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError) as error:
        shutil.rmtree(target, ignore_errors=True)
        what = "cannot be unpacked" if isinstance(error, OSError) else "is not a readable zip file"
        raise ArchiveError(f"The archive {name} {what}: {error}.") from error


def _check_members(members: Sequence[zipfile.ZipInfo], name: str) -> None:
    if len(members) > MAX_MEMBERS:
        raise ArchiveError(f"The archive {name} has more than {MAX_MEMBERS} members.")
    unpacked = sum(member.file_size for member in members)
    packed = sum(member.compress_size for member in members)
    if unpacked > MAX_UNPACKED_BYTES or unpacked > MAX_RATIO * max(packed, 4096):
        raise ArchiveError(
            f"The archive {name} would unpack from {packed} to {unpacked} bytes and is refused."
        )
    for member in members:
        path = PurePosixPath(member.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts:
            raise ArchiveError(f"The archive {name} is refused: {member.filename!r} leaves it.")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise ArchiveError(f"The archive {name} is refused: {member.filename!r} is a link.")
