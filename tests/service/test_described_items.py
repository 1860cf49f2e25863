"""An item as `lai_stac` describes it is published, found, and read by odc-stac and rioxarray."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import odc.stac
import pystac
import pystac_client
import pytest
import requests
import rioxarray
from fake_lai import ARGUMENTS, fake_layers, write_product
from service.fake_items import TOKEN

from lai_service import Settings
from lai_stac.item import build_item, write_item
from lai_stac.thumbnail import write_thumbnail

pytestmark = [
    # rasterio 1.4 multiplies transforms with `*`, which affine 3 announces to deprecate.
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),
    # odc-geo 0.5 calls shapely.ops.transform, which shapely 2.2 deprecates.
    pytest.mark.filterwarnings("ignore:The 'shapely.ops.transform:DeprecationWarning"),
]


@pytest.fixture
def described(tmp_path: Path, settings: Settings, rng: np.random.Generator) -> Path:
    """Return a result folder below the allowed root, with its item and thumbnail."""
    layers = fake_layers(rng)
    product = write_product(tmp_path / "product", layers)
    write_thumbnail(layers["LAI"], product / "thumbnail.png")
    item = build_item(product, **ARGUMENTS, mgrs_tile="32TQM", platform="S2A", samples=8, seed=1)
    folder = settings.allowed_roots[0] / item.id
    shutil.copytree(product, folder)
    write_item(item, folder)
    return folder


@pytest.fixture
def served(settings: Settings, tmp_path: Path) -> Iterator[str]:
    """Serve by the command, in a process of its own.

    GDAL keeps Python's lock while it waits for an answer, so it cannot read from a server that
    runs in a thread of the same process.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "lai_service.cli", "serve", "--port", str(port)]
    command += ["--data", str(settings.data), "--allow", str(settings.allowed_roots[0])]
    environment = {**os.environ, "LAI_SERVICE_TOKEN": TOKEN}
    if settings.database_url is not None:
        environment["LAI_SERVICE_DATABASE_URL"] = settings.database_url.get_secret_value()
    with (tmp_path / "serve.log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                requests.get(f"{address}/_mgmt/ping", timeout=5)
                break
            except requests.ConnectionError:
                time.sleep(0.1)
        yield address
    finally:
        server.terminate()
        server.wait(timeout=30)


def test_described_item_is_published_found_and_read(served: str, described: Path) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    body = {"directory": str(described)}
    answer = requests.post(f"{served}/publish", json=body, headers=headers, timeout=60)
    assert answer.status_code == 201, answer.text

    api = pystac_client.Client.open(served)
    mean = answer.json()["properties"]["laiq:lai_mean"]
    expression = {"op": ">=", "args": [{"property": "laiq:lai_mean"}, mean]}
    (found,) = api.search(bbox=answer.json()["bbox"], filter=expression).items()
    assert found.id == described.name
    assert requests.get(found.assets["thumbnail"].href, timeout=10).content[:4] == b"\x89PNG"
    collection = api.get_collection(found.collection_id)
    assert isinstance(collection, pystac.Collection)
    assert collection.get_single_link("license").href.startswith("https://")
    assert collection.assets["thumbnail"].href == found.assets["thumbnail"].href

    local = rioxarray.open_rasterio(described / "lai.tif", mask_and_scale=True)
    remote = rioxarray.open_rasterio(found.assets["lai"].href, mask_and_scale=True)
    np.testing.assert_array_equal(remote.values, local.values)
    cube = odc.stac.load([found], bands=["lai"])
    raw = rioxarray.open_rasterio(described / "lai.tif")
    np.testing.assert_array_equal(cube["lai"].values[0], raw.values[0])

    again = requests.post(f"{served}/publish", json=body, headers=headers, timeout=60)
    assert again.headers["LAI-Publish-Outcome"] == "unchanged"
