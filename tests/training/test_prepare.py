"""`lai-train prepare` over small archives: what the pool and its manifest hold, and going on."""

import json
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import yaml
from fake_archive import find_image, make_land_dn, product_name, remove_angles, write_land
from fake_products import write_item, write_multiband, write_raster
from typer.testing import CliRunner

from lai_training import prepare as prepare_module
from lai_training import prepare_product
from lai_training.cli import app
from lai_training.config_files import read_yaml
from lai_training.errors import PrepareError
from lai_training.prepare import prepare
from lai_training.prepare_config import Choice, PrepareConfig, StacSearch
from lai_training.prepare_pool import open_prepared
from lai_training.prepare_products import choose, list_products, mgrs_square
from lai_udf.predict import BANDS, NOMINAL_COSINES
from lai_udf.rasters_grid import Grid

REPOSITORY = Path(__file__).parents[2]
SMALL = {"patch_px": 32, "mask_buffer_px": 2, "least_valid_share": 0.5}


def _config(*sources: Path | str | StacSearch, **changes: object) -> PrepareConfig:
    named = [each if isinstance(each, StacSearch) else str(each) for each in sources]
    return PrepareConfig.model_validate({**SMALL, "sources": named, **changes})


@pytest.fixture
def archive(tmp_path):
    """Three dates of two tiles: one half under cloud, one without angles, one before offsets."""
    folder = tmp_path / "archive"
    half_cloudy = np.full((64, 64), 4)
    half_cloudy[:32] = 9
    write_land(folder, tile="31TCJ", date="20220506", scene_class=half_cloudy)
    remove_angles(write_land(folder, tile="31TCJ", date="20220526"))
    write_land(folder / "before", tile="30TYT", date="20181220", baseline="02.12", offsets=False)
    return folder


def _by_date(manifest):
    return {product.date: product for product in manifest.products}


def _arrays(out, split="train"):
    pool = open_prepared(out, split)
    return {name: np.array(getattr(pool, name)) for name in ("reflectance", "lai", "cosines")}


def test_the_manifest_tells_of_every_product(archive, tmp_path):
    manifest = prepare(_config(archive), tmp_path / "pool")

    products = _by_date(manifest)
    assert sorted(products) == ["2018-12-20", "2022-05-06", "2022-05-26"]
    cloudy = products["2022-05-06"]
    assert (cloudy.tile, cloudy.platform, cloudy.processing_baseline) == (
        "31TCJ", "sentinel-2a", "04.00",
    )  # fmt: skip
    assert cloudy.product_id == product_name("31TCJ", "20220506")
    assert (cloudy.candidates, cloudy.dropped) == (4, 2)
    assert cloudy.masked_share == pytest.approx(34 / 64, abs=1e-4)
    assert set(products["2022-05-26"].angles.values()) == {"nominal"}
    assert set(cloudy.angles.values()) == {"grid"}
    assert manifest.counts["patches"] == 10
    assert manifest.counts["patches_dropped"] == 2
    assert len(json.loads((tmp_path / "pool/manifest.json").read_text())["products"]) == 3


def test_patches_are_reflectance_with_the_offset_of_the_metadata(tmp_path):
    dn = make_land_dn(seed=3)
    write_land(tmp_path / "new", date="20221005", dn=dn)
    before = {band: layer - 1000 for band, layer in dn.items()}
    write_land(tmp_path / "old", date="20181005", baseline="02.12", offsets=False, dn=before)
    prepare(_config(tmp_path / "new", split={"validation_share": 0}), tmp_path / "a")
    prepare(_config(tmp_path / "old", split={"validation_share": 0}), tmp_path / "b")

    new, old = _arrays(tmp_path / "a"), _arrays(tmp_path / "b")

    np.testing.assert_array_equal(new["reflectance"], old["reflectance"])
    b04 = new["reflectance"][0, BANDS.index("B04")]
    np.testing.assert_allclose(b04, dn["B04"][:32, :32] * 1e-4 - 0.1, rtol=1e-3)
    b08 = new["reflectance"][0, BANDS.index("B08")]  # the mean of 2 x 2: half of it is 2 DN more
    np.testing.assert_allclose(b08, (dn["B08"][:32, :32] + 1) * 1e-4 - 0.1, rtol=1e-3)


