"""Scenes from STAC Items of several catalogues: which asset, which offset, which angles."""

import json
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from fake_products import BANDS, SIZE, make_dn, tile_xml, write_item, write_multiband, write_raster

from lai_udf.errors import (
    MetadataError,
    MissingBandError,
    UndeclaredScaleError,
    UnreadableProductError,
)
from lai_udf.predict import ANGLES
from lai_udf.scenes.read import read_scene
from lai_udf.scenes.stac import choose_assets, read_item

EARTH_SEARCH_KEYS = {
    "B02": "blue", "B03": "green", "B04": "red", "B05": "rededge1", "B06": "rededge2",
    "B07": "rededge3", "B08": "nir", "B8A": "nir08", "B11": "swir16", "B12": "swir22",
}  # fmt: skip
TEN_METRE = ("B02", "B03", "B04", "B08")


def write_bands(folder: Path, dn: dict[str, np.ndarray]) -> dict[str, str]:
    """Write one GeoTIFF per band, without scale in the file, and return relative hrefs."""
    for band, layer in dn.items():
        write_raster(folder / f"{band}.tif", layer, nodata=0)
    write_raster(folder / "SCL.tif", np.full((SIZE, SIZE), 5, "uint8"))
    return {band: f"./{band}.tif" for band in (*dn, "SCL")}


def earth_search_item(folder: Path, dn: dict[str, np.ndarray], **properties) -> Path:
    """Write an Item as Earth Search v1 does: keys by common name, raster:bands gives -0.1."""
    hrefs = write_bands(folder, dn)
    raster = {"nodata": 0, "scale": 0.0001, "offset": -0.1, "spatial_resolution": 20}
    assets = {
        key: {"href": hrefs[band], "type": "image/tiff; application=geotiff",
              "roles": ["data", "reflectance"], "raster:bands": [raster],
              "eo:bands": [{"name": key, "common_name": key.rstrip("123")}]}
        for band, key in EARTH_SEARCH_KEYS.items()
    }  # fmt: skip
    assets["red-jp2"] = {"href": "s3://bucket/B04.jp2", "type": "image/jp2", "roles": ["data"]}
    assets["scl"] = {"href": hrefs["SCL"], "type": "image/tiff", "roles": ["data"]}
    assets["visual"] = {
        "href": "./TCI.tif",
        "type": "image/tiff",
        "eo:bands": [{"name": "red"}, {"name": "green"}, {"name": "blue"}],
    }
    return write_item(
        folder / "item.json", assets, {"s2:processing_baseline": "05.09"} | properties
    )


def planetary_item(folder: Path, dn: dict[str, np.ndarray], **properties) -> Path:
    """Write an Item as the Planetary Computer does: keys by band, no raster fields at all."""
    assets = {
        band: {"href": href, "type": "image/tiff; application=geotiff", "roles": ["data"],
               "gsd": 20, "eo:bands": [{"name": band}]}
        for band, href in write_bands(folder, dn).items()
    }  # fmt: skip
    return write_item(folder / "item.json", assets, properties)


def reflectance(scene, band: str) -> np.ndarray:
    return scene.sel(bands=band).values


def test_offset_that_the_catalogue_took_off_is_not_taken_off_twice(tmp_path):
    # Element84/earth-search issue 9: raster:bands gives -0.1 even where it has been applied
    dn = make_dn()
    item = earth_search_item(tmp_path, dn, **{"earthsearch:boa_offset_applied": True})
    scene = read_scene(item)
    assert tuple(scene.bands.values) == (*BANDS, "SCL")
    for band in BANDS:
        np.testing.assert_allclose(reflectance(scene, band), dn[band] * 1e-4, atol=1e-6)


@pytest.mark.parametrize("applied", [False, "false", "False", None])
def test_declared_raster_offset_is_taken_off(tmp_path, applied):
    dn = make_dn()
    item = earth_search_item(tmp_path, dn, **{"earthsearch:boa_offset_applied": applied})
    for band in BANDS:
        expected = dn[band] * 1e-4 - 0.1
        np.testing.assert_allclose(reflectance(read_scene(item), band), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("baseline", "offset"), [("02.12", 0), ("03.01", 0), ("04.00", -0.1), ("05.11", -0.1)]
)
def test_without_raster_fields_the_baseline_decides(tmp_path, baseline, offset):
    dn = make_dn()
    scene = read_scene(planetary_item(tmp_path, dn, **{"s2:processing_baseline": baseline}))
    np.testing.assert_allclose(reflectance(scene, "B05"), dn["B05"] * 1e-4 + offset, atol=1e-6)
    assert scene.attrs["processing_baseline"] == baseline


def test_baseline_is_found_in_the_product_name(tmp_path):
    dn = make_dn()
    name = "S2A_MSIL2A_20200714T115221_N0214_R123_T28QCH_20200714T191310"
    scene = read_scene(planetary_item(tmp_path, dn, **{"sentinel:product_id": name}))
    np.testing.assert_allclose(reflectance(scene, "B05"), dn["B05"] * 1e-4, atol=1e-6)
    assert scene.attrs["product_id"] == name


