"""Describe a multiband raster whose band descriptions name the Sentinel-2 bands: GeoTIFF, VRT.

In: a path or href; band descriptions `B02` … `B12` or common names, optionally `SCL` and angle
bands, or their order from the caller; GDAL scale, offset, no data and mask band; the time in a tag
or in the file name. Out: a `SceneSource`.
"""

import re
from collections.abc import Mapping
from pathlib import PurePosixPath

import numpy as np
from rasterio.io import DatasetReader

from lai_udf.errors import Faults
from lai_udf.grid import Grid
from lai_udf.predict import ANGLES, BANDS
from lai_udf.scenes.bands import BandSource, holds_mask, open_raster
from lai_udf.scenes.labels import LABELS, SCENE_CLASS_BAND, label_once, names_in_order
from lai_udf.scenes.metadata import (
    LEVEL_1C_NAME,
    Declared,
    Scaling,
    SceneMetadata,
    choose_scaling,
    complete_metadata,
    level_1c_error,
    no_data_numbers,
    platform_of,
    read_product_name,
)
from lai_udf.scenes.source import LOG, SceneSource, require_bands, scene_grid


def describe_geotiff(href: str, declared: Declared) -> SceneSource:
    """Describe a multiband GeoTIFF or VRT, by path or href.

    Raises:
        ProductError: it cannot be opened, lacks a band, time, scale or the right grid.
    """
    faults = Faults()
    metadata = SceneMetadata("")
    bands = []
    with open_raster(href, "scene") as dataset:
        named = names_in_order(declared.bands, dataset.count, href) or dataset.descriptions
        indices = label_once(named, href)
        own = Grid.of_dataset(dataset)
        with faults.collect():
            require_bands(list(indices), href)
        with faults.collect():
            metadata = _metadata(href, dataset.tags(), declared)
        with faults.collect():
            scene_grid(own, declared, href)
        with faults.collect():
            for label in (label for label in LABELS if label in indices):
                number = indices[label] + 1
                band = describe_band(label, href, number, dataset, declared, metadata)
                bands.append((band, own))
    faults.settle()
    source = SceneSource.of_files(href, bands, metadata, declared)
    if not source.offset_is_known:
        LOG.warning("%s: no reflectance offset is stated; 0 is taken", href)
    return source


def describe_band(
    label: str,
    path: str,
    index: int,
    dataset: DatasetReader,
    declared: Declared,
    metadata: SceneMetadata,
    found: Scaling | None = None,
) -> BandSource:
    """Describe one band of an open raster by its own scale, offset, no-data value and mask.

    `found` is the scaling stated elsewhere (by a catalogue), before the file's.

    Raises:
        UndeclaredScaleError: integer reflectance without a stated scale.
    """
    dtype = np.dtype(dataset.dtypes[index - 1])
    nodata = dataset.nodatavals[index - 1]
    numbers = [] if nodata is None else [float(nodata)]
    scale, offset = dataset.scales[index - 1], dataset.offsets[index - 1]
    scaling = Scaling(scale, offset, True, f"tags of {PurePosixPath(path).name}")
    if label in BANDS:
        is_stated, is_float = (scale, offset) != (1.0, 0.0), dtype.kind == "f"
        if is_float or found is None:
            found = scaling if is_stated else None
        scaling = choose_scaling(
            found, declared, dtype, f"{label} of {path}", time=metadata.datetime
        )
        numbers = no_data_numbers(numbers, dtype, scaling.scale)
    elif label == SCENE_CLASS_BAND:
        scaling = Scaling(found="classes")
    elif nodata is None and dtype.kind != "f" and label not in ANGLES:
        numbers = [0.0]
    return BandSource(
        label,
        path,
        index,
        scaling,
        tuple(numbers),
        has_mask=holds_mask(dataset, index),
    )


def _metadata(href: str, tags: Mapping[str, str], declared: Declared) -> SceneMetadata:
    """Collect time, platform, product and baseline from the tags, then from names."""
    lower = {key.lower(): value for key, value in tags.items()}
    product = lower.get("product_id") or lower.get("product") or ""
    stem = re.sub(r"\.(tiff?|vrt)$", "", PurePosixPath(href).name, flags=re.IGNORECASE)
    if LEVEL_1C_NAME.search(product or stem):
        raise level_1c_error(href)
    return complete_metadata(
        [product, stem],
        f"{href}, in its tags DATETIME and TIFFTAG_DATETIME and in its name,",
        time=declared.datetime or lower.get("datetime") or lower.get("tifftag_datetime"),
        platform=lower.get("platform") or platform_of(product or stem),
        product_id=product or ("" if read_product_name(stem) else stem),
        baseline=lower.get("processing_baseline"),
    )
