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
from lai_stac.errors import DescriptionError, OutputError, RasterError
from lai_stac.footprint import bounding_box, outline, to_wgs84
from lai_stac.identity import item_id
from lai_stac.item import build_item, describe, write_item
from lai_stac.validation import validate_item
from lai_udf.grid import Grid
from lai_udf.zonal import usable_pixels


def test_item_is_valid_stac_with_our_fields(item):
    validate_item(item)
    assert item.id == "lai_s2_32tqm_20240621t103629_0-1-0"
    assert item.properties["platform"] == "sentinel-2a"
    assert item.properties["grid:code"] == "MGRS-32TQM"
    assert item.properties["proj:code"] == "EPSG:32632"
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


def test_id_is_searchable_and_tells_place_time_model_and_target():
    when = "2024-06-21T12:36:29+02:00"
    assert item_id(datetime=when, model_version="1.2.0-rc.1", mgrs_tile="T5QKB") == (
        "lai_s2_05qkb_20240621t103629_1-2-0-rc-1"
    )
    field = item_id(datetime=when, model_version="1.2.0", grid=UTM32, target="field")
    assert re.fullmatch(r"lai_s2_[0-9a-f]{8}_20240621t103629_1-2-0_field", field)


def test_id_differs_between_grids():
    moved = Grid(UTM32.crs, UTM32.transform @ Affine.translation(1, 0), SIDE_PX, SIDE_PX)
    ids = {
        item_id(datetime=ARGUMENTS["datetime"], model_version="1.0.0", grid=g)
        for g in (UTM32, moved)
    }
    assert len(ids) == 2


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
            assert asset.extra_fields.get("raster:scale", 1.0) == dataset.scales[0]
            assert asset.extra_fields["proj:shape"] == list(dataset.shape)
            assert asset.extra_fields["proj:transform"] == list(dataset.transform[:6])
            assert asset.roles == ["data"]  # "overview" would hide it from odc-stac


def test_flag_bits_are_those_of_the_udf(item):
    from lai_udf import predict

    values = {
        entry["name"]: 1 << entry["offset"]
        for entry in item.assets["lai_flags"].extra_fields["classification:bitfields"]
    }
    assert values == {
        "input_out_of_domain": predict.INPUT_OUT_OF_DOMAIN,
        "clipped_to_min": predict.CLIPPED_TO_MIN,
        "clipped_to_max": predict.CLIPPED_TO_MAX,
        "output_too_low": predict.OUTPUT_TOO_LOW,
        "output_too_high": predict.OUTPUT_TOO_HIGH,
        "cloud_within_reach": predict.CLOUD_NEAR,
        "nodata_within_reach": predict.NO_DATA_NEAR,
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
    assert item.properties["processing:expression"] == {"format": "openeo", "expression": graph}
    assert item.properties["processing:facility"] == "openEO back-end"
    assert set(item.properties["processing:software"]) == {
        *("openeo-driver", "sentinel2-lai", "sentinel2-lai-seamless"),
    }
    assert item.properties["created"] == "2024-07-01T00:00:00Z"


def test_point_estimate_claims_no_monte_carlo(product):
    item = build_item(product, **ARGUMENTS)
    assert fields.MC_SAMPLES not in item.properties
    assert item.assets["lai_sd"].extra_fields[fields.UNCERTAINTY_METHOD] == "heteroscedastic"


def test_empty_standard_deviation_claims_nothing(tmp_path, layers):
    layers["LAI_SD"][:] = np.nan
    spread = build_item(write_product(tmp_path, layers), **ARGUMENTS).assets["lai_sd"]
    assert not [name for name in spread.extra_fields if name.startswith("laiq:")]
    assert "no Monte-Carlo draws" in spread.title


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
    with pytest.raises(RasterError, match="not one pixel was observed"):
        build_item(write_product(tmp_path, layers), **ARGUMENTS)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"datetime": "2024-06-21T10:36:29"}, "no time zone"),
        ({"datetime": "yesterday"}, "no ISO 8601 time"),
        ({"mgrs_tile": "99ZZZ"}, "no MGRS tile"),
        ({"target": "truth"}, "target 'truth' is unknown"),
        ({"samples": 1}, "at least 2 draws"),
        ({"model": {"id": "m", "properties": {}}}, "lacks model_id, model_version, output"),
    ],
)
def test_description_that_makes_no_sense_is_refused(product, changes, sentence):
    with pytest.raises(DescriptionError, match=sentence):
        build_item(product, **{**ARGUMENTS, **changes})


def test_missing_and_damaged_rasters_are_named(product):
    (product / "lai_upper.tif").unlink()
    with pytest.raises(RasterError, match=r"lacks lai_upper\.tif"):
        build_item(product, **ARGUMENTS)
    shutil.copy(product / "lai_lower.tif", product / "lai_upper.tif")
    (product / "lai.tif").write_bytes(b"not a tiff")
    with pytest.raises(RasterError, match=r"lai\.tif"):
        build_item(product, **ARGUMENTS)


def test_item_that_cannot_be_written_leaves_the_folder_as_it_was(item, tmp_path, monkeypatch):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / f"{item.id}.json").write_text("before")

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(OutputError, match="No space left"):
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
    assert item.id.endswith("_field")
    assert item.properties[fields.TARGET] == "field"
    assert "field LAI" in item.properties["processing:lineage"]
