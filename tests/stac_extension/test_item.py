"""From COGs to an Item: ids, footprint, assets, provenance, and what is refused."""

import copy
import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio
import shapely
from affine import Affine
from fake_lai import ARGUMENTS, MODEL, SIDE_PX, UTM32, write_product
from rasterio.crs import CRS
from rasterio.warp import transform as transform_points

from lai_stac import fields
from lai_stac.errors import DescriptionError, LaiStacError, OutputError, RasterError
from lai_stac.item import build_item, describe, describe_cube, write_item
from lai_stac.product import bounding_box, outline, to_wgs84
from lai_stac.validation import validate_item
from lai_udf import predict
from lai_udf.bundle import open_bundle
from lai_udf.cog import write_lai_cogs
from lai_udf.grid import Grid
from lai_udf.zonal import usable_pixels


def test_item_is_valid_stac_with_our_fields(item):
    validate_item(item)
    assert re.fullmatch(r"lai_s2_32tqm_20240621t103629_0-1-0_mc8_[0-9a-f]{8}", item.id)
    assert item.properties["platform"] == "sentinel-2a"
    assert item.properties["grid:code"] == "MGRS-32TQM"
    assert item.properties["proj:code"] == "EPSG:32632"
    assert item.properties["proj:epsg"] == 32632
    assert item.properties["title"] == "Leaf area index, 32TQM, 2024-06-21 10:36, 8 draws"
    assert item.properties["renders"]["lai"]["rescale"] == [[0, 6000]]
    assert item.properties[fields.TARGET] == "sl2p"
    assert item.properties[fields.MC_SAMPLES] == 8
    assert item.properties[fields.MODEL_CHECKSUM] == MODEL["assets"]["model"]["file:checksum"]
    coverage = {"0.68": 0.7, "0.9": 0.89, "0.95": 0.94}
    assert item.properties[fields.CALIBRATION]["coverage"] == coverage
    assert set(item.assets) == {
        *("lai", "lai_sd", "lai_lower", "lai_upper", "lai_flags", "thumbnail"),
    }


def test_statistics_are_those_of_the_stored_pixels(item, layers):
    stored = np.round(layers["LAI"] * 1000) / 1000
    known = stored[usable_pixels(stored, layers["LAI_FLAGS"])]
    assert item.properties[fields.LAI_MEAN] == pytest.approx(known.mean(), abs=1e-3)
    assert item.properties[fields.LAI_P95] == pytest.approx(np.quantile(known, 0.95), abs=2e-3)
    statistics = item.assets["lai"].to_dict()["bands"][0]["statistics"]
    assert statistics["maximum"] == pytest.approx(known.max(), abs=1e-3)
    assert statistics["count"] == known.size


def test_describing_twice_gives_the_same_item(product):
    arguments = {**ARGUMENTS, "mgrs_tile": "32TQM", "samples": 8, "seed": 1}
    first = describe(product, **arguments).read_bytes()
    assert describe(product, **arguments).read_bytes() == first


DIFFERENT = {
    "time": {"datetime": "2024-06-21T10:36:30Z"},
    "product": {"sources": ["S2A_MSIL2A_20240621T103629_N0510_R008_T32TQM_20240621T151234"]},
    "target": {"target": "field"},
    "draws": {"samples": 8, "seed": 0},
    "seed": {"samples": 8, "seed": 1},
    "level": {"settings": {"level": 0.68}},
    "tile": {"mgrs_tile": "32TQM"},
}


def test_the_calibration_of_the_shipped_bundle_is_in_the_item(product):
    description = open_bundle().description
    calibration = build_item(product, **ARGUMENTS | {"model": description}).properties[
        fields.CALIBRATION
    ]
    known = description["properties"]["lai:contract"]["calibration"]
    assert calibration["applied"]
    assert calibration["n"] == known["n_pairs"]
    scores = known["scores_left_out_site_dates"]["sl2p"]
    assert calibration["coverage"]["0.95"] == scores["coverage"]


def test_different_results_have_different_ids(product):
    ids = {build_item(product, **ARGUMENTS | change).id for change in DIFFERENT.values()}
    assert len(ids | {build_item(product, **ARGUMENTS).id}) == len(DIFFERENT) + 1


def test_id_differs_between_grids(tmp_path, layers):
    moved = Grid(UTM32.crs, UTM32.transform @ Affine.translation(1, 0), SIDE_PX, SIDE_PX)
    products = [write_product(tmp_path / str(n), layers, g) for n, g in enumerate((UTM32, moved))]
    assert len({build_item(folder, **ARGUMENTS).id for folder in products}) == 2


