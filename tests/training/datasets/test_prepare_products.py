"""Which products there are: layouts of catalogues, tiles, dates, searches."""

import json
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from fake_archive import SIZE, make_land_dn, product_name, remove_angles, write_land
from fake_products import write_item, write_multiband, write_raster

from lai_training.datasets.config import Choice, PrepareConfig, StacSearch
from lai_training.datasets.pool import open_prepared
from lai_training.datasets.prepare import prepare
from lai_training.datasets.products import choose, list_products, mgrs_square
from lai_training.errors import PrepareError
from lai_udf.grid import Grid

SMALL = {"patch_px": 32, "mask_buffer_px": 2, "least_valid_share": 0.5}


def _config(*sources: Path | StacSearch, **changes: object) -> PrepareConfig:
    named = [each if isinstance(each, StacSearch) else str(each) for each in sources]
    return PrepareConfig.model_validate({**SMALL, "sources": named, **changes})


EARTH_SEARCH_KEYS = {
    "B02": "blue", "B03": "green", "B04": "red", "B05": "rededge1", "B06": "rededge2",
    "B07": "rededge3", "B08": "nir", "B8A": "nir08", "B11": "swir16", "B12": "swir22",
}  # fmt: skip


def _safe(folder, dn):
    """JPEG 2000; the 10 m pixels of B08 have a mean of one more (`write_safe`); no angles."""
    remove_angles(write_land(folder, dn=dn | {"B08": dn["B08"] - 1}))


def _geotiff(folder, dn):
    write_multiband(folder / f"{product_name()}.tif", dn)


def _earth_search(folder, dn):
    """Keys by common name; numbers as stored, and the offset declared."""
    raster = {"nodata": 0, "scale": 0.0001, "offset": -0.1, "spatial_resolution": 20}
    assets = {
        EARTH_SEARCH_KEYS[band]: {"href": href, "type": "image/tiff", "raster:bands": [raster],
                                  "eo:bands": [{"name": EARTH_SEARCH_KEYS[band]}]}
        for band, href in _write_bands(folder, dn).items()
    }  # fmt: skip
    write_item(folder / "item.json", assets, {"earthsearch:boa_offset_applied": False})


def _planetary_computer(folder, dn):
    """Keys by band; no scale, and the offset left to the processing baseline."""
    assets = {
        band: {"href": href, "type": "image/tiff", "eo:bands": [{"name": band}]}
        for band, href in _write_bands(folder, dn).items()
    }
    write_item(folder / "item.json", assets, {"s2:processing_baseline": "05.09"})


def _cdse(folder, dn):
    """Keys by band and pixel size, JPEG 2000; B08 exists at 10 m only."""
    fine = {"B08": dn["B08"].repeat(2, 0).repeat(2, 1)}
    hrefs = _write_bands(folder, dn | fine, suffix="jp2")
    assets = {
        f"{band}_{10 if band in fine else 20}m": {
            "href": href, "type": "image/jp2", "bands": [{"name": band}],
            "raster:scale": 0.0001, "raster:offset": -0.1,
        }
        for band, href in hrefs.items()
    }  # fmt: skip
    write_item(folder / "item.json", assets, {"processing:version": "05.11"})


def _write_bands(folder, dn, suffix="tif"):
    for band, layer in dn.items():
        pixel = 20 * SIZE // len(layer)
        write_raster(folder / f"{band}.{suffix}", layer, pixel=pixel, nodata=0)
    return {band: f"./{band}.{suffix}" for band in dn}


@pytest.mark.parametrize("write", [_safe, _earth_search, _planetary_computer, _cdse])
def test_every_layout_gives_the_same_patches(write, tmp_path):
    dn = make_land_dn(seed=5)
    for layout, name in ((_geotiff, "known"), (write, "other")):
        layout(tmp_path / f"{name}-archive", dn)
        assert len(list_products([str(tmp_path / f"{name}-archive")])) == 1  # not its images
        whole = _config(tmp_path / f"{name}-archive", split={"validation_share": 0})
        prepare(whole, tmp_path / name)

    known, other = (open_prepared(tmp_path / name, "train") for name in ("known", "other"))
    np.testing.assert_array_equal(known.reflectance, other.reflectance)
    np.testing.assert_array_equal(known.lai, other.lai)


