"""Files below the data root: safe paths, checks of rasters, staging, and the step to publish them.

Published files lie in `<data>/<collection>/<item>/<digest>/`, where the digest is of their bytes.
A new version is staged in a hidden folder beside it, flushed to disk, and renamed into place in
one step; the item that points to it is stored after that. So a crash leaves the old version
complete or the new one complete, and at worst a folder that no item names, which `repair` removes.
A raster is published where it is a cloud-optimised GeoTIFF in the place that its item states.
"""

import fcntl
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.warp import transform_bounds
from rio_cogeo.cogeo import cog_validate

from lai_service.catalogue.items import Document
from lai_service.errors import ForbiddenPathError, InvalidItemError, NotFoundError
from lai_udf.longitudes import box_holds, flat_box

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
    an item shares the lock of its collection, so that the collection is not removed meanwhile.
    """
    with ExitStack() as held:
        held.enter_context(_flock(data, collection_id, fcntl.LOCK_SH))
        for item_id in sorted(set(item_ids)):  # one order for all, so that there is no deadlock
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


def stage(target: Path, files: Mapping[str, Path]) -> bool:
    """Copy files into a folder that appears complete or not at all.

    Args:
        target: folder to make; where it exists already, nothing is copied (its name is the digest
            of its content).
        files: source file of each name inside the folder.

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
            with source.open("rb") as read, (staging / name).open("xb") as write:
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


MAX_RASTER_PIXELS = 150_000_000
"""Most pixels of a raster: a tile of Sentinel-2 at 10 m has 121 million."""
MAX_BANDS = 64

GDAL_ENVIRONMENT = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".none",
    "VRT_VIRTUAL_OVERVIEWS": "NO",
    "GDAL_CACHEMAX": 64 * 1024 * 1024,
}
"""GDAL opens the one file it is given: no side files, no network; it keeps 64 MB of blocks."""

_MAGIC = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_TOLERANCE_DEG = 0.01


def is_tiff(path: Path) -> bool:
    """Return whether a file starts as a TIFF; a VRT or a text never reaches GDAL."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) in _MAGIC


def check_size(path: Path, what: str) -> None:
    """Check that a raster is not larger than anything that this product has.

    Raises:
        InvalidItemError: it has more than `MAX_RASTER_PIXELS` pixels, or is no GeoTIFF.
    """
    if not is_tiff(path):
        raise InvalidItemError(f"{what} is not a GeoTIFF")
    try:
        with rasterio.Env(**GDAL_ENVIRONMENT), rasterio.open(path, driver="GTiff") as raster:
            width, height, bands = raster.width, raster.height, raster.count
    except RasterioError as error:
        raise InvalidItemError(f"{what} cannot be read as a GeoTIFF: {error}") from error
    if width * height > MAX_RASTER_PIXELS or bands > MAX_BANDS:
        raise InvalidItemError(
            f"{what} has {bands} bands of {width} x {height} pixels; at most {MAX_BANDS} of "
            f"{MAX_RASTER_PIXELS} pixels are taken: publish it in parts"
        )


def check_cog(path: Path, item: Document, what: str) -> tuple[CRS, Affine, tuple[int, int]]:
    """Check that a file is a cloud-optimised GeoTIFF where its item places it; return its grid.

    Args:
        path: the file.
        item: its item; `bbox` (degrees) and `proj:code` are compared where present.
        what: name of the asset, for the message.

    Raises:
        InvalidItemError: not a GeoTIFF, not cloud-optimised, no CRS, another CRS, another place.
    """
    check_size(path, what)
    try:
        with rasterio.Env(**GDAL_ENVIRONMENT):
            valid, errors, warnings = cog_validate(path, strict=True, quiet=True)
            if not valid:
                reason = "; ".join([*errors, *warnings])
                raise InvalidItemError(f"{what} is not a cloud-optimised GeoTIFF: {reason}")
            with rasterio.open(path, driver="GTiff") as raster:
                _check_place(raster, item, what)
                return raster.crs, raster.transform, raster.shape
    except RasterioError as error:
        raise InvalidItemError(f"{what} cannot be read as a GeoTIFF: {error}") from error


def _check_place(raster: rasterio.DatasetReader, item: Document, what: str) -> None:
    if raster.crs is None:
        raise InvalidItemError(f"{what} has no coordinate reference system")
    code = item.get("properties", {}).get("proj:code")
    if code and CRS.from_user_input(code) != raster.crs:
        raise InvalidItemError(f"{what} is in {raster.crs.to_string()}, its item states {code}")
    bbox = item.get("bbox")
    if not bbox:
        return
    covered = transform_bounds(raster.crs, "EPSG:4326", *raster.bounds)
    if not box_holds(covered, flat_box(bbox), _TOLERANCE_DEG):
        box = [round(number, 4) for number in covered]
        raise InvalidItemError(f"{what} covers {box}, the item's bbox {bbox} is not inside that")