def test_a_run_has_named_its_result_already(product):
    assert build_item(product, **ARGUMENTS, result_id="lai_s2_x_1").id == "lai_s2_x_1"


def test_a_crs_without_a_code_is_written_as_text(tmp_path, layers):
    crs = CRS.from_proj4("+proj=laea +lat_0=45.3 +lon_0=9.7 +datum=WGS84 +units=m")
    grid = Grid(crs, Affine(20, 0, 0, 0, -20, 0), SIDE_PX, SIDE_PX)
    properties = build_item(write_product(tmp_path, layers, grid), **ARGUMENTS).properties
    assert properties["proj:code"] is None
    assert properties["proj:epsg"] is None
    assert CRS.from_wkt(properties["proj:wkt2"]) == crs


def test_without_a_tile_the_title_gives_the_place(product):
    title = build_item(product, **ARGUMENTS, target="field").properties["title"]
    assert title == "Leaf area index (field), 45.14°N 10.28°E, 2024-06-21 10:36"


def test_the_cloud_fraction_of_an_item_may_be_unknown(product, caplog):
    item = build_item(product, **ARGUMENTS, scene_classification=False)
    assert item.properties[fields.CLOUD_FRACTION] is None
    assert "scene classification" in caplog.text


def test_a_mosaic_has_a_start_and_an_end(product):
    item = build_item(product, **ARGUMENTS, end_datetime="2024-06-21T10:36:43Z")
    assert item.properties["start_datetime"] == "2024-06-21T10:36:29Z"
    assert item.properties["end_datetime"] == "2024-06-21T10:36:43Z"


def test_a_result_in_memory_becomes_a_folder_of_its_own(tmp_path, layers):
    cube = UTM32.to_data_array(np.stack(list(layers.values())), list(layers))
    folder = describe_cube(cube, tmp_path, **ARGUMENTS)
    assert {path.name for path in folder.iterdir()} == {
        *("lai.tif", "lai_sd.tif", "lai_lower.tif", "lai_upper.tif", "lai_flags.tif"),
        *("thumbnail.png", f"{folder.name}.json"),
    }
    with pytest.raises(LaiStacError):
        describe_cube(cube, tmp_path, **ARGUMENTS)
    assert describe_cube(cube, tmp_path, replace=True, **ARGUMENTS) == folder
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_footprint_follows_the_data_not_the_bounding_box(item):
    footprint = shapely.geometry.shape(item.geometry)
    box = shapely.box(*item.bbox)
    # A triangle of 16 px legs (120 px) is missing from 48 x 48 px: 5.2 % of the area.
    assert footprint.area / box.area == pytest.approx(1 - 120 / SIDE_PX**2, abs=0.03)
    corner, centre, cloud = ((1, 1), (24, 24), (36, 36))
    assert not footprint.contains(shapely.Point(*position(*corner)))
    assert footprint.contains(shapely.Point(*position(*centre)))
    assert footprint.contains(shapely.Point(*position(*cloud)))


def position(row: int, column: int) -> tuple[float, float]:
    x, y = UTM32.transform @ (column + 0.5, row + 0.5)
    longitude, latitude = transform_points(UTM32.crs, "EPSG:4326", [x], [y])
    return longitude[0], latitude[0]


def test_footprint_rings_turn_counter_clockwise(item):
    assert shapely.LinearRing(item.geometry["coordinates"][0]).is_ccw


def test_holes_and_specks_are_not_drawn():
    observed = np.zeros((64, 64), dtype=bool)
    observed[:, 2:] = True
    observed[30:34, 30:34] = False
    observed[5, 0] = True
    shape = outline(observed, UTM32.transform)
    assert shape.geom_type == "Polygon"
    assert len(shape.interiors) == 0
    assert shape.area == pytest.approx(64 * 62 * 400)


def test_large_rasters_are_traced_in_blocks_within_the_raster():
    observed = np.ones((1501, 1101), dtype=bool)
    shape = outline(observed, UTM32.transform)
    assert shape.area == pytest.approx(1501 * 1101 * 400)


def test_footprint_across_the_antimeridian_is_cut_there():
    shape = outline(np.ones((50, 50), dtype=bool), Affine(800, 0, 380_000, 0, -800, 8_000_000))
    geometry = to_wgs84(shape, CRS.from_epsg(32601), 800)
    west, _, east, _ = bounding_box(geometry)
    assert geometry["type"] == "MultiPolygon"
    assert west > 179
    assert east < -179


