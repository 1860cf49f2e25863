"""From parts to a pool: the patches of all products, split by split, and the manifest.

Parts are products fresh from `datasets.product`, or rows of the pool that was there before. The
new files lie in folders of a new name until the manifest, in one move, names them; then the old
ones go.
"""

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lai_training.datasets.config import SPLITS, PrepareConfig
from lai_training.datasets.manifest import (
    ARRAYS,
    MANIFEST,
    Leakage,
    Manifest,
    ProductRecord,
    Range,
    Skipped,
    SplitRecord,
)
from lai_training.datasets.pool import open_array
from lai_training.datasets.product import RECORD
from lai_training.datasets.split import NOTES, assign_splits, measure_leakage
from lai_udf.atomic import disk_errors, move_finished, work_folder
from lai_udf.predict import BANDS

Array = NDArray[Any]
COPIED_TOGETHER = 64
"""Patches in memory at a time."""


@dataclass(frozen=True, eq=False)
class Part:
    """One product: its record, and where its patches lie on disk."""

    record: ProductRecord
    arrays: Mapping[str, Mapping[str, Array]]
    """By split and name."""
    rows: Mapping[str, NDArray[np.int64]]
    """By split: which rows of those arrays are the product's."""


def array_layout(name: str, patch_px: int) -> tuple[str, tuple[int, ...]]:
    """Return dtype and shape of one patch in an array of the pool."""
    side = (patch_px, patch_px)
    return {
        "reflectance": ("float16", (len(BANDS), *side)),
        "lai": ("float16", side),
        "flags": ("uint8", side),
        "cosines": ("float32", (3,)),
        "corners": ("int32", (2,)),
    }[name]


def read_part(folder: Path, config: PrepareConfig) -> Part | None:
    """Open a part that `write_part` finished; None where there is none.

    The split that each patch belongs to follows from its names, as when the part was written.
    """
    try:
        record = ProductRecord.model_validate_json((folder / RECORD).read_bytes())
    except (OSError, ValueError):
        return None
    count = sum(record.patches.values())
    arrays: dict[str, Array] = {}
    for name in ARRAYS:
        dtype, shape = array_layout(name, config.patch_px)
        arrays[name] = np.memmap(folder / f"{name}.raw", dtype, "r", shape=(count, *shape))
    prescribed = next(iter(record.patches)) if len(record.patches) == 1 else None
    splits = assign_splits(
        config.split,
        tile=record.tile,
        date=record.date,
        product_id=record.product_id,
        corners=arrays["corners"],
        prescribed=prescribed,
    )
    rows = {split: np.flatnonzero(splits == split) for split in record.patches}
    return Part(record, dict.fromkeys(record.patches, arrays), rows)


def list_old_parts(out: Path, manifest: Manifest | None) -> dict[str, Part]:
    """Return, by checksum, the products of the pool that is already there."""
    if manifest is None:
        return {}
    opened = {
        split: {name: open_array(out, manifest, split, name) for name in ARRAYS}
        for split, record in manifest.splits.items()
        if record.patches
    }
    rows = {split: manifest.rows(split) for split in opened}
    return {
        record.checksum: Part(
            record,
            opened,
            {split: np.r_[rows[split][record.checksum]] for split in record.patches},
        )
        for record in manifest.products
    }


