"""Tiny items: 64 x 64 px COGs at 20 m in UTM zone 32, one per band."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import rasterio.shutil
from fastapi.testclient import TestClient
from rasterio.io import MemoryFile
from rasterio.transform import from_origin
from rasterio.warp import transform, transform_bounds

from lai_service import Settings

TOKEN = "correct-horse-battery"
SIZE = 64
ORIGIN = (600_000.0, 5_300_000.0)  # upper left corner, EPSG:32632


KEYS = ("lai", "lai_sd", "lai_lower", "lai_upper", "lai_flags")


def layer(key: str, offset: float) -> np.ndarray:
    """Return one band as stored: LAI 1.00, 1.05, ... from west to east, no data in one corner."""
    lai = np.broadcast_to(1.0 + offset + np.arange(SIZE) * 0.05, (SIZE, SIZE))
    stored = np.round(lai * 1000).astype("int16")
    values = {
        "lai": stored,
        "lai_sd": np.full_like(stored, 100),
        "lai_lower": stored - 500,
        "lai_upper": stored + 500,
        "lai_flags": np.zeros_like(stored),
    }[key]
    values[:8, :8] = 64 if key == "lai_flags" else -32768
    if key == "lai_flags":
        values[-8:, -8:] = 32
    return values.astype("uint8" if key == "lai_flags" else "int16")


@cache
def cog_bytes(key: str, offset: float) -> bytes:
    """Return the COG of one band as the product contract has it."""
    values = layer(key, offset)
    profile = {
        "driver": "GTiff",
        "width": SIZE,
        "height": SIZE,
        "count": 1,
        "dtype": values.dtype,
        "crs": "EPSG:32632",
        "transform": from_origin(*ORIGIN, 20, 20),
        "nodata": None if key == "lai_flags" else -32768,
    }
    with MemoryFile() as memory, MemoryFile() as target:
        with memory.open(**profile) as raster:
            raster.write(values, 1)
            raster.scales = (1.0 if key == "lai_flags" else 0.001,)
        with memory.open() as raster:
            rasterio.shutil.copy(raster, target.name, driver="COG", compress="DEFLATE")
        return target.read()


def footprint() -> tuple[list[float], dict[str, Any]]:
    """Return bbox and geometry of the tiny scene, slightly inside its raster, in degrees."""
    x, y = ORIGIN
    west, south, east, north = transform_bounds(
        "EPSG:32632", "EPSG:4326", x, y - SIZE * 20, x + SIZE * 20, y
    )
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return [west, south, east, north], {"type": "Polygon", "coordinates": [ring]}


def stac_item(item_id: str, when: str, **properties: Any) -> dict[str, Any]:
    """Return a plain STAC item without assets."""
    bbox, geometry = footprint()
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": item_id,
        "bbox": bbox,
        "geometry": geometry,
        "properties": {"datetime": when, **properties},
        "links": [],
        "assets": {},
    }


def collection(collection_id: str = "lai") -> dict[str, Any]:
    return {
        "type": "Collection",
        "stac_version": "1.1.0",
        "id": collection_id,
        "description": "a collection for tests",
        "license": "other",
        "extent": {
            "spatial": {"bbox": [[-180, -90, 180, 90]]},
            "temporal": {"interval": [["2020-01-01T00:00:00Z", None]]},
        },
        "links": [],
    }


def numbered_item(number: int, **properties: Any) -> dict[str, Any]:
    """Return item `number`: one degree square at longitude `number`, on day `number + 1`."""
    made = stac_item(f"item-{number:03d}", f"2024-06-{number % 28 + 1:02d}T10:00:00Z", **properties)
    ring = [[number, 0], [number + 0.9, 0], [number + 0.9, 1], [number, 1], [number, 0]]
    made["geometry"] = {"type": "Polygon", "coordinates": [ring]}
    made["bbox"] = [number, 0, number + 0.9, 1]
    return made


def ids(answer: Any) -> list[str]:
    """Return the ids of the items of an answer, which must be one."""
    assert answer.status_code == 200, answer.text
    return [feature["id"] for feature in answer.json()["features"]]


def edit_item(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the item of a result folder in place."""
    path = folder / f"{folder.name}.json"
    item = json.loads(path.read_text(encoding="utf-8"))
    change(item)
    path.write_text(json.dumps(item), encoding="utf-8")


def publish(client: TestClient, folder: Path) -> Any:  # the response of whatever httpx it is
    """Publish a result folder."""
    return client.post("/publish", json={"directory": str(folder)})


def stored_files(settings: Settings) -> list[Path]:
    """Return every file of the data root's collection `lai`."""
    return sorted(p for p in settings.data.glob("lai/**/*") if p.is_file())


def lonlat(x_px: float, y_px: float) -> tuple[float, float]:
    """Return longitude and latitude of a place in pixels from the upper left corner."""
    x, y = ORIGIN[0] + x_px * 20, ORIGIN[1] - y_px * 20
    (lon,), (lat,) = transform("EPSG:32632", "EPSG:4326", [x], [y])
    return lon, lat


def parcel(x0: float, y0: float, x1: float, y1: float) -> dict:
    """Return a rectangle in pixels as GeoJSON in degrees."""
    corners = [(x0, y1), (x1, y1), (x1, y0), (x0, y0), (x0, y1)]
    return {"type": "Polygon", "coordinates": [[lonlat(*corner) for corner in corners]]}
