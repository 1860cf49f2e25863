"""Describe a folder with a file for each band: Copernicus Browser, Earth Search, SAFE, own names.

In: a folder of GeoTIFF or JPEG 2000 files, named as `names.BAND_FILE_NAMES` lists. Out: a
`SceneSource` for each acquisition among the files.
"""

import re
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lai_udf.errors import MetadataError, MissingBandError
from lai_udf.grid import Grid
from lai_udf.predict import BANDS
from lai_udf.scenes.bands import open_raster
from lai_udf.scenes.declared import Declared, baseline_scaling, require_time
from lai_udf.scenes.geotiff import describe_band
from lai_udf.scenes.gridding import fit_band, scene_grid
from lai_udf.scenes.labels import LABELS, band_label
from lai_udf.scenes.names import BAND_FILE_NAMES, SceneMetadata, platform_of, read_product_name
from lai_udf.scenes.source import SceneEntry, SceneSource, require_bands

SUFFIXES = {".tif", ".tiff", ".jp2", ".vrt"}


@dataclass(frozen=True)
class BandFile:
    """A file that holds one band."""

    path: Path
    label: str
    time: str
    """As the name states it; empty where it states none."""
    tile: str
    """MGRS tile of the name; empty where it states none."""
    mission: str


def find_band_files(folder: Path) -> list[BandFile]:
    """Return the files of a folder, and of folders in it, whose names name a band."""
    found = []
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in SUFFIXES and not hidden:
            named = read_file_name(path)
            if named is not None:
                found.append(named)
    return found


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
        MissingBandError: no file names a band; on opening, one of an acquisition is missing.
        MetadataError: a band is there twice at one pixel size, or no time is known.
        UndeclaredScaleError: neither file nor name nor caller says how it is scaled.
        GridError: bands on different grids.
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
            own = Grid.of_dataset(dataset)
        known = grids.get(file.label)
        if known is not None and abs(known[0].transform.a - own.transform.a) < 1e-6:
            raise MetadataError(
                f"{where}: {known[1].path.name} and {file.path.name} are both band {file.label}: "
                "keep one of them"
            )
        if known is None or _rank(own, declared) < _rank(known[0], declared):
            grids[file.label] = (own, file)
    require_bands(list(grids), where)
    metadata = _metadata(folder, files, declared, where)
    grid = scene_grid([grids[band][0] for band in BANDS], declared, where)
    by_baseline = baseline_scaling(metadata.processing_baseline, "processing baseline of the name")
    bands = []
    for label in LABELS:
        if label not in grids:
            continue
        own, file = grids[label]
        with open_raster(str(file.path), label) as dataset:
            stated = (dataset.scales[0], dataset.offsets[0]) != (1.0, 0.0)
            band = describe_band(
                label,
                str(file.path),
                1,
                dataset,
                declared,
                metadata,
                None if stated else by_baseline,
            )
        bands.append(fit_band(band, own, grid, declared, file.path.name))
    return SceneSource(where, grid, tuple(bands), metadata)


def _rank(grid: Grid, declared: Declared) -> tuple[float, float]:
    """Return what puts the pixel that is wanted first, then the finer one."""
    size = grid.transform.a
    return abs(size - declared.resolution_m), size


def _metadata(folder: str, files: list[BandFile], declared: Declared, where: str) -> SceneMetadata:
    """Return what folder and file names state; the folder may be named as the product."""
    names = [files[0].path.stem, *(part.name for part in Path(files[0].path).parents)]
    named = next((read for name in names if (read := read_product_name(name))), None)
    time = declared.datetime or files[0].time or (named.datetime if named else "")
    stem = re.sub(r"[_-]$", "", Path(folder).name)
    mission = platform_of(f"{files[0].mission}_") if files[0].mission else ""
    tile = f"_T{files[0].tile}" if files[0].tile else ""
    return SceneMetadata(
        datetime=require_time(time, f"{where}, in the names of its files,"),
        platform=mission or (named.platform if named else ""),
        product_id=named.product_id if named else f"{stem}{tile}",
        processing_baseline=named.processing_baseline if named else "",
    )