def assemble(
    parts: Sequence[Part],
    skipped: Sequence[Skipped],
    config: PrepareConfig,
    out: Path,
    *,
    unselected: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Manifest:
    """Write the pool: a folder of arrays per split, then the manifest, then drop what was before.

    Args:
        parts: the products, in the order of their rows.
        skipped: products that gave nothing.
        config: what they were made by.
        out: folder of the pool.
        unselected: products that `select` left out.
        progress: called with (patches copied, all).

    Raises:
        OutputNotWritableError: the folder or disk refuses; what was there before stays.
    """
    manifest = describe_pool([part.record for part in parts], skipped, config, unselected)
    leakage = _leakage(parts, config)
    manifest = manifest.model_copy(update={"leakage": leakage})
    total = sum(record.patches for record in manifest.splits.values())
    done = 0
    with work_folder(out) as work, disk_errors(out):
        files: dict[Path, Path] = {}
        for split, record in manifest.splits.items():
            if record.patches == 0:
                continue
            (out / record.folder).mkdir(exist_ok=True)
            for name in ARRAYS:
                unfinished = work / f"{split}-{name}.npy"
                _copy(parts, split, name, unfinished, record.patches, config.patch_px)
                files[unfinished] = out / record.folder / f"{name}.npy"
            done += record.patches
            if progress:
                progress(done, total)
        (work / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
        move_finished(files)
        move_finished({work / MANIFEST: out / MANIFEST})
    _remove_others(out, manifest)
    return manifest


def _copy(
    parts: Sequence[Part], split: str, name: str, path: Path, count: int, patch_px: int
) -> None:
    """Copy one array of a split from all parts, some patches at a time."""
    dtype, shape = array_layout(name, patch_px)
    target = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=(count, *shape))
    start = 0
    for part in parts:
        rows = part.rows.get(split, np.empty(0, np.int64))
        for first in range(0, len(rows), COPIED_TOGETHER):
            some = rows[first : first + COPIED_TOGETHER]
            target[start : start + len(some)] = part.arrays[split][name][some]
            start += len(some)
    target.flush()


def describe_pool(
    records: Sequence[ProductRecord],
    skipped: Sequence[Skipped],
    config: PrepareConfig,
    unselected: int,
) -> Manifest:
    """Return the manifest of products and settings; its leakage is not measured yet."""
    content = config.digest() + "".join(record.checksum for record in records)
    name = hashlib.sha256(content.encode()).hexdigest()[:8]
    splits = {
        split: SplitRecord(
            patches=sum(record.patches.get(split, 0) for record in records),
            products=sum(split in record.patches for record in records),
            folder=f"{split}-{name}",
        )
        for split in SPLITS
    }
    kept = sum(split.patches for split in splits.values())
    return Manifest(
        settings=config.settings(),
        settings_digest=config.digest(),
        versions={package: version(package) for package in ("numpy", "rasterio", "sentinel2-lai")},
        bands=BANDS,
        patch_px=config.patch_px,
        splits=splits,
        normalisation=measure_limits(records),
        leakage=Leakage(touching=0, same_place=0, note=NOTES[config.split.by]),
        counts={
            "products": len(records),
            "products_skipped": len(skipped),
            "products_not_selected": unselected,
            "patches_that_fit": sum(record.candidates for record in records),
            "patches_dropped": sum(record.dropped for record in records),
            "patches": kept,
        },
        products=tuple(records),
        skipped=tuple(skipped),
    )


def measure_limits(records: Sequence[ProductRecord]) -> Range:
    """Return the constants of eq. 1 over images with training patches, or over all for lack."""
    trained = [record for record in records if "train" in record.patches] or list(records)
    lowest = np.nanmin([record.percentile_2 for record in trained], axis=0)
    highest = np.nanmax([record.percentile_98 for record in trained], axis=0)
    return Range(
        bands=BANDS,
        lowest=tuple(round(float(value), 4) for value in lowest),
        highest=tuple(round(float(value), 4) for value in highest),
    )


def _leakage(parts: Sequence[Part], config: PrepareConfig) -> Leakage:
    places = [
        (
            part.record.grid,
            {split: part.arrays[split]["corners"][rows] for split, rows in part.rows.items()},
        )
        for part in parts
    ]
    return measure_leakage(places, config.patch_px, NOTES[config.split.by])


def _remove_others(out: Path, manifest: Manifest) -> None:
    """Remove parts, what a killed run left, and splits that the manifest does not name."""
    named = {record.folder for record in manifest.splits.values()}
    for folder in out.iterdir():
        is_split = folder.name.partition("-")[0] in SPLITS and folder.name not in named
        if folder.is_dir() and (is_split or folder.name.startswith((".parts-", ".lai-"))):
            shutil.rmtree(folder, ignore_errors=True)
