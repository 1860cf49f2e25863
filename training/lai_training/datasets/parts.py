"""One product to labelled patches on disk: a scene in, a finished part of the pool out.

A part is a folder with raw arrays (`datasets.patches.Patches`) and, written last, `record.json`.
"""

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lai_training.datasets.config import SPLITS, PrepareConfig, Split
from lai_training.datasets.manifest import (
    ARRAYS,
    MANIFEST,
    Leakage,
    Manifest,
    ProductRecord,
    Range,
    Skipped,
    SplitRecord,
    open_array,
)
from lai_training.datasets.patches import (
    Histograms,
    Patches,
    Strip,
    cut_strip,
    list_corners,
    read_strips,
)
from lai_training.datasets.products import describe_angles
from lai_training.datasets.split import NOTES, assign_splits, measure_leakage
from lai_training.errors import PrepareError
from lai_training.sl2p.processor import Flag
from lai_udf.atomic import disk_errors, move_finished, work_folder
from lai_udf.grid import Grid
from lai_udf.predict import BANDS
from lai_udf.scenes.labels import SCENE_CLASS_BAND
from lai_udf.scenes.source import SceneSource

RECORD = "record.json"


@dataclass(frozen=True)
class Identity:
    """What a product is, known before its pixels are read."""

    tile: str
    date: str
    """Day of acquisition, ISO 8601."""
    checksum: str
    split: Split | None
    """Where `select` puts it; None = by the rule of the config."""


def write_part(
    source: SceneSource, identity: Identity, config: PrepareConfig, folder: Path
) -> ProductRecord:
    """Turn a product into a part of the pool.

    Args:
        source: the opened product.
        identity: its tile, date, checksum and prescribed split.
        config: what becomes of it.
        folder: the part; it exists whole, with its record, or is no part.

    Raises:
        PrepareError: no patch has enough data (all cloud, too small), or no label.
        ProductError: the product cannot be read.
        LaiInputError: its values are no surface reflectance.
        OutputNotWritableError: the folder or disk refuses.
    """
    counts = ProductCounts()
    with work_folder(folder) as work, disk_errors(folder):
        with ExitStack() as stack:
            files = {
                each.name: stack.enter_context((work / f"{each.name}.raw").open("wb"))
                for each in fields(Patches)
            }
            for strip in read_strips(source, config):
                patches = cut_strip(
                    strip.reflectance,
                    strip.cosines,
                    first_row=strip.first_row,
                    patch_px=config.patch_px,
                    least_valid_share=config.least_valid_share,
                    lai=strip.lai,
                )
                counts.add(strip, patches)
                for name, file in files.items():
                    file.write(getattr(patches, name).tobytes())
        record = counts.describe(source, identity, config)
        (work / RECORD).write_text(record.model_dump_json(), encoding="utf-8")
        names = [*(path.name for path in work.glob("*.raw")), RECORD]
        move_finished({work / name: folder / name for name in names})
    return record


class ProductCounts:
    """What is counted while a product goes by."""

    def __init__(self) -> None:
        self.histograms = Histograms()
        self.pixels = self.masked = self.missing = self.labelled = 0
        self.flags = dict.fromkeys(Flag, 0)
        self.corners: list[NDArray[np.int32]] = []

    def add(self, strip: Strip, patches: Patches) -> None:
        """Count a strip and the patches that were kept of it."""
        self.histograms.add(strip.reflectance)
        self.pixels += strip.missing.size
        self.missing += int(strip.missing.sum())
        self.masked += int(strip.masked.sum())
        valid = np.isfinite(patches.lai)
        self.labelled += int(valid.sum())
        for flag in self.flags:
            self.flags[flag] += int((valid & (patches.flags & flag > 0)).sum())
        self.corners.append(patches.corners)

    def describe(
        self, source: SceneSource, identity: Identity, config: PrepareConfig
    ) -> ProductRecord:
        """Return the record of the product; raise `PrepareError` where nothing was kept."""
        corners = np.concatenate(self.corners)
        candidates = len(list(list_corners(*source.grid.shape, config.patch_px)))
        masked = self.masked / max(self.pixels - self.missing, 1)
        missing = self.missing / max(self.pixels, 1)
        if candidates == 0 or len(corners) == 0 or self.labelled == 0:
            raise PrepareError(
                _explain_nothing(source.grid, config, candidates, len(corners), missing, masked)
            )
        meta = source.metadata
        splits = assign_splits(
            config.split,
            tile=identity.tile,
            date=identity.date,
            product_id=meta.product_id,
            corners=corners,
            prescribed=identity.split,
        )
        names, counts = np.unique(splits, return_counts=True)
        low, high = (self.histograms.percentile(percent) for percent in (2, 98))
        return ProductRecord(
            product_id=meta.product_id,
            source=source.name,
            tile=identity.tile,
            datetime=meta.datetime,
            platform=meta.platform,
            processing_baseline=meta.processing_baseline,
            checksum=identity.checksum,
            grid=str(source.grid),
            angles=describe_angles(source),
            labels="SL2P 2_1" if config.labels is None else "raster",
            candidates=candidates,
            dropped=candidates - len(corners),
            masked_share=round(masked, 4),
            missing_share=round(missing, 4),
            has_scene_classes=SCENE_CLASS_BAND in source.labels,
            percentile_2=tuple(round(float(value), 4) for value in low),
            percentile_98=tuple(round(float(value), 4) for value in high),
            flag_shares={
                flag.name or str(flag): round(count / self.labelled, 4)
                for flag, count in self.flags.items()
            },
            patches={str(name): int(count) for name, count in zip(names, counts, strict=True)},
        )


def _explain_nothing(
    grid: Grid, config: PrepareConfig, candidates: int, kept: int, missing: float, masked: float
) -> str:
    """Return why a product gives no labelled patch."""
    if candidates == 0:
        return (
            f"{grid.height} x {grid.width} px is smaller than a patch: set patch_px below "
            f"{config.patch_px}"
        )
    if kept == 0:
        return (
            f"none of {candidates} patches has {config.least_valid_share:.0%} of clear data: "
            f"{missing:.0%} of the image is no data, {masked:.0%} of the rest cloud, shadow, "
            f"snow or within {config.mask_buffer_px} px of it"
        )
    return "the label raster has no LAI where the patches have data"


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
