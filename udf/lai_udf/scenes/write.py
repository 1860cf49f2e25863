"""A scene as a multiband GeoTIFF: how simulated scenes leave the simulator.

In: a scene as `lai_udf.scenes.read.read_scene` returns it. Out: one uint16 GeoTIFF that
`read_scene` reads back: band descriptions, scale and offset per band, no data 0, time.
"""

from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
import xarray as xr

from lai_udf.atomic import new_files
from lai_udf.errors import EncodingError, MetadataError
from lai_udf.grid import Grid
from lai_udf.predict import ANGLES

REFLECTANCE_ENCODING = (1e-4, -0.1)
"""Scale and offset of reflectance bands, those of processing baseline 04.00 and later."""

ANGLE_ENCODING = (0.01, -0.01)
"""Scale and offset of angle bands, degrees: number 0 is left for no data."""

SCENE_CLASS_ENCODING = (1.0, 0.0)  # scene classes are numbers, and class 0 is no data already

MAX_DN = 65535


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
    with (
        new_files(path.parent) as work,
        rasterio.open(
            work / path.name,
            "w",
            driver="GTiff",
            height=grid.height,
            width=grid.width,
            count=len(labels),
            dtype="uint16",
            nodata=0,
            crs=grid.crs,
            transform=grid.transform,
            compress="deflate",
            predictor=2,
            tiled=min(grid.shape) >= 256,
            interleave="band",
        ) as dataset,
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