def test_angles_of_the_granule_reach_patch_and_label(archive, tmp_path):
    prepare(_config(archive, split={"validation_share": 0}), tmp_path / "pool")

    pool = open_prepared(tmp_path / "pool", "train")

    rows = pool.manifest.rows("train")
    of = {date: rows[product.checksum] for date, product in _by_date(pool.manifest).items()}
    np.testing.assert_allclose(pool.cosines[of["2022-05-26"]], [NOMINAL_COSINES] * 4)
    view, sun, relative = np.degrees(np.arccos(pool.cosines[of["2018-12-20"]])).T
    np.testing.assert_allclose(view, 3, atol=0.1)  # bands at 2 and 4 degrees
    np.testing.assert_allclose(sun, [40.128, 40.256, 40.256, 40.384], atol=1e-3)  # 1 per 5 km
    np.testing.assert_allclose(relative, 172, atol=0.1)  # sun 172, view 350 and 10: mean 0


def test_no_cloudy_pixel_is_taught(archive, tmp_path):
    prepare(_config(archive, split={"validation_share": 0}), tmp_path / "pool")
    pool = open_prepared(tmp_path / "pool", "train")

    product = _by_date(pool.manifest)["2022-05-06"]
    lai = pool.lai[pool.manifest.rows("train")[product.checksum]]

    assert pool.corners[pool.manifest.rows("train")[product.checksum]].tolist() == [
        [32, 0], [32, 32],
    ]  # fmt: skip
    assert np.isnan(lai[:, :2]).all()  # rows 32 and 33 lie within 2 px of cloud
    assert np.isfinite(lai[:, 2:]).all()


def test_strips_do_not_show(archive, tmp_path, monkeypatch):
    whole = prepare(_config(archive, mask_buffer_px=7), tmp_path / "whole")
    monkeypatch.setattr(prepare_product, "STRIP_ROWS", 32)

    strips = prepare(_config(archive, mask_buffer_px=7), tmp_path / "strips")

    assert strips == whole
    for split in ("train", "validation"):
        if whole.splits[split].patches:
            one, other = _arrays(tmp_path / "whole", split), _arrays(tmp_path / "strips", split)
            for name in one:
                np.testing.assert_array_equal(one[name], other[name])


def test_constants_of_eq_1_are_the_extremes_over_training_images(archive, tmp_path):
    select = [{"tile": "30TYT", "split": "test"}, {"tile": "31TCJ", "split": "train"}]
    manifest = prepare(_config(archive, select=select), tmp_path / "pool")

    trained = [product for product in manifest.products if product.tile == "31TCJ"]

    assert manifest.splits["train"].products == 2
    assert manifest.splits["test"].products == 1
    lowest = np.min([product.percentile_2 for product in trained], axis=0)
    highest = np.max([product.percentile_98 for product in trained], axis=0)
    np.testing.assert_array_equal(manifest.normalisation.lowest, lowest)
    np.testing.assert_array_equal(manifest.normalisation.highest, highest)
    pool = open_prepared(tmp_path / "pool", "train")
    shown = np.asarray(pool.reflectance, "float32")
    inside = (shown >= lowest[:, None, None]) & (shown <= highest[:, None, None])
    assert inside[np.isfinite(shown)].mean() > 0.95


def test_tiles_and_dates_are_chosen(archive, tmp_path):
    select = [{"tile": "31TCJ", "dates": ["2022-05-26"]}]

    manifest = prepare(_config(archive, select=select), tmp_path / "pool")

    assert list(_by_date(manifest)) == ["2022-05-26"]
    assert manifest.counts["products_not_selected"] == 2
    wanted = (Choice(tile="30TYT", split="test"),)
    assert choose("30TYT", "2018-12-20", wanted, others=False) == (True, "test")
    assert choose("31TCK", "2018-12-20", wanted, others=False) == (False, None)
    assert choose("31TCK", "2018-12-20", wanted, others=True) == (True, None)


def test_all_layouts_give_the_same_patches(tmp_path):
    dn = make_land_dn(seed=5)
    flat = dn | {"B08": dn["B08"]}
    write_multiband(tmp_path / "tif/S2A_MSIL2A_20221005T115411_N0400.tif", flat)
    assets = {}
    for band, layer in flat.items():
        write_raster(tmp_path / f"stac/{band}.tif", layer, nodata=0)
        assets[band] = {"href": f"./{band}.tif", "type": "image/tiff"}
    write_item(tmp_path / "stac/item.json", assets, {"s2:processing_baseline": "05.09"})

    products = [list_products([str(tmp_path / kind)]) for kind in ("tif", "stac")]
    for kind in ("tif", "stac"):
        prepare(_config(tmp_path / kind, split={"validation_share": 0}), tmp_path / f"pool-{kind}")

    assert [len(found) for found in products] == [1, 1]  # an item's images are no products
    one, other = (_arrays(tmp_path / f"pool-{kind}") for kind in ("tif", "stac"))
    np.testing.assert_array_equal(one["reflectance"], other["reflectance"])
    np.testing.assert_array_equal(one["lai"], other["lai"])