def test_long_edges_follow_the_projection():
    shape = outline(np.ones((1098, 1098), dtype=bool), Affine(100, 0, 199_980, 0, -100, 7_800_000))
    drawn = shapely.geometry.shape(to_wgs84(shape, CRS.from_epsg(32632), 100))
    x, y = [199_980 + 54_900], [7_800_000 - 10.0]  # just inside the middle of the northern edge
    longitude, latitude = transform_points(CRS.from_epsg(32632), "EPSG:4326", x, y)
    assert drawn.contains(shapely.Point(longitude[0], latitude[0]))


def test_checksum_and_size_are_those_of_the_files(item, product):
    for key in ("lai", "lai_flags", "thumbnail"):
        asset = item.assets[key]
        content = (product / asset.href).read_bytes()
        assert asset.extra_fields["file:checksum"] == "1220" + hashlib.sha256(content).hexdigest()
        assert asset.extra_fields["file:size"] == len(content)


def test_assets_state_the_encoding_of_their_files(item, product):
    for key, asset in item.assets.items():
        if key == "thumbnail":
            continue
        with rasterio.open(product / asset.href) as dataset:
            band = asset.extra_fields["bands"][0]
            assert band["data_type"] == dataset.dtypes[0]
            assert band.get("nodata") == dataset.nodata
            assert band.get("raster:scale", 1.0) == dataset.scales[0]
            older = asset.extra_fields["raster:bands"][0]
            assert older.get("scale", 1.0) == dataset.scales[0]
            assert older.get("nodata") == dataset.nodata
            assert asset.extra_fields["proj:shape"] == list(dataset.shape)
            assert asset.extra_fields["proj:transform"] == list(dataset.transform[:6])
            assert asset.roles == ["data"]  # "overview" would hide it from odc-stac


def test_flag_bits_are_those_of_the_udf(item):
    values = {
        entry["name"]: 1 << entry["offset"]
        for entry in item.assets["lai_flags"].extra_fields["classification:bitfields"]
    }
    assert values == {
        "input_out_of_domain": predict.INPUT_OUT_OF_DOMAIN,
        "clipped_to_minimum": predict.CLIPPED_TO_MIN,
        "clipped_to_maximum": predict.CLIPPED_TO_MAX,
        "output_too_low": predict.OUTPUT_TOO_LOW,
        "output_too_high": predict.OUTPUT_TOO_HIGH,
        "cloud_near": predict.CLOUD_NEAR,
        "no_data_near": predict.NO_DATA_NEAR,
        "residual_cloud_haze_or_shadow": predict.RESIDUAL_CLOUD,
    }


def test_provenance_names_scene_model_graph_and_job(product):
    graph = {"load": {"process_id": "load_stac", "arguments": {}, "result": True}}
    job = {
        "type": "Collection",
        "links": [{"rel": "derived_from", "href": "https://x.org/items/S2A_2"}, {"rel": "self"}],
        "processing:facility": "openEO back-end",
        "processing:software": {"openeo-driver": "0.136"},
    }
    item = build_item(
        product,
        **ARGUMENTS,
        scene_href="https://x.org/items/S2A_1",
        process_graph=graph,
        job_metadata=job,
        model_href="https://x.org/models/seamless.json",
        created="2024-07-01T00:00:00Z",
    )
    links = item.get_links("derived_from")
    assert [link.href for link in links] == [
        "https://x.org/items/S2A_1",
        "https://x.org/items/S2A_2",
        "https://x.org/models/seamless.json",
    ]
    assert links[2].extra_fields["mlm:name"] == "sentinel2-lai-seamless"
    (link,) = item.get_links("processing-expression")
    assert json.loads((product / link.href).read_text()) == graph
    assert item.properties["processing:facility"] == "openEO back-end"
    assert set(item.properties["processing:software"]) == {
        *("openeo-driver", "sentinel2-lai", "sentinel2-lai-seamless"),
    }
    assert item.properties["created"] == "2024-07-01T00:00:00Z"


def test_point_estimate_claims_no_monte_carlo(product):
    item = build_item(product, **ARGUMENTS)
    assert fields.MC_SAMPLES not in item.properties
    assert item.assets["lai_sd"].extra_fields[fields.UNCERTAINTY_METHOD] == "other"
    assert not re.search(r"\d+ Monte-Carlo draws", item.assets["lai_sd"].title)


