"""Describe a multiband raster whose band descriptions name the Sentinel-2 bands: GeoTIFF, VRT.

In: a path or href; band descriptions `B02` … `B12` or common names, optionally `SCL` and angle
bands, or their order from the caller; GDAL scale, offset, no data and mask band; the time in a tag
or in the file name. Out: a `SceneSource`. `write_scene_geotiff` is the way back, from a scene as
`lai_udf.read_scene` returns it, such as a simulated one.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
import rasterio
import xarray as xr
from rasterio.io import DatasetReader

from lai_udf.atomic import new_files
from lai_udf.errors import EncodingError, Faults, MetadataError
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

REFLECTANCE_ENCODING = (1e-4, -0.1)
"""Scale and offset of reflectance bands, those of processing baseline 04.00 and later."""
ANGLE_ENCODING = (0.01, -0.01)
"""Scale and offset of angle bands, degrees: number 0 is left for no data."""
SCENE_CLASS_ENCODING = (1.0, 0.0)  # scene classes are numbers, and class 0 is no data already
MAX_DN = 65535

OPENEO_NAME = re.compile(r"_(\d{4}-\d{2}-\d{2})Z$")
"""End of the names of results of openEO, whose dates are midnights."""


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
        grid = Grid.of_dataset(dataset)
        with faults.collect():
            require_bands(list(indices), href)
        with faults.collect():
            metadata = _metadata(href, dataset.tags(), declared)
        with faults.collect():
            scene_grid(grid, declared, href)
        with faults.collect():
            for label in (label for label in LABELS if label in indices):
                number = indices[label] + 1
                band = describe_band(label, href, number, dataset, declared, metadata)
                bands.append((band, grid))
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
    found_in = f"tags of {PurePosixPath(path).name}"
    scaling = Scaling(scale, offset, True, found_in, dtype.kind != "f")
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
        label, path, index, scaling, tuple(numbers), has_mask=holds_mask(dataset, index)
    )


def _metadata(href: str, tags: Mapping[str, str], declared: Declared) -> SceneMetadata:
    """Collect time, platform, product and baseline from the tags, then from names."""
    lower = {key.lower(): value for key, value in tags.items()}
    product = lower.get("product_id") or lower.get("product") or ""
    stem = re.sub(r"\.(tiff?|vrt)$", "", PurePosixPath(href).name, flags=re.IGNORECASE)
    openeo = OPENEO_NAME.search(stem)
    if LEVEL_1C_NAME.search(product or stem):
        raise level_1c_error(href)
    return complete_metadata(
        [product, stem],
        f"{href}, in its tags DATETIME and TIFFTAG_DATETIME and in its name,",
        time=declared.datetime
        or lower.get("datetime")
        or lower.get("tifftag_datetime")
        or (f"{openeo[1]}T00:00:00Z" if openeo else None),
        platform=lower.get("platform") or platform_of(product or stem),
        product_id=product or ("" if read_product_name(stem) else stem),
        baseline=lower.get("processing_baseline"),
    )


def write_scene_geotiff(scene: xr.DataArray, path: Path) -> Path:
    """Write a scene as a uint16 GeoTIFF with described bands; return its path.

    Reflectance is rounded to 0.0001, angles to 0.01 degrees; reflectance below -0.0999 is set to
    it, since number 0 means no data.

    Args:
        scene: dims (bands, y, x), NaN = no data, with coordinates, CRS and the attribute
            `datetime`; `platform`, `product_id` and `processing_baseline` are kept too.
        path: the file; its folder is made if missing, an existing file is replaced.

    Raises:
        EncodingError: values that uint16 cannot hold (digital numbers instead of reflectance?).
        MetadataError: no time in the attributes.
        GridError: no CRS or no coordinates.
    """
    grid = Grid.of_data_array(scene, "the scene")
    if "datetime" not in scene.attrs:
        raise MetadataError("the scene has no attribute datetime: set it, ISO 8601")
    time = datetime.fromisoformat(str(scene.attrs["datetime"]))
    labels = [str(label) for label in scene.coords["bands"].values]
    encodings = [_encoding(label) for label in labels]
    planes = [
        _to_dn(scene.sel(bands=label).transpose("y", "x").values, label, *encoding)
        for label, encoding in zip(labels, encodings, strict=True)
    ]
    stored = {"count": len(labels), "dtype": "uint16", "nodata": 0, "interleave": "band"}
    stored |= {"compress": "deflate", "predictor": 2, "tiled": min(grid.shape) >= 256}
    with (
        new_files(path.parent) as work,
        rasterio.open(work / path.name, "w", driver="GTiff", **grid.profile, **stored) as dataset,
    ):
        dataset.write(np.stack(planes))
        dataset.descriptions = tuple(labels)
        dataset.scales = tuple(scale for scale, _ in encodings)
        dataset.offsets = tuple(offset for _, offset in encodings)
        kept = ("platform", "product_id", "processing_baseline")
        dataset.update_tags(
            TIFFTAG_DATETIME=time.strftime("%Y:%m:%d %H:%M:%S"),
            DATETIME=scene.attrs["datetime"],
            **{key.upper(): scene.attrs[key] for key in kept if scene.attrs.get(key)},
        )
    return path


def _encoding(label: str) -> tuple[float, float]:
    if label in ANGLES:
        return ANGLE_ENCODING
    return SCENE_CLASS_ENCODING if label == "SCL" else REFLECTANCE_ENCODING


def _to_dn(
    values: npt.NDArray[np.float32], label: str, scale: float, offset: float
) -> npt.NDArray[np.uint16]:
    """Round to digital numbers; NaN becomes 0, and no other reflectance or angle does."""
    numbers = np.rint((values - np.float32(offset)) / np.float32(scale))
    if label != "SCL":
        numbers = np.maximum(numbers, 1)
    if np.nanmax(numbers, initial=0) > MAX_DN:
        raise EncodingError(
            f"{label} holds {float(np.nanmax(values)):g}, above {MAX_DN * scale + offset:g}: "
            "a scene holds reflectance and degrees, not digital numbers"
        )
    return np.where(np.isnan(numbers), 0, numbers).astype(np.uint16)
