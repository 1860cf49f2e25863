"""Give chunks to a UDF by `GeopysparkDataCube.apply_tiles_spatiotemporal`, with lists for RDDs.

In: `order.json` in the current folder (text of the UDF, its context, chunks to make). Out:
`found.json`, a description of each chunk's result. Runs apart from pytest, because it replaces
modules.
"""

import importlib.abc
import importlib.machinery
import json
import sys
import time
import types
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple
from unittest.mock import MagicMock

import numpy as np
import pandas as pd

SPARK = ("geopyspark", "pyspark", "py4j", "kazoo", "elasticsearch", "openeogeotrellis.ml")
BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12", "SCL")


class StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Modules in which every name is a mock."""

    def find_spec(self, name, path, target=None):
        if any(name == known or name.startswith(f"{known}.") for known in SPARK):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        module = types.ModuleType(spec.name)

        def attribute(name: str) -> MagicMock:
            if name.startswith("__"):
                raise AttributeError(name)
            return vars(module).setdefault(name, MagicMock(name=name))

        module.__getattr__ = attribute
        return module

    def exec_module(self, module):
        pass


class SpaceTimeKey(NamedTuple):
    col: int
    row: int
    instant: object


class SpatialKey(NamedTuple):
    col: int
    row: int


class Tile(NamedTuple):
    cells: np.ndarray
    cell_type: object = None
    no_data_value: float = float("nan")


class Rdd(list):
    """What the back-end asks of an RDD, over a list."""

    layer_metadata: SimpleNamespace

    def convert_data_type(self, _):
        return self

    def to_numpy_rdd(self):
        return self

    def map(self, function):
        return Rdd(map(function, self))

    def groupByKey(self, **_):
        groups = defaultdict(list)
        for key, value in self:
            groups[key].append(value)
        return Rdd(groups.items())

    def flatMap(self, function):
        found = []
        for group in self:
            started = time.process_time()
            found.append((function(group), time.process_time() - started))
        return found


def make_chunks(order: dict) -> tuple[Rdd, list[str]]:
    rng = np.random.default_rng(3)
    side = order["side"]
    names = list(BANDS) if order["bands"] == "reflectance" else ["LAI"]
    vegetation = [400, 700, 450, 1000, 2600, 3300, 3500, 3600, 1900, 950]
    tiles = Rdd()
    for column, days in enumerate(order["dates"]):
        for day in days:
            if len(names) > 1:
                layers = [np.full((side, side), value) for value in vegetation]
                layers = [layer * (1 + 0.05 * rng.normal(size=layer.shape)) for layer in layers]
                layers.append(np.full((side, side), 4))
            else:
                layers = [np.full((side, side), 2 + np.sin(day / 40)) + 0.1 * column]
            instant = pd.Timestamp("2024-03-01") + pd.Timedelta(days=day)
            cells = np.stack(layers).astype("float32")
            tiles.append((SpaceTimeKey(column, 0, instant.to_pydatetime()), Tile(cells)))
    extent = SimpleNamespace(xmin=600_000, xmax=600_000 + 20 * side * 8, ymin=0, ymax=20 * side * 8)
    layout = SimpleNamespace(layoutCols=8, layoutRows=8, tileCols=side, tileRows=side)
    keys = SimpleNamespace(minKey=SpatialKey(0, 0), maxKey=SpatialKey(7, 0))
    tiles.layer_metadata = SimpleNamespace(
        layout_definition=SimpleNamespace(extent=extent, tileLayout=layout),
        crs="EPSG:32631",
        bounds=keys,
    )
    return tiles, names


def describe(tiles: list, seconds: float) -> dict:
    values = np.stack([tile.cells for _, tile in tiles])
    return {
        "dates": [f"{pd.Timestamp(key.instant):%Y-%m-%d}" for key, _ in tiles],
        "bands": values.shape[1],
        "valid": float(np.isfinite(values[:, 0]).mean()),
        "mean": float(np.nanmean(values[:, 0])),
        "seconds": seconds,
    }


def main(package: str) -> None:
    sys.path.append(package)
    sys.meta_path.insert(0, StandIns())
    import geopyspark
    import openeogeotrellis.geopysparkdatacube as driver
    import openeogeotrellis.udf
    import openeogeotrellis.utils

    openeogeotrellis.utils.setup_logging = lambda config: None  # else errors go into a file
    driver.Tile = Tile
    driver.SpaceTimeKey, driver.gps.SpatialKey = SpaceTimeKey, SpatialKey
    results = []
    geopyspark.TiledRasterLayer.from_numpy_rdd = lambda kind, rdd, metadata: results.extend(rdd)
    driver.GeopysparkDataCube._transform_metadata = staticmethod(lambda metadata, **_: metadata)

    order = json.loads(Path("order.json").read_text())
    tiles, names = make_chunks(order)
    cube = object.__new__(driver.GeopysparkDataCube)
    cube.metadata = SimpleNamespace(
        has_band_dimension=lambda: True, band_dimension=SimpleNamespace(band_names=names)
    )
    cube.apply_metadata = lambda code, context: cube.metadata
    cube.apply_to_levels = lambda function, metadata=None: function(tiles)
    cube.apply_tiles_spatiotemporal(order["code"], order["context"])
    found = [describe(chunk, seconds) for chunk, seconds in results]
    Path("found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
