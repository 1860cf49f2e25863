"""One product to labelled patches on disk: a scene in, a finished part of the pool out.

A part is a folder with raw arrays (`datasets.patches.Patches`) and, written last, `record.json`.
"""

from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lai_training.datasets.config import PrepareConfig, Split
from lai_training.datasets.manifest import ProductRecord
from lai_training.datasets.patches import Histograms, Patches, cut_strip, list_corners
from lai_training.datasets.products import describe_angles
from lai_training.datasets.split import assign_splits
from lai_training.datasets.strips import Strip, read_strips
from lai_training.errors import PrepareError
from lai_training.sl2p.processor import Flag
from lai_udf.atomic import disk_errors, move_finished, work_folder
from lai_udf.grid import Grid
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