@pytest.mark.parametrize("properties", [{}, {"s2:processing_baseline": "99.99"}])
def test_unknown_offset_is_refused_with_what_to_set(tmp_path, properties):
    item = planetary_item(tmp_path, make_dn(), **properties)
    with pytest.raises(UndeclaredScaleError) as caught:
        read_scene(item)
    assert caught.value.parameter == "reflectance_scale"
    scene = read_scene(item, reflectance_scale=1e-4, reflectance_offset=0)
    np.testing.assert_allclose(reflectance(scene, "B02"), make_dn()["B02"] * 1e-4, atol=1e-6)


def test_impossible_scale_is_refused_not_replaced(tmp_path):
    item = earth_search_item(tmp_path, make_dn())
    for scale in (0, -1, float("nan")):
        with pytest.raises(UndeclaredScaleError) as caught:
            read_scene(item, reflectance_scale=scale)
        assert caught.value.parameter == "reflectance_scale"


def test_twenty_metre_assets_are_preferred_as_cdse_names_them(tmp_path):
    dn = make_dn()
    wrong = {band: np.full((2 * SIZE, 2 * SIZE), 9999, "uint16") for band in TEN_METRE}
    assets = {}
    for band in BANDS:
        size = 10 if band == "B08" else 20
        layer = dn[band].repeat(2, 0).repeat(2, 1) if size == 10 else dn[band]
        write_raster(tmp_path / f"T_{band}_{size}m.jp2", layer, pixel=size)
        assets[f"{band}_{size}m"] = f"T_{band}_{size}m.jp2"
        assets[f"{band}_60m"] = f"absent_{band}_60m.jp2"
    for band in ("B02", "B03", "B04"):
        write_raster(tmp_path / f"T_{band}_10m.jp2", wrong[band], pixel=10)
        assets[f"{band}_10m"] = f"T_{band}_10m.jp2"
    raster = {"raster:scale": 0.0001, "raster:offset": -0.1, "type": "image/jp2"}
    item = write_item(
        tmp_path / "item.json",
        {
            key: {"href": href, "roles": ["data"], "bands": [{"name": key[:3]}], **raster}
            for key, href in assets.items()
        },
        {"processing:version": "05.11", "view:sun_elevation": 50.0, "view:sun_azimuth": 160.0},
    )
    scene = read_scene(item)
    assert tuple(scene.bands.values) == (*BANDS, "sunZenithAngles", "sunAzimuthAngles")
    for band in BANDS:
        np.testing.assert_allclose(reflectance(scene, band), dn[band] * 1e-4 - 0.1, atol=1e-6)
    np.testing.assert_allclose(reflectance(scene, "sunZenithAngles"), 40)


def test_multiband_asset_with_named_bands_is_read_by_band(tmp_path):
    dn = dict(reversed(make_dn().items()))
    write_multiband(tmp_path / "scene.tif", dn)
    bands = [{"name": band} for band in dn]
    assets = {
        "data": {"href": "scene.tif", "type": "image/tiff", "roles": ["data"], "bands": bands}
    }
    scene = read_scene(write_item(tmp_path / "sim" / ".." / "item.json", assets, {}))
    for band in BANDS:
        np.testing.assert_allclose(reflectance(scene, band), dn[band] * 1e-4 - 0.1, atol=1e-6)


def test_local_granule_metadata_give_angle_grids(tmp_path):
    item = earth_search_item(tmp_path, make_dn(), **{"view:sun_elevation": 10.0})
    (tmp_path / "MTD_TL.xml").write_text(tile_xml())
    document = json.loads(item.read_text())
    document["assets"]["granule_metadata"] = {"href": "./MTD_TL.xml", "roles": ["metadata"]}
    item.write_text(json.dumps(document))
    scene = read_scene(item)
    assert tuple(scene.bands.values) == (*BANDS, "SCL", *ANGLES)
    assert reflectance(scene, "sunZenithAngles")[0, 0] == pytest.approx(40.004, abs=1e-3)


@pytest.mark.parametrize("angle", ["high", None, [40]])
def test_angles_that_are_no_numbers_are_missing(tmp_path, angle):
    stated = {"view:sun_elevation": angle, "view:sun_azimuth": angle, "view:azimuth": angle}
    scene = read_scene(earth_search_item(tmp_path, make_dn(), **stated))
    assert not set(ANGLES) & set(scene.bands.values)


@pytest.mark.parametrize("key", ["scale", "offset"])
def test_raster_fields_that_are_no_numbers_are_one_clear_error(tmp_path, key):
    path = earth_search_item(tmp_path, make_dn())
    document = json.loads(path.read_text())
    for asset in document["assets"].values():
        for band in asset.get("raster:bands", []):
            band[key] = ["none"]
    path.write_text(json.dumps(document))
    with pytest.raises(MetadataError):
        read_scene(path)


def test_placeholder_view_angle_is_not_taken(tmp_path):
    scene = read_scene(earth_search_item(tmp_path, make_dn(), **{"view:off_nadir": 0}))
    assert "viewZenithMean" not in scene.bands.values


