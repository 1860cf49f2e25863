"""STAC items as sources: on disk, on the web, filtered, and out of bounds."""

import functools
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from openeo.rest import OpenEoApiError

from backend.clients import BOX, download, load


def test_load_stac_reads_a_local_item(connection, tiny, tmp_path):
    item = tiny.folder / "TINY" / "2024-06-11" / "scene-2024-06-11.json"
    cube = connection.load_stac(str(item), bands=["B08"], spatial_extent=BOX)
    result = download(cube, tmp_path)
    np.testing.assert_array_equal(result[0, 0], tiny.reflectance[1, 1, 40:100, 30:100])


def test_load_stac_reads_an_item_over_http(connection, tiny, tmp_path):
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tiny.folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{web.server_port}/TINY/2024-06-11/scene-2024-06-11.json"
        result = download(connection.load_stac(address, bands=["B04"]), tmp_path)
        web.shutdown()
    np.testing.assert_array_equal(result[0, 0], tiny.reflectance[1, 0])


def test_load_stac_does_not_leave_the_allowed_folders(connection, tmp_path):
    cube = connection.datacube_from_process("load_stac", url="file:///etc/hostname")
    with pytest.raises(OpenEoApiError) as caught:
        cube.download(tmp_path / "a.nc", format="netCDF")
    assert caught.value.code == "PathNotAllowed"
    assert caught.value.http_status_code == 403


def test_items_are_filtered_by_cloud_cover(connection, tiny, tmp_path):
    item = tiny.folder / "TINY" / "2024-06-21" / "scene-2024-06-21.json"
    clear = {"eo:cloud_cover": lambda value: value <= 20}
    assert download(load(connection, max_cloud_cover=20), tmp_path).sizes["t"] == 2
    with pytest.raises(OpenEoApiError) as caught:
        download(connection.load_stac(str(item), properties=clear), tmp_path)
    assert caught.value.code == "NoDataAvailable"