def test_the_pool_is_the_same_whoever_made_it(archive, tmp_path):
    manifests = [prepare(_config(archive), tmp_path / name) for name in ("a", "b")]

    assert manifests[0] == manifests[1]
    files = [
        {path.relative_to(tmp_path / name): path.read_bytes() for path in _files(tmp_path / name)}
        for name in ("a", "b")
    ]
    assert files[0] == files[1]


def _files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_an_interrupted_preparation_goes_on(archive, tmp_path, monkeypatch):
    written = []
    write = prepare_module.write_part

    def stop_at_third(source, *rest):
        written.append(source.name)
        if len(written) == 3:
            raise KeyboardInterrupt
        return write(source, *rest)

    monkeypatch.setattr(prepare_module, "write_part", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        prepare(_config(archive), tmp_path / "pool")
    assert not (tmp_path / "pool/manifest.json").exists()

    resumed = prepare(_config(archive), tmp_path / "pool")

    assert len(written) == 4  # only the third was made anew
    assert resumed == prepare(_config(archive), tmp_path / "whole")
    assert {path.name for path in (tmp_path / "pool").iterdir()} == {
        "manifest.json", *(r.folder for r in resumed.splits.values() if r.patches),
    }  # fmt: skip


def test_products_are_added_to_a_pool_without_making_the_others_anew(
    archive, tmp_path, monkeypatch
):
    prepare(_config(archive), tmp_path / "pool")
    write_land(archive, tile="31TCJ", date="20220605")
    written = []
    write = prepare_module.write_part
    monkeypatch.setattr(
        prepare_module, "write_part", lambda *a: (written.append(a[0].name), write(*a))[1]
    )

    grown = prepare(_config(archive), tmp_path / "pool")

    assert [Path(name).name for name in written] == [product_name("31TCJ", "20220605") + ".SAFE"]
    monkeypatch.undo()
    assert grown == prepare(_config(archive), tmp_path / "whole")
    for split in ("train", "validation"):
        if grown.splits[split].patches:
            one, other = _arrays(tmp_path / "pool", split), _arrays(tmp_path / "whole", split)
            np.testing.assert_array_equal(one["reflectance"], other["reflectance"])


def test_a_changed_file_is_another_product(archive, tmp_path):
    before = _by_date(prepare(_config(archive), tmp_path / "pool"))["2022-05-26"].checksum
    image = find_image(archive / (product_name("31TCJ", "20220526") + ".SAFE"), "B05")
    write_raster(image, make_land_dn(99)["B05"])

    after = _by_date(prepare(_config(archive), tmp_path / "pool"))["2022-05-26"].checksum

    assert before != after


def test_the_random_division_says_how_much_it_leaks(archive, tmp_path):
    config = _config(archive, patch_px=16, split={"by": "patch"})

    manifest = prepare(config, tmp_path / "pool")

    assert manifest.leakage.touching > 0.9
    assert "section 4.3" in manifest.leakage.note
    assert manifest.splits["validation"].products == 3


def test_the_command_says_what_it_did(archive, tmp_path):
    config = tmp_path / "small.yaml"
    config.write_text(yaml.safe_dump(SMALL))

    result = CliRunner().invoke(
        app, ["prepare", str(config), str(tmp_path / "pool"), "--source", str(archive)]
    )

    assert result.exit_code == 0, result.output
    assert "3 products used, 0 skipped" in result.stdout
    assert "1 products lack an angle" in result.stdout
    assert result.stdout.splitlines()[-1] == str(tmp_path / "pool/manifest.json")


def test_the_papers_config_holds_its_test_tiles_out(archive, tmp_path):
    config = read_yaml(REPOSITORY / "training/configs/paper_data.yaml", PrepareConfig)
    changes = {"sources": (str(archive),), "patch_px": 32, "least_valid_share": 0.5}

    manifest = prepare(config.model_copy(update=changes), tmp_path / "pool")

    assert (config.patch_px, config.split.by, config.split.validation_share) == (128, "patch", 0.25)
    assert manifest.splits["test"].products == 1
    assert _by_date(manifest)["2018-12-20"].patches == {"test": 4}


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

    with pytest.raises(PrepareError, match=r"search of http://127\.0\.0\.1:9 failed"):
        list_products([search])


def test_real_chips_become_a_pool(shared_data, tmp_path):
    (tmp_path / "chips").mkdir()
    for path in sorted((shared_data / "chips").glob("*v2*.tif"))[:3]:
        shutil.copy(path, tmp_path / "chips")

    manifest = prepare(_config(tmp_path / "chips"), tmp_path / "pool")

    assert manifest.counts["products"] == 3
    assert all(product.tile in product.product_id for product in manifest.products)
    assert manifest.counts["patches"] == 3
