"""A tiny collection on disk, and a real server with the unmodified openEO client in front."""

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openeo
import pytest
import rasterio
from rasterio.transform import from_origin
from rasterio.warp import transform_bounds

with warnings.catch_warnings():  # planetary_computer configures pydantic the old way
    warnings.simplefilter("ignore")
    import openeo_processes_dask.process_implementations
    import openeo_processes_dask.specs  # noqa: F401 - leaves the files it reads open

from lai_backend import access

HEIGHT, WIDTH, STEP = 131, 150, 20.0
WEST, NORTH, EPSG = 500_000.0, 5_600_000.0, 32633
BANDS = ("B04", "B08", "SCL")
DATES = ("2024-06-01", "2024-06-11", "2024-06-21")
CLOUD_COVER = dict(zip(DATES, (0, 15, 30), strict=True))
NODATA = 0
SCALE, OFFSET = 0.0001, -0.1
LAI_BACKEND = str(Path(sys.executable).with_name("lai-backend"))

THIRD_PARTY_WARNINGS = (
    # affine 3.1 asks for `@`; rasterio 1.4 and odc-geo still write `*`
    "ignore:Use `@` matmul:PendingDeprecationWarning",
    # odc-geo 0.5 reprojects geometries with it
    "ignore:The 'shapely.ops.transform:DeprecationWarning",
    # planetary_computer, which openeo-processes-dask imports, configures pydantic the old way
    "ignore:Support for class-based `config` is deprecated",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            for warning in THIRD_PARTY_WARNINGS:
                item.add_marker(pytest.mark.filterwarnings(warning))


@dataclass(frozen=True)
class TinyCollection:
    """Where the collection lies and what its pixels are."""

    folder: Path
    values: np.ndarray
    """Shape (t, bands, y, x), uint16; 0 is no data."""

    @property
    def reflectance(self) -> np.ndarray:
        """What is delivered: digital numbers without the offset that the items declare."""
        numbers = np.where(self.values == NODATA, np.nan, self.values).astype("float32")
        numbers[:, :2] += OFFSET / SCALE
        return numbers


def write_collection(folder: Path) -> TinyCollection:
    """Write three dates: B04 and B08 in one file, SCL in its own."""
    rng = np.random.default_rng(7)
    shape = (len(DATES), len(BANDS), HEIGHT, WIDTH)
    values = rng.integers(1, 10_000, shape).astype("uint16")
    values[:, 2] = rng.integers(1, 12, shape[2:])
    values[:, :2, 20:25, 30:40] = NODATA
    home = folder / "TINY"
    home.mkdir(parents=True)
    bbox = list(
        transform_bounds(
            EPSG, 4326, WEST, NORTH - HEIGHT * STEP, WEST + WIDTH * STEP, NORTH, densify_pts=21
        )
    )
    for date, layers in zip(DATES, values, strict=True):
        item_folder = home / date
        item_folder.mkdir()
        _write_tif(item_folder / "reflectance.tif", layers[:2])
        _write_tif(item_folder / "scl.tif", layers[2:].astype("uint8"))
        _write_item(item_folder, date, bbox)
    collection = {
        "type": "Collection",
        "stac_version": "1.1.0",
        "id": "TINY",
        "description": "Random numbers.",
        "license": "CC0-1.0",
        "links": [],
        "extent": {
            "spatial": {"bbox": [bbox]},
            "temporal": {"interval": [["2024-06-01T00:00:00Z", "2024-06-30T00:00:00Z"]]},
        },
    }
    (home / "collection.json").write_text(json.dumps(collection))
    return TinyCollection(folder, values)


def _write_tif(path: Path, layers: np.ndarray) -> None:
    profile = {
        "driver": "GTiff",
        "dtype": layers.dtype,
        "count": len(layers),
        "height": HEIGHT,
        "width": WIDTH,
        "crs": f"EPSG:{EPSG}",
        "transform": from_origin(WEST, NORTH, STEP, STEP),
        "nodata": NODATA,
    }
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(layers)


def product_name(date: str) -> str:
    day = date.replace("-", "")
    return f"S2A_MSIL2A_{day}T102030_N0510_R108_T33UVR_{day}T150000.SAFE"


def _write_item(folder: Path, date: str, bbox: list[float]) -> None:
    west, south, east, north = bbox
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    scale = {"raster:scale": SCALE, "raster:offset": OFFSET}
    bands = [{"name": name, "nodata": NODATA, **scale} for name in BANDS[:2]]
    item = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": f"scene-{date}",
        "collection": "TINY",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": bbox,
        "properties": {
            "datetime": f"{date}T10:20:30Z",
            "eo:cloud_cover": CLOUD_COVER[date],
            "s2:product_uri": product_name(date),
        },
        "links": [],
        "assets": {
            "reflectance": {"href": "./reflectance.tif", "type": "image/tiff", "bands": bands},
            "SCL": {"href": "./scl.tif", "type": "image/tiff"},
        },
    }
    (folder / f"scene-{date}.json").write_text(json.dumps(item))


@dataclass(frozen=True)
class Server:
    """A running server process."""

    url: str
    data: Path
    process: subprocess.Popen[str]
    password: str
    seen: Path
    """A folder that UDFs can read."""

    def connect(self) -> openeo.Connection:
        connection = openeo.connect(self.url)
        return connection.authenticate_basic("lai", self.password)


def start_server(
    folder: Path, collections: Path, *options: str, variables: dict[str, str] | None = None
) -> Server:
    seen = folder.with_name(f"{folder.name}-seen")
    seen.mkdir(exist_ok=True)
    command = [
        LAI_BACKEND,
        "serve",
        "--port=0",
        f"--data={folder}",
        f"--allow={seen}",
        f"--collections={os.path.relpath(collections)}",  # as people type it
        *options,
    ]
    environment = {**os.environ, "LAI_BACKEND_PASSWORD": "secret words", "OMP_NUM_THREADS": "1"}
    environment |= variables or {}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    assert url.startswith("http"), "the server did not start"
    return Server(url, folder, process, "secret words", seen)


def stop_server(server: Server) -> None:
    server.process.terminate()
    server.process.wait(30)
    assert server.process.stdout is not None
    server.process.stdout.close()


@pytest.fixture(autouse=True, scope="module")
def own_rule_for_addresses() -> Iterator[None]:
    """Undo what a server made in this process decided about addresses for all of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(access._only, "public", False)
        yield


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyCollection:
    return write_collection(tmp_path_factory.mktemp("collections"))


@pytest.fixture(scope="session")
def server(tiny: TinyCollection, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    allowed = tmp_path_factory.mktemp("allowed")
    options = (f"--allow={allowed}", "--max-jobs=2", "--private-network")
    running = start_server(tmp_path_factory.mktemp("data"), tiny.folder, *options)
    yield running
    stop_server(running)


@pytest.fixture(scope="session")
def connection(server: Server) -> openeo.Connection:
    return server.connect()
