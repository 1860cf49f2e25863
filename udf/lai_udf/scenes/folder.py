"""Describe a folder with a file for each band: Copernicus Browser, Earth Search, SAFE, own names.

In: a folder of GeoTIFF or JPEG 2000 files, named as `BAND_FILE_NAMES` lists. Out: a
`SceneSource` for each acquisition among the files.
"""

import re
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from lai_udf.errors import MetadataError, MissingBandError
from lai_udf.grid import Grid
from lai_udf.predict import BANDS
from lai_udf.scenes.bands import open_raster
from lai_udf.scenes.geotiff import describe_band
from lai_udf.scenes.labels import LABELS, band_label
from lai_udf.scenes.metadata import (
    Declared,
    SceneMetadata,
    baseline_scaling,
    complete_metadata,
    platform_of,
)
from lai_udf.scenes.source import SceneEntry, SceneSource, require_bands

BAND_FILE_NAMES = (
    # a file of a SAFE folder: T31UFS_20230605T105621_B8A_20m.jp2
    re.compile(r"(?P<tile>T\d{2}[A-Z]{3})_(?P<time>\d{8}T\d{6})_(?P<band>\w+?)_(10|20|60)m$"),
    # Copernicus Browser: 2023-06-05-00:00_2023-06-05-23:59_Sentinel-2_L2A_B8A_(Raw)
    re.compile(
        r"(?P<time>\d{4}-\d\d-\d\d)[-_T:\d]*_Sentinel-2_(Quarterly_)?L2A_(?P<band>[A-Za-z0-9]+)"
        r"(_\(Raw\))?$"
    ),
    # Earth Search, downloaded: S2A_31UFS_20230605_0_L2A_B8A or S2A_31UFS_20230605_0_L2A_nir08
    re.compile(
        r"(?P<mission>S2[ABCD])_(?P<tile>\d{1,2}[A-Z]{3})_(?P<time>\d{8})_\d_L2A[_-](?P<band>\w+)$"
    ),
    # the same after a product name: S2A_MSIL2A_20230605T105621_..._B8A
    re.compile(r"(?P<mission>S2[ABCD])_MSIL2A_(?P<time>\d{8}T\d{6})_.*_(?P<band>[A-Za-z0-9]+)$"),
    # a bare band: B8A, nir08, B02_20m, SCL
    re.compile(r"(?P<band>\w+?)([-_](10|20|60)m)?$"),
)
"""Names, without suffix, of files that hold one band each; the first that fits counts."""
SUFFIXES = {".tif", ".tiff", ".jp2", ".vrt"}


@dataclass(frozen=True)
class BandFile:
    """A file that holds one band."""

    path: Path
    label: str
    time: str  # as the name states it; empty where it states none
    tile: str  # MGRS tile of the name; empty where it states none
    mission: str


def find_band_files(folder: Path) -> list[BandFile]:
    """Return the files of a folder, and of folders in it, whose names name a band."""
    return [
        named
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and (named := read_file_name(path)) is not None
    ]


def read_file_name(path: Path) -> BandFile | None:
    """Return what the name of a file states, None where it names no band of ours."""
    for pattern in BAND_FILE_NAMES:
        match = pattern.match(path.stem)
        if match is None:
            continue
        parts = match.groupdict()
        label = band_label(parts["band"])
        if label is not None:
            tile = (parts.get("tile") or "").removeprefix("T")
            return BandFile(path, label, parts.get("time") or "", tile, parts.get("mission") or "")
    return None


def holds_band_files(folder: Path) -> bool:
    """Return whether a folder holds single-band files of at least half of the bands."""
    return len({file.label for file in find_band_files(folder)} & set(BANDS)) >= len(BANDS) / 2


def describe_folder(folder: Path, declared: Declared) -> list[SceneEntry]:
    """Return the acquisitions of a folder of single-band files, in the order of time.

    Raises:
        MissingBandError: no file names a band.
    """
    files = find_band_files(folder)
    if not files:
        raise MissingBandError(f"{folder} holds no file that names a band: {', '.join(BANDS)}")
    groups: dict[tuple[str, str], list[BandFile]] = defaultdict(list)
    for file in files:
        groups[file.time, file.tile].append(file)
    alone = len(groups) == 1
    return [
        SceneEntry(
            folder.name if alone else "_".join([folder.name, *filter(None, key)]),
            partial(_describe, str(folder), group, declared, alone=alone),
        )
        for key, group in sorted(groups.items())
    ]


def _describe(
    folder: str, files: list[BandFile], declared: Declared, *, alone: bool
) -> SceneSource:
    where = (
        folder if alone else f"{folder}, {' '.join(filter(None, (files[0].time, files[0].tile)))}"
    )
    grids: dict[str, tuple[Grid, BandFile]] = {}
    for file in files:
        with open_raster(str(file.path), file.label) as dataset:
            grid = Grid.of_dataset(dataset)
        other = grids.get(file.label)
        if other is not None and abs(other[0].transform.a - grid.transform.a) < 1e-6:
            raise MetadataError(
                f"{where}: {other[1].path.name} and {file.path.name} are both band {file.label}: "
                "keep one of them"
            )
        if other is None or _rank(grid, declared) < _rank(other[0], declared):
            grids[file.label] = (grid, file)
    require_bands(list(grids), where)
    metadata = _metadata(folder, files, declared, where)
    by_baseline = baseline_scaling(metadata.processing_baseline, "processing baseline of the name")
    bands = []
    for label in (label for label in LABELS if label in grids):
        grid, file = grids[label]
        path = str(file.path)
        with open_raster(path, label) as dataset:
            stated = (dataset.scales[0], dataset.offsets[0]) != (1.0, 0.0)
            found = None if stated else by_baseline
            bands.append((describe_band(label, path, 1, dataset, declared, metadata, found), grid))
    return SceneSource.of_files(where, bands, metadata, declared)


def _rank(grid: Grid, declared: Declared) -> tuple[float, float]:
    """Return what puts the pixel that is wanted first, then the finer one."""
    size = grid.transform.a
    return abs(size - declared.resolution), size


def _metadata(folder: str, files: list[BandFile], declared: Declared, where: str) -> SceneMetadata:
    """Return what folder and file names state; the folder may be named as the product."""
    first = files[0]
    stem = re.sub(r"[_-]$", "", Path(folder).name)
    tile = f"_T{first.tile}" if first.tile else ""
    metadata = complete_metadata(
        [first.path.stem, *(part.name for part in first.path.parents)],
        f"{where}, in the names of its files,",
        time=declared.datetime or first.time,
        platform=platform_of(first.mission),
    )
    return metadata if metadata.product_id else replace(metadata, product_id=f"{stem}{tile}")
