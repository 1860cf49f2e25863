"""What unmodified clients make of a published product: LAI in m² m⁻², or one line away from it."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pystac
import pystac_client
import pytest
import rasterio
import requests
import rioxarray
from fake_lai import ARGUMENTS, UTM32, fake_layers, write_product
from numpy.typing import NDArray
from service.fake_items import TOKEN

from lai_stac.files import write_thumbnail
from lai_stac.item import build_item, write_item

pytestmark = [
    # rasterio 1.4 multiplies transforms with `*`, which affine 3 announces to deprecate.
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),
    # odc-geo 0.5 calls shapely.ops.transform, which shapely 2.2 deprecates.
    pytest.mark.filterwarnings("ignore:The 'shapely.ops.transform:DeprecationWarning"),
]

PRECISION = 0.0005 + 1e-6  # half of what a stored number counts, m² m⁻²


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clients")


@pytest.fixture(scope="module")
def lai(root: Path) -> NDArray[np.float32]:
    """Write a product, described by `lai_stac`, below the allowed root; return its LAI."""
    layers = fake_layers(np.random.default_rng(20))
    product = write_product(root / "product", layers)
    write_thumbnail(layers["LAI"], product / "thumbnail.png")
    item = build_item(product, **ARGUMENTS, mgrs_tile="32TQM", platform="S2A", samples=8, seed=1)
    folder = root / "results" / item.id
    shutil.copytree(product, folder)
    write_item(item, folder)
    return layers["LAI"]


@pytest.fixture(scope="module")
def served(root: Path, lai: object) -> Iterator[str]:
    """Serve by the command, in a process of its own, and publish the product.

    GDAL keeps Python's lock while it waits for an answer, so it cannot read from a server that
    runs in a thread of the same process.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "lai_service.cli", "serve", "--port", str(port)]
    command += ["--data", str(root / "data"), "--allow", str(root / "results")]
    with (root / "serve.log").open("w") as log:
        server = subprocess.Popen(
            command, env={**os.environ, "LAI_SERVICE_TOKEN": TOKEN}, stdout=log, stderr=log
        )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                requests.get(f"{address}/_mgmt/ping", timeout=5)
                break
            except requests.ConnectionError:
                time.sleep(0.1)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        (folder,) = (root / "results").iterdir()
        for outcome in ("created", "unchanged"):
            answer = requests.post(
                f"{address}/publish", json={"directory": str(folder)}, headers=headers, timeout=60
            )
            assert answer.headers["LAI-Publish-Outcome"] == outcome, answer.text
        yield address
    finally:
        server.terminate()
        server.wait(timeout=30)


@pytest.fixture
def found(served: str) -> pystac.Item:
    """Find the item as a user of pystac-client does."""
    api = pystac_client.Client.open(served)
    expression = {"op": ">=", "args": [{"property": "laiq:lai_mean"}, 0.1]}
    (item,) = api.search(collections=["lai"], filter=expression, sortby="-datetime").items()
    collection = api.get_collection("lai")
    assert isinstance(collection, pystac.Collection)
    assert collection.get_single_link("license").href.startswith("https://")
    assert collection.assets["thumbnail"].href == item.assets["thumbnail"].href
    thumbnail = requests.get(item.assets["thumbnail"].href, timeout=10)
    assert thumbnail.content[:4] == b"\x89PNG"
    return item


def assert_is(values: NDArray[np.floating], lai: NDArray[np.float32]) -> None:
    """Check that values are the LAI of the product, with its gaps."""
    np.testing.assert_array_equal(np.isnan(values), np.isnan(lai))
    np.testing.assert_allclose(values, lai, rtol=0, atol=PRECISION)


def test_rioxarray(found: pystac.Item, lai: NDArray[np.float32]) -> None:
    with rioxarray.open_rasterio(found.assets["lai"].href, mask_and_scale=True) as opened:
        assert_is(opened.sel(band=1).values, lai)


def test_gdal(found: pystac.Item, lai: NDArray[np.float32]) -> None:
    with rasterio.open(found.assets["lai"].href) as raster:
        stored = raster.read(1, masked=True).astype("float64")
        values = stored * raster.scales[0] + raster.offsets[0]
        assert (raster.crs, raster.units[0]) == (UTM32.crs, "m2 m-2")
    assert_is(values.filled(np.nan), lai)


def test_odc_stac(found: pystac.Item, lai: NDArray[np.float32]) -> None:
    import odc.stac

    stored = odc.stac.load([found], bands=["lai"])["lai"]
    values = stored.where(stored != stored.nodata) * 0.001  # as docs/guides/python.md shows
    assert_is(values.isel(time=0).values, lai)


@pytest.mark.filterwarnings("ignore:Please use:DeprecationWarning")
def test_stackstac(served: str, lai: NDArray[np.float32]) -> None:
    stackstac = pytest.importorskip("stackstac")
    items = pystac_client.Client.open(served).search(collections=["lai"]).items_as_dicts()
    cube = stackstac.stack(list(items), assets=["lai"])  # as docs/guides/python.md shows
    assert_is(cube.isel(time=0, band=0).compute().values, lai)


FEATURES = """
import json, sys
import pyogrio
source = f"OAPIF:{sys.argv[1]}/"
layers = [name for name, _ in pyogrio.list_layers(source)]
table = pyogrio.read_dataframe(source, layer="lai")
nowhere = pyogrio.read_dataframe(source, layer="lai", bbox=(-60, -10, -59, -9))
print(json.dumps([layers, *table["laiq:lai_mean"], *table.total_bounds, len(nowhere)]))
"""


def test_features_driver_of_gdal_and_qgis(served: str, found: pystac.Item) -> None:
    """QGIS reads OGC API - Features by GDAL's driver OAPIF, or like it.

    In a process of its own: rasterio's wheel brings another libcurl than pyogrio's.
    """
    command = [sys.executable, "-c", FEATURES, served]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    layers, mean, *bounds, nowhere = json.loads(done.stdout)
    assert (layers, nowhere) == (["lai"], 0)
    assert mean == found.properties["laiq:lai_mean"]
    assert bounds == pytest.approx(found.bbox)
