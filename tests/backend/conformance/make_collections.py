"""Write the collections that the public openEO test suite asks for, filled with random numbers.

    python tests/backend/conformance/make_collections.py FOLDER

`SENTINEL2_L2A`: B02 B03 B04 B08 at 10 m over the suite's box near Bolzano, June 2022.
`CGLS_SSM_1KM`: B01 over its box near Vienna, 2020.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin
from rasterio.warp import transform_bounds


@dataclass(frozen=True)
class Made:
    """A collection to make."""

    name: str
    bands: tuple[str, ...]
    dates: tuple[str, ...]
    crs: str
    corner: tuple[float, float]
    """West and north edge, in units of the CRS."""
    step: float
    """Pixel size, in units of the CRS."""
    shape: tuple[int, int]
    """Rows and columns."""


COLLECTIONS = (
    Made(
        name="SENTINEL2_L2A",
        bands=("B02", "B03", "B04", "B08"),
        dates=("2022-06-01", "2022-06-06", "2022-06-13", "2022-06-21", "2022-06-28"),
        crs="EPSG:32632",
        corner=(679_000.0, 5_152_600.0),
        step=10.0,
        shape=(220, 240),
    ),
    Made(
        name="CGLS_SSM_1KM",
        bands=("B01",),
        dates=("2020-01-05", "2020-07-05"),
        crs="EPSG:4326",
        corner=(16.0, 48.5),
        step=0.01,
        shape=(60, 80),
    ),
)


def write(made: Made, folder: Path) -> None:
    """Write one collection below a folder."""
    rng = np.random.default_rng(1)
    (west, north), (rows, columns) = made.corner, made.shape
    south, east = north - rows * made.step, west + columns * made.step
    box = list(transform_bounds(made.crs, 4326, west, south, east, north, densify_pts=21))
    home = folder / made.name
    for date in made.dates:
        (home / date).mkdir(parents=True)
        assets = {}
        for band in made.bands:
            path = home / date / f"{band}.tif"
            profile = {"driver": "GTiff", "dtype": "uint16", "count": 1, "nodata": 0}
            grid = {"height": rows, "width": columns, "crs": made.crs}
            origin = from_origin(west, north, made.step, made.step)
            with rasterio.open(path, "w", **profile, **grid, transform=origin) as dataset:
                dataset.write(rng.integers(1, 10_000, (1, rows, columns)).astype("uint16"))
            described = [{"name": band, "nodata": 0, "data_type": "uint16"}]
            assets[band] = {"href": f"./{path.name}", "type": "image/tiff", "bands": described}
        item = {
            "type": "Feature",
            "stac_version": "1.1.0",
            "id": f"{made.name}-{date}",
            "collection": made.name,
            "geometry": _ring(box),
            "bbox": box,
            "properties": {"datetime": f"{date}T10:20:30Z"},
            "links": [],
            "assets": assets,
        }
        (home / date / "item.json").write_text(json.dumps(item))
    span = [f"{made.dates[0]}T00:00:00Z", f"{made.dates[-1]}T23:59:59Z"]
    collection = {
        "type": "Collection",
        "stac_version": "1.1.0",
        "id": made.name,
        "description": "Random numbers.",
        "license": "CC0-1.0",
        "links": [],
        "extent": {"spatial": {"bbox": [box]}, "temporal": {"interval": [span]}},
    }
    (home / "collection.json").write_text(json.dumps(collection))


def _ring(box: list[float]) -> dict[str, object]:
    west, south, east, north = box
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}


if __name__ == "__main__":
    for collection in COLLECTIONS:
        write(collection, Path(sys.argv[1]))