def test_missing_asset_is_a_missing_band(tmp_path):
    item = planetary_item(tmp_path, make_dn(), **{"s2:processing_baseline": "05.09"})
    document = json.loads(item.read_text())
    del document["assets"]["B8A"]
    item.write_text(json.dumps(document))
    with pytest.raises(MissingBandError):
        read_scene(item)


def test_absent_asset_file_names_the_band_and_path(tmp_path):
    item = planetary_item(tmp_path, make_dn(), **{"s2:processing_baseline": "05.09"})
    (tmp_path / "B06.tif").unlink()
    with pytest.raises(UnreadableProductError, match=r"B06: cannot read .*B06\.tif"):
        read_scene(item)


@pytest.mark.parametrize("text", ['{"type": "Topology"}', "[]", "{", '{"type": "Feature"}'])
def test_what_is_no_item_is_refused(tmp_path, text):
    path = tmp_path / "item.json"
    path.write_text(text)
    with pytest.raises(UnreadableProductError):
        read_scene(path)


@pytest.fixture
def loopback(tmp_path):
    """Serve a folder on the loopback interface."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_args) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_item_over_http_resolves_relative_hrefs(tmp_path, loopback):
    dn = make_dn()
    planetary_item(tmp_path / "c", dn, **{"s2:processing_baseline": "05.09"})
    scene = read_scene(f"{loopback}/c/item.json")
    np.testing.assert_allclose(reflectance(scene, "B07"), dn["B07"] * 1e-4 - 0.1, atol=1e-6)


def test_href_that_is_not_answered_is_one_clear_error(loopback):
    with pytest.raises(UnreadableProductError):
        read_scene(f"{loopback}/absent.json")
    with pytest.raises(UnreadableProductError):
        read_scene(f"{loopback}/absent.tif")


REAL_ITEMS = {
    # offsets by the Item and its baseline: boa_offset_applied, N0214 and older have none
    "Open-EO__openeo-processes-dask__S2A_32TPS_20230602_0_L2A": 0.0,
    "opendatacube__odc-stac__S2A_28QCH_20200714_0_L2A": 0.0,
    "opendatacube__odc-stac__S2B_MSIL2A_20190629T212529_R043_T06VVN_20201006T080531": 0.0,
    "stac-utils__stac-geoparquet__S2B_MSIL2A_20220612T182919_R027_T24XWR_20220613T123251": -0.1,
    "stactools-packages__sentinel2__S2A_OPER_MSI_L2A_TL_2APS_20240108T121951_A044635_T34VEL": -0.1,
    "stactools-packages__sentinel2__S2A_OPER_MSI_L2A_TL_SGS__20181231T210250_A018414_T10SDG": 0.0,
    "stactools-packages__sentinel2__S2A_T01KAB_20230821T221944_L2A": -0.1,
    "stactools-packages__sentinel2__S2A_T01WCP_20230625T234624_L2A": -0.1,
    "stactools-packages__sentinel2__S2A_T07HFE_20190212T192646_L2A": 0.0,
}


@pytest.mark.shared
@pytest.mark.parametrize("name", REAL_ITEMS)
def test_real_items_yield_every_band_at_20_or_10_m(shared_data: Path, name):
    chosen = choose_assets(read_item(str(shared_data / "metadata" / f"stac__{name}.json")))
    assert set(chosen) == {*BANDS, "SCL"}
    for band, asset in chosen.items():
        assert f"{band}" in asset.href.rsplit("/", 1)[-1]
        assert asset.resolution_m in ((20, 10) if band in TEN_METRE else (20,))
        assert asset.index == 1


@pytest.mark.shared
@pytest.mark.parametrize(("name", "offset"), REAL_ITEMS.items())
def test_real_items_are_read_with_their_offset(tmp_path, shared_data: Path, name, offset):
    source = shared_data / "metadata" / f"stac__{name}.json"
    document = json.loads(source.read_text())
    chosen = choose_assets(read_item(str(source)))
    dn = make_dn()
    layers = dn | {"SCL": np.full((SIZE, SIZE), 4, "uint8")}
    for band, asset in chosen.items():
        fine = asset.resolution_m == 10
        layer = layers[band].repeat(2, 0).repeat(2, 1) if fine else layers[band]
        write_raster(tmp_path / f"{band}.tif", layer, pixel=asset.resolution_m)
        for entry in document["assets"].values():
            if asset.href.endswith(entry["href"].removeprefix("./").removeprefix("../../../")):
                entry["href"] = f"./{band}.tif"
    (tmp_path / "item.json").write_text(json.dumps(document))
    scene = read_scene(tmp_path / "item.json")
    for band in BANDS:
        expected = dn[band] * 1e-4 + offset
        np.testing.assert_allclose(reflectance(scene, band), expected, atol=1e-6)
    assert scene.attrs["datetime"][:10] == document["properties"]["datetime"][:10]
    assert scene.attrs["platform"] in ("sentinel-2a", "sentinel-2b")