def test_empty_standard_deviation_claims_nothing(tmp_path, layers):
    layers["LAI_SD"][:] = np.nan
    spread = build_item(write_product(tmp_path, layers), **ARGUMENTS).assets["lai_sd"]
    assert not [name for name in spread.extra_fields if name.startswith("laiq:")]
    assert "empty" in spread.title


def test_further_variables_are_assets_with_their_own_encoding(tmp_path, layers):
    share = (layers["LAI"] / 8).astype("float32")
    more = {"FAPAR": share, "FAPAR_LOWER": share / 2, "CCC": layers["LAI"] * 40, "CWC": share / 20}
    cube = UTM32.to_data_array(np.stack([*layers.values(), *more.values()]), [*layers, *more])
    write_lai_cogs(cube, tmp_path)
    item = build_item(tmp_path, **ARGUMENTS)
    assert {"lai", "fapar", "fapar_lower", "ccc", "cwc"} <= set(item.assets)
    for band in more:
        described = item.assets[band.lower()].extra_fields["bands"][0]
        assert described["raster:scale"] == predict.VARIABLES[band.partition("_")[0]].scale
        assert described["unit"] == predict.VARIABLES[band.partition("_")[0]].unit
    assert item.properties["renders"]["fapar"]["rescale"] == [[0, 10_000]]
    assert item.id != build_item(write_product(tmp_path / "lai", layers), **ARGUMENTS).id


def test_product_without_standard_deviation_is_described(tmp_path, layers):
    item = build_item(write_product(tmp_path, layers, without=("LAI_SD",)), **ARGUMENTS)
    assert "lai_sd" not in item.assets


def test_scene_under_cloud_is_described_with_a_footprint(tmp_path, layers):
    for band in ("LAI", "LAI_SD", "LAI_LOWER", "LAI_UPPER"):
        layers[band][:] = np.nan
    layers["LAI_FLAGS"][:] = 96
    item = build_item(write_product(tmp_path, layers), **ARGUMENTS)
    assert item.properties[fields.VALID_FRACTION] == 0.0
    assert item.properties[fields.CLOUD_FRACTION] == 1.0
    assert "statistics" not in item.assets["lai"].extra_fields["bands"][0]


def test_scene_without_any_observation_is_refused(tmp_path, layers):
    for band in ("LAI", "LAI_SD", "LAI_LOWER", "LAI_UPPER"):
        layers[band][:] = np.nan
    layers["LAI_FLAGS"][:] = 64
    with pytest.raises(RasterError):
        build_item(write_product(tmp_path, layers), **ARGUMENTS)


@pytest.mark.parametrize(
    "changes",
    [
        {"datetime": "2024-06-21T10:36:29"},
        {"datetime": "yesterday"},
        {"mgrs_tile": "99ZZZ"},
        {"target": "truth"},
        {"samples": 1},
        {"model": {"id": "m", "properties": {}}},
    ],
)
def test_description_that_makes_no_sense_is_refused(product, changes):
    with pytest.raises(DescriptionError):
        build_item(product, **{**ARGUMENTS, **changes})


def test_missing_and_damaged_rasters_are_refused(product):
    (product / "lai_upper.tif").unlink()
    with pytest.raises(RasterError):
        build_item(product, **ARGUMENTS)
    shutil.copy(product / "lai_lower.tif", product / "lai_upper.tif")
    (product / "lai.tif").write_bytes(b"not a tiff")
    with pytest.raises(RasterError):
        build_item(product, **ARGUMENTS)


def test_item_that_cannot_be_written_leaves_the_folder_as_it_was(item, tmp_path, monkeypatch):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / f"{item.id}.json").write_text("before")

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(OutputError):
        write_item(item, folder)
    assert [path.name for path in folder.iterdir()] == [f"{item.id}.json"]
    assert (folder / f"{item.id}.json").read_text() == "before"


def test_written_item_reads_back_with_pystac(item, product):
    path = write_item(item, product)
    again = pystac.Item.from_file(str(path))
    assert Path(again.assets["lai"].get_absolute_href()) == product / "lai.tif"
    document = json.loads(path.read_text())
    assert "self" not in {link["rel"] for link in document["links"]}


def test_target_field_is_a_product_of_its_own(product):
    model = copy.deepcopy(MODEL)
    item = build_item(product, **{**ARGUMENTS, "model": model, "target": "field"})
    assert "_field_" in item.id
    assert item.properties[fields.TARGET] == "field"
    assert "field LAI" in item.properties["processing:lineage"]
