"""One product to labelled patches on disk: a scene in, a finished part of the pool out.

A part is a folder with raw arrays (`prepare_patches.Patches`) and, written last, `record.json`.
The scene is read in strips of rows, so memory does not grow with it.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import rasterio
import xarray as xr
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.windows import Window

from lai_training.errors import PrepareError
from lai_training.prepare_config import PrepareConfig, Split
from lai_training.prepare_manifest import ProductRecord
from lai_training.prepare_patches import (
    Bools,
    Floats,
    Histograms,
    Patches,
    cut_strip,
    list_corners,
    mask_hidden,
)
from lai_training.prepare_products import describe_angles
from lai_training.prepare_split import assign_splits
from lai_training.sl2p import Flag
from lai_udf.predict import BANDS, read_cosines, refuse_implausible
from lai_udf.products_source import SCENE_CLASS_BAND, SceneSource
from lai_udf.rasters_files import disk_errors, move_finished, work_folder
from lai_udf.rasters_grid import Grid

RECORD = "record.json"
STRIP_ROWS = 1024
"""Rows of 20 m in memory at a time, at most; a whole number of patches."""


@dataclass(frozen=True)
class Identity:
    """What a product is, known before its pixels are read."""

    tile: str
    date: str
    """Day of acquisition, ISO 8601."""
    checksum: str
    split: Split | None
    """Where `select` puts it; None = by the rule of the config."""


@dataclass(frozen=True, eq=False)
class Strip:
    """Some rows of a scene."""

    first_row: int
    reflectance: Floats
    """(10, y, x), NaN where missing or masked."""
    cosines: Floats
    """(3, y, x)."""
    lai: Floats | None
    """(y, x) label that was given; None = SL2P."""
    masked: Bools
    """(y, x) cloud, shadow, snow and their buffer, where there are data."""
    missing: Bools
    """(y, x) no data."""


@dataclass(frozen=True)
class LabelRaster:
    """LAI of a product from elsewhere, such as SNAP."""

    path: Path
    index: int
    """Band of the file, from 1."""

    def read(self, window: Window) -> Floats:
        """Return (y, x) LAI, NaN for no data."""
        try:
            with rasterio.open(self.path) as dataset:
                lai = dataset.read(self.index, window=window, masked=True)
        except RasterioError as error:
            raise PrepareError(f"label raster {self.path} cannot be read ({error})") from error
        return np.asarray(lai.astype(np.float32).filled(np.nan))


def open_label(folder: Path, product_id: str, grid: Grid) -> LabelRaster:
    """Open the label raster of a product: `<product id>.tif`, band `LAI` or the first.

    Raises:
        PrepareError: it is missing or cannot be read.
        GridError: its grid is not that of the product.
    """
    path = folder / f"{product_id}.tif"
    try:
        with rasterio.open(path) as dataset:
            grid.require_same(Grid.of_dataset(dataset), f"label raster {path.name}")
            names = [(text or "").upper() for text in dataset.descriptions]
    except RasterioError as error:
        raise PrepareError(f"label raster {path} cannot be read ({error})") from error
    return LabelRaster(path, names.index("LAI") + 1 if "LAI" in names else 1)


def read_strips(source: SceneSource, config: PrepareConfig) -> Iterator[Strip]:
    """Read a scene strip by strip, masked; strips begin at whole patches.

    Raises:
        ProductError: a file is truncated or gone, or the label raster lies on another grid.
        LaiInputError: the values are no surface reflectance.
    """
    label = None
    if config.labels is not None:
        label = open_label(Path(config.labels), source.metadata.product_id, source.grid)
    height, width = source.grid.shape
    step = max(STRIP_ROWS // config.patch_px, 1) * config.patch_px
    for first in range(0, height, step):
        last = min(first + step, height)
        above = min(config.mask_buffer_px, first)  # clouds beyond the strip reach into it
        below = min(config.mask_buffer_px, height - last)
        window = Window(0, first - above, width, last - first + above + below)
        scene = source.read(window)
        rows = slice(above, above + last - first)
        lai = label.read(Window(0, first, width, last - first)) if label else None
        yield mask_strip(scene, rows, first, lai, config.mask_buffer_px)


def mask_strip(
    scene: xr.DataArray, rows: slice, first_row: int, lai: Floats | None, buffer_px: int
) -> Strip:
    """Mask a piece of a scene, then keep `rows` of it."""
    labels = [str(label) for label in scene["bands"].values]
    values = scene.values
    reflectance = values[[labels.index(band) for band in BANDS]]
    missing = np.isnan(reflectance).any(axis=0)
    masked = np.zeros_like(missing)
    if SCENE_CLASS_BAND in labels:
        scene_class = np.nan_to_num(values[labels.index(SCENE_CLASS_BAND)])
        missing |= scene_class == 0
        masked = mask_hidden(scene_class, buffer_px) & ~missing
    reflectance[:, missing | masked] = np.nan
    cosines = np.broadcast_to(read_cosines(values, labels), (3, *missing.shape))
    reflectance, cosines = reflectance[:, rows], cosines[:, rows]
    refuse_implausible(reflectance)
    return Strip(first_row, reflectance, cosines, lai, masked[rows], missing[rows])


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
    tally = Tally()
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
                tally.add(strip, patches)
                for name, file in files.items():
                    file.write(getattr(patches, name).tobytes())
        record = tally.describe(source, identity, config)
        (work / RECORD).write_text(record.model_dump_json(), encoding="utf-8")
        names = [*(path.name for path in work.glob("*.raw")), RECORD]
        move_finished({work / name: folder / name for name in names})
    return record


class Tally:
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
        height, width = source.grid.shape
        candidates = len(list(list_corners(height, width, config.patch_px)))
        masked = self.masked / max(self.pixels - self.missing, 1)
        missing = self.missing / max(self.pixels, 1)
        if candidates == 0:
            raise PrepareError(
                f"{height} x {width} px is smaller than a patch: set patch_px below "
                f"{config.patch_px}"
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
