"""One product to labelled patches on disk: a scene in, a finished part of the pool out.

A part is a folder with an array per field of `datasets.patches.Patches` and, written last,
`record.json`.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lai_training.datasets.config import PrepareConfig, Split
from lai_training.datasets.manifest import ARRAYS, RECORD, ProductRecord
from lai_training.datasets.patches import Histograms, Strip, list_corners, read_strips
from lai_training.datasets.pool import assign_splits
from lai_training.datasets.products import describe_angles
from lai_training.errors import PrepareError
from lai_training.sl2p.processor import Flag
from lai_udf.atomic import disk_errors, move_finished, work_folder
from lai_udf.scenes.labels import SCENE_CLASS_BAND
from lai_udf.scenes.source import SceneSource


@dataclass(frozen=True)
class Identity:
    """What a product is, known before its pixels are read."""

    tile: str
    checksum: str
    split: Split | None
    """Where `select` puts it; None = by the rule of the config."""
    folder: str
    """Its part, in the folder of the pool."""


def write_part(
    source: SceneSource, identity: Identity, config: PrepareConfig, out: Path
) -> ProductRecord:
    """Turn a product into a part of the pool `out`; it exists whole, with its record, or is none.

    Raises:
        PrepareError: no patch has enough data (all cloud, too small), or no label.
        ProductError: the product cannot be read.
        LaiInputError: its values are no surface reflectance.
        OutputNotWritableError: the folder or disk refuses.
    """
    folder, counts = out / identity.folder, ProductCounts()
    with work_folder(folder) as work, disk_errors(folder):
        with ExitStack() as stack:
            raw = {name: work / f"{name}.raw" for name in ARRAYS}
            files = {name: stack.enter_context(raw[name].open("wb")) for name in ARRAYS}
            for strip in read_strips(source, config):
                counts.add(strip)
                for name, file in files.items():
                    file.write(getattr(strip.patches, name).tobytes())
        record = counts.describe(source, identity, config)
        for name, path in raw.items():
            some = getattr(strip.patches, name)
            shape = (sum(record.patches.values()), *some.shape[1:])
            np.save(work / f"{name}.npy", np.memmap(path, some.dtype, "r", shape=shape))
        (work / RECORD).write_text(record.model_dump_json(), encoding="utf-8")
        names = [*(f"{name}.npy" for name in ARRAYS), RECORD]
        move_finished({work / name: folder / name for name in names})
    return record


class ProductCounts:
    """What is counted while a product goes by."""

    def __init__(self) -> None:
        self.histograms = Histograms()
        self.pixels = self.masked = self.missing = self.labelled = 0
        self.flags = dict.fromkeys(Flag, 0)
        self.corners: list[Any] = []

    def add(self, strip: Strip) -> None:
        """Count a strip and the patches that were kept of it."""
        patches = strip.patches
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
        if candidates == 0:
            raise PrepareError(
                f"{source.grid.height} x {source.grid.width} px is smaller than a patch: set "
                f"patch_px below {config.patch_px}"
            )
        if len(corners) == 0:
            raise PrepareError(
                f"none of {candidates} patches has {config.least_valid_share:.0%} of clear data: "
                f"{missing:.0%} of the image is no data, {masked:.0%} of the rest cloud, shadow, "
                f"snow or within {config.mask_buffer_px} px of it"
            )
        if self.labelled == 0:
            raise PrepareError("the label raster has no LAI where the patches have data")
        meta = source.metadata
        splits = assign_splits(
            config.split,
            tile=identity.tile,
            date=meta.datetime[:10],
            product_id=meta.product_id,
            corners=corners,
            prescribed=identity.split,
        )
        names, counts = np.unique(splits, return_counts=True)
        low, high = (self.histograms.percentile(percent).tolist() for percent in (2, 98))
        return ProductRecord(
            product_id=meta.product_id,
            source=source.name,
            tile=identity.tile,
            datetime=meta.datetime,
            platform=meta.platform,
            processing_baseline=meta.processing_baseline,
            checksum=identity.checksum,
            folder=identity.folder,
            grid=str(source.grid),
            angles=describe_angles(source),
            labels="SL2P 2_1" if config.labels is None else "raster",
            candidates=candidates,
            dropped=candidates - len(corners),
            masked_share=round(masked, 4),
            missing_share=round(missing, 4),
            has_scene_classes=SCENE_CLASS_BAND in source.labels,
            percentile_2=tuple(round(value, 4) for value in low),
            percentile_98=tuple(round(value, 4) for value in high),
            flag_shares={str(f.name): round(n / self.labelled, 4) for f, n in self.flags.items()},
            patches=dict(zip(names.tolist(), counts.tolist(), strict=True)),
        )