def test_tiles_and_dates_are_chosen(tmp_path):
    for tile, date in (("31TCJ", "20220506"), ("31TCJ", "20220526"), ("30TYT", "20220526")):
        write_land(tmp_path / "archive", tile=tile, date=date)
    select = [{"tile": "31TCJ", "dates": ["2022-05-26"]}]

    manifest = prepare(_config(tmp_path / "archive", select=select), tmp_path / "pool")

    (product,) = manifest.products
    assert (product.tile, product.date) == ("31TCJ", "2022-05-26")
    assert manifest.counts["products_not_selected"] == 2


def test_a_choice_names_the_split_and_others_may_come_along():
    wanted = (Choice(tile="30TYT", split="test"),)

    assert choose("30TYT", "2018-12-20", wanted, others=False) == (True, "test")
    assert choose("31TCK", "2018-12-20", wanted, others=False) == (False, None)
    assert choose("31TCK", "2018-12-20", wanted, others=True) == (True, None)


@pytest.mark.parametrize(
    ("longitude", "latitude", "square"),
    [
        (1.44, 43.60, "31TCJ"),  # Toulouse
        (-0.58, 44.84, "30TXQ"),  # Bordeaux
        (13.40, 52.52, "33UUU"),  # Berlin
        (151.21, -33.87, "56HLH"),  # Sydney
    ],
)
def test_squares_are_those_of_the_military_grid(longitude, latitude, square):
    from affine import Affine
    from rasterio.crs import CRS
    from rasterio.warp import transform

    zone = int((longitude + 180) // 6) + 1
    crs = CRS.from_epsg((32600 if latitude > 0 else 32700) + zone)
    (x,), (y,) = transform("EPSG:4326", crs, [longitude], [latitude])

    assert mgrs_square(Grid(crs, Affine(20, 0, x, 0, -20, y), 2, 2)) == square


class Catalogue(SimpleHTTPRequestHandler):
    """A STAC API that answers every search with the items of its folder."""

    def log_message(self, *args):
        pass

    def _answer(self, document):
        text = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/geo+json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_GET(self):
        if self.path != "/":
            super().do_GET()
            return
        here = f"http://127.0.0.1:{self.server.server_port}"
        search = {"rel": "search", "href": f"{here}/search", "method": "POST"}
        search["type"] = "application/geo+json"
        core = "https://api.stacspec.org/v1.0.0"
        conforms = [f"{core}/core", f"{core}/item-search", f"{core}/item-search#query"]
        self._answer(
            {"type": "Catalog", "id": "c", "description": "c", "stac_version": "1.0.0",
             "conformsTo": conforms, "links": [{"rel": "self", "href": f"{here}/"}, search]}
        )  # fmt: skip

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(asked)
        here = f"http://127.0.0.1:{self.server.server_port}"
        items = [json.loads(path.read_text()) for path in Path(self.directory).glob("*.json")]
        for item in items:
            item["links"] = [{"rel": "self", "href": f"{here}/{item['id']}.json"}]
        self._answer({"type": "FeatureCollection", "features": items, "links": []})


@pytest.fixture
def catalogue(tmp_path):
    """Serve tmp_path/items as a STAC API; yield its root and what it was asked."""
    (tmp_path / "items").mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Catalogue, directory=tmp_path / "items"))
    server.asked = []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", server.asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_search_of_a_catalogue_gives_products(catalogue, tmp_path):
    root, asked = catalogue
    assets = {}
    for band, layer in make_land_dn(seed=5).items():
        write_raster(tmp_path / f"items/{band}.tif", layer, nodata=0)
        assets[band] = {"href": f"./{band}.tif", "type": "image/tiff"}
    known = {"s2:processing_baseline": "05.09", "view:sun_elevation": 50, "view:sun_azimuth": 150}
    write_item(tmp_path / "items/S2A_T29UNU_1.json", assets, known)
    query = {"grid:code": {"eq": "MGRS-29UNU"}}
    search = StacSearch(api=root, datetime="2022-10-01/2022-10-31", query=query)

    manifest = prepare(_config(search), tmp_path / "pool")

    (product,) = manifest.products
    assert product.source == f"{root}/S2A_T29UNU_1.json"
    assert product.tile == "29UNU"
    assert product.angles == {
        "view_zenith": "nominal", "sun_zenith": "scene", "relative_azimuth": "nominal",
    }  # fmt: skip
    assert asked[0]["collections"] == ["sentinel-2-l2a"]
    assert asked[0]["query"] == query


def test_a_search_that_fails_is_one_clear_error():
    search = StacSearch(api="http://127.0.0.1:9", datetime="2022-10-01/2022-10-31")

    with pytest.raises(PrepareError):
        list_products([search])
