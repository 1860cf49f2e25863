"""Small LAI results for the benchmarks of the service: a STAC item and its COGs in one folder."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.io import MemoryFile
from rasterio.transform import from_origin
from rasterio.warp import transform_bounds

from lai_udf.cog import BLOCK_PX

KEYS = ("lai", "lai_sd", "lai_lower", "lai_upper", "lai_flags")
"""Asset keys of the product contract."""
CRS = "EPSG:32632"
ORIGIN = (600_000.0, 5_300_000.0)
"""Upper left corner of every result, metres."""
PIXEL_M = 20.0

Layer = Callable[[str], NDArray[np.int16]]
"""Returns the stored values of one band, shape (y, x)."""


def cog(values: NDArray[np.int16], key: str, block_px: int = BLOCK_PX) -> bytes:
    """Return a band as a COG of the product contract, in the layout of `lai-udf run`.

    Args:
        values: stored values, shape (y, x): LAI in thousandths with -32768 as no data, or flags.
        key: asset key of the band.
        block_px: edge of its tiles.
    """
    height, width = values.shape
    profile = {
        "driver": "GTiff",
        "width": width,
        "height": height,
        "count": 1,
        "dtype": "uint8" if key == "lai_flags" else "int16",
        "crs": CRS,
        "transform": from_origin(*ORIGIN, PIXEL_M, PIXEL_M),
        "nodata": None if key == "lai_flags" else -32768,
    }
    with MemoryFile() as memory, MemoryFile() as target:
        with memory.open(**profile) as raster:
            raster.write(values.astype(profile["dtype"]), 1)
            raster.scales = (1.0 if key == "lai_flags" else 0.001,)
        with memory.open() as raster:
            layout = {"compress": "DEFLATE", "predictor": "YES", "blocksize": block_px}
            rasterio.shutil.copy(raster, target.name, driver="COG", **layout)
        return bytes(target.read())


@cache
def flat_cog(key: str, value: int, size: int = 32) -> bytes:
    """Return a COG of `size` x `size` pixels that all hold one stored value."""
    return cog(np.full((size, size), value, np.int16), key)


def footprint(size: int) -> tuple[list[float], dict[str, Any]]:
    """Return box and outline of a result of `size` x `size` pixels, in degrees."""
    x, y = ORIGIN
    edge = size * PIXEL_M
    west, south, east, north = transform_bounds(CRS, "EPSG:4326", x, y - edge, x + edge, y)
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return [west, south, east, north], {"type": "Polygon", "coordinates": [ring]}


def item_of(item_id: str, when: str, size: int, **properties: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return the item of a result, its assets beside it."""
    bbox, geometry = footprint(size)
    media = "image/tiff; application=geotiff; profile=cloud-optimized"
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": item_id,
        "bbox": bbox,
        "geometry": geometry,
        "properties": {"datetime": when, "proj:code": CRS, **properties},
        "links": [],
        "assets": {key: {"href": f"./{key}.tif", "type": media, "roles": ["data"]} for key in KEYS},
    }


def write_result(folder: Path, item: dict[str, Any], rasters: dict[str, bytes]) -> Path:
    """Write a result as `lai-udf run` leaves it, over the one that is there."""
    folder.mkdir(parents=True, exist_ok=True)
    for key, content in rasters.items():
        (folder / f"{key}.tif").write_bytes(content)
    (folder / f"{item['id']}.json").write_text(json.dumps(item), encoding="utf-8")
    return folder
