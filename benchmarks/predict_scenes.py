"""Scenes made on the fly for the benchmark of prediction: fields with edges, noise and holes.

Digital numbers with scale 0.0001 and offset -0.1, as processing baseline 04.00 has them. A scene
is written strip by strip, so that making it needs little memory.
"""

import json
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.warp import transform_bounds

from lai_udf.predict import BANDS

# Surface reflectance of bare soil and dense vegetation, rounded from Sentinel-2 L2A imagery.
SOIL = (0.07, 0.10, 0.14, 0.17, 0.19, 0.21, 0.22, 0.24, 0.32, 0.26)
VEGETATION = (0.02, 0.045, 0.025, 0.08, 0.25, 0.34, 0.36, 0.38, 0.18, 0.08)
FIELD_PX = 24
STRIP_ROWS = 512
CORNER = (600_000.0, 5_700_000.0)
TRANSFORM = Affine(20, 0, CORNER[0], 0, -20, CORNER[1])
PROFILE = {
    "driver": "GTiff",
    "dtype": "uint16",
    "nodata": 0,
    "crs": "EPSG:32631",
    "transform": TRANSFORM,
    "tiled": True,
    "blockxsize": STRIP_ROWS,
    "blockysize": STRIP_ROWS,
    "compress": "deflate",
    "predictor": 2,
    "zlevel": 1,
    "num_threads": "ALL_CPUS",
    "interleave": "band",
}


def make_strip(rows: int, columns: int, seed: int) -> NDArray[np.uint16]:
    """Return digital numbers, (bands, rows, columns): fields of mixed cover, 2 % noise, a hole."""
    rng = np.random.default_rng(seed)
    shape = (rows // FIELD_PX + 1, columns // FIELD_PX + 1)
    cover = rng.random(shape, dtype="float32").repeat(FIELD_PX, 0).repeat(FIELD_PX, 1)
    cover = cover[:rows, :columns]
    strip = np.empty((len(BANDS), rows, columns), dtype="uint16")
    for band, soil, leaves in zip(strip, SOIL, VEGETATION, strict=True):
        value = soil + cover * np.float32(leaves - soil)
        value *= 1 + 0.02 * rng.standard_normal(value.shape, dtype="float32")
        band[:] = value * 10_000 + 1000
    strip[:, rows // 3 : rows // 3 + 9, columns // 2 : columns // 2 + 40] = 0
    return strip


def make_cube(side: int, seed: int = 0) -> NDArray[np.float32]:
    """Return reflectance of a scene in memory, (bands, y, x), NaN = no data."""
    cube = np.empty((len(BANDS), side, side), dtype="float32")
    for number, top in enumerate(range(0, side, STRIP_ROWS)):
        strip = make_strip(min(STRIP_ROWS, side - top), side, seed + number)
        part = cube[:, top : top + strip.shape[1]]
        part[:] = strip
        part[strip == 0] = np.nan
    cube *= 1e-4
    cube -= 0.1
    return cube


def write_scene(path: Path, side: int, seed: int = 0) -> Path:
    """Write a scene as one multiband GeoTIFF."""
    profile = PROFILE | {"width": side, "height": side, "count": len(BANDS), "bigtiff": "IF_SAFER"}
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.descriptions = BANDS
        dataset.scales, dataset.offsets = (1e-4,) * len(BANDS), (-0.1,) * len(BANDS)
        dataset.update_tags(TIFFTAG_DATETIME="2024:06:01 10:36:29")
        for number, top in enumerate(range(0, side, STRIP_ROWS)):
            strip = make_strip(min(STRIP_ROWS, side - top), side, seed + number)
            window = rasterio.windows.Window(0, top, side, strip.shape[1])
            dataset.write(strip, window=window)
    return path


def write_item(folder: Path, side: int, seed: int = 0) -> Path:
    """Write a scene as a STAC Item and a file for each of its ten bands."""
    folder.mkdir(parents=True, exist_ok=True)
    profile = PROFILE | {"width": side, "height": side, "count": 1}
    files = {band: rasterio.open(folder / f"{band}.tif", "w", **profile) for band in BANDS}
    for number, top in enumerate(range(0, side, STRIP_ROWS)):
        strip = make_strip(min(STRIP_ROWS, side - top), side, seed + number)
        window = rasterio.windows.Window(0, top, side, strip.shape[1])
        for dataset, values in zip(files.values(), strip, strict=True):
            dataset.write(values, 1, window=window)
    for dataset in files.values():
        dataset.close()
    west, north = CORNER
    box = transform_bounds(
        PROFILE["crs"], "EPSG:4326", west, north - 20 * side, west + 20 * side, north
    )
    item = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": "benchmark",
        "bbox": list(box),
        "geometry": None,
        "properties": {"datetime": "2024-06-01T10:36:29Z"},
        "links": [],
        "assets": {
            band: {
                "href": f"./{band}.tif",
                "bands": [{"name": band}],
                "raster:scale": 1e-4,
                "raster:offset": -0.1,
                "nodata": 0,
            }
            for band in BANDS
        },
    }
    (folder / "item.json").write_text(json.dumps(item))
    return folder / "item.json"
