"""Scenes on disk -> cubes."""

import dataclasses
import json
import shutil

import dask
import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio.warp import transform_bounds

from backend.conftest import NORTH, OFFSET, SCALE, STEP, WEST
from lai_backend.collections import describe_collection, find_collections, read_scenes
from lai_backend.errors import AccessError, NoDataError, ParameterError, SourceError
from lai_backend.extents import parse_spatial_extent, parse_temporal_extent, wrapped_boxes
from lai_backend.loading import LoadRequest, load_cube, plan_cube
from lai_backend.server import LocalCatalog
from lai_backend.settings import BackendSettings
from lai_backend.sources import read_scene, walk_items

ALL_TIME = parse_temporal_extent(None)


@pytest.fixture(autouse=True)
def _one_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.fixture
def scenes(tiny):
    return read_scenes(tiny.folder / "TINY" / "collection.json", [tiny.folder])


def box(left: float, top: float, right: float, bottom: float, crs: int = 32633):
    """Return an extent given in pixels of the collection."""
    bounds = (WEST + left * STEP, NORTH - bottom * STEP, WEST + right * STEP, NORTH - top * STEP)
    if crs != 32633:
        bounds = transform_bounds(32633, crs, *bounds, densify_pts=21)
    west, south, east, north = bounds
    extent = {"west": west, "south": south, "east": east, "north": north, "crs": crs}
    return parse_spatial_extent(extent)


def load(scenes, region=None, span=ALL_TIME, bands=None, margin=0, pixel=None):
    plan = plan_cube(scenes, LoadRequest(span, region, bands, margin, pixel), "TINY")
    return load_cube(plan).compute()


def test_digital_numbers_come_without_offset_and_no_data_is_nan(tiny, scenes):
    cube = load(scenes)
    assert cube.dtype == np.float32
    assert cube.dims == ("t", "bands", "y", "x")
    np.testing.assert_array_equal(cube, tiny.reflectance)
    assert cube["bands"].values.tolist() == ["B04", "B08", "SCL"]


def test_coordinates_are_cell_centres(scenes):
    cube = load(scenes)
    assert (cube["x"][0], cube["y"][0]) == (WEST + STEP / 2, NORTH - STEP / 2)
    assert cube.rio.crs.to_epsg() == 32633
    assert cube.rio.transform().c == WEST


def test_bands_come_in_the_order_asked_for(tiny, scenes):
    cube = load(scenes, bands=("SCL", "B04"))
    np.testing.assert_array_equal(cube, tiny.reflectance[:, [2, 0]])


def test_extents_are_snapped_outward(tiny, scenes):
    cube = load(scenes, box(10.4, 20.0, 29.1, 50.6))
    np.testing.assert_array_equal(cube, tiny.reflectance[:, :, 20:51, 10:30])


def test_extent_on_pixel_edges_takes_no_further_pixel(tiny, scenes):
    np.testing.assert_array_equal(load(scenes, box(10, 20, 30, 50)).shape[-2:], (30, 20))


def test_extent_in_degrees_covers_what_was_asked_for(scenes):
    cube = load(scenes, box(40, 40, 60, 70, crs=4326))
    left, bottom, right, top = cube.rio.bounds()
    assert left <= WEST + 40 * STEP
    assert right >= WEST + 60 * STEP
    assert top >= NORTH - 40 * STEP
    assert bottom <= NORTH - 70 * STEP
    assert cube.sizes["x"] <= 23
    assert cube.sizes["y"] <= 33


def test_a_polygon_as_extent_lies_in_the_projection_that_it_names(scenes):
    region = box(40, 40, 60, 70)
    named = {"type": "name", "properties": {"name": "EPSG:32633"}}
    polygon = parse_spatial_extent({**region.json, "crs": named})
    assert load(scenes, polygon).rio.bounds() == load(scenes, region).rio.bounds()


def test_extent_beyond_the_data_is_nan_there(tiny, scenes):
    cube = load(scenes, box(-5, -3, 20, 20))
    assert cube.shape[-2:] == (23, 25)
    assert np.isnan(cube[..., :3, :]).all()
    assert np.isnan(cube[..., :5]).all()
    np.testing.assert_array_equal(cube[..., 3:, 5:], tiny.reflectance[:, :, :20, :20])


def test_margin_adds_real_neighbours(tiny, scenes):
    cube = load(scenes, box(30, 30, 40, 40), margin=16)
    np.testing.assert_array_equal(cube, tiny.reflectance[:, :, 14:56, 14:56])


@pytest.mark.parametrize(("pixel", "margin_px"), [(20, 2), (60, 6), (10, 1), (30, 3), (8, 2)])
def test_extents_and_margins_count_in_the_pixels_that_follow(tiny, scenes, pixel, margin_px):
    # One row and column beyond a whole pixel of 60 m; the margin is 2 pixels of the new size.
    region = box(31, 16, 40, 25)
    plain = load(scenes, region, pixel=pixel)
    wide = load(scenes, region, margin=2, pixel=pixel)
    assert wide.sizes["x"] - plain.sizes["x"] == 2 * margin_px
    for cube in (plain, wide):
        corner = (cube.rio.transform().c - WEST, NORTH - cube.rio.transform().f)
        if pixel % STEP == 0:
            assert [edge % pixel for edge in corner] == [0, 0]
            assert (cube.sizes["x"] * STEP) % pixel == 0
    inner = wide.isel(y=slice(margin_px, -margin_px), x=slice(margin_px, -margin_px))
    np.testing.assert_array_equal(inner, plain)


def test_the_margin_adds_no_dates(tiny, scenes, tmp_path):
    shutil.copytree(tiny.folder / "TINY", tmp_path / "TINY")
    for path in sorted((tmp_path / "TINY" / "2024-06-11").glob("*.tif")):
        with rasterio.open(path, "r+") as dataset:  # that day lies 100 px further east
            dataset.transform = dataset.transform * dataset.transform.translation(100, 0)
    moved = read_scenes(tmp_path / "TINY" / "collection.json", [tmp_path])
    west = load(moved, box(80, 0, 95, 20), margin=16)
    assert [str(day)[:10] for day in west["t"].values] == ["2024-06-01", "2024-06-21"]
    assert load(moved, box(80, 0, 105, 20), margin=16).sizes["t"] == 3


def test_end_of_the_temporal_extent_is_exclusive(scenes):
    cube = load(scenes, span=parse_temporal_extent(["2024-06-01", "2024-06-21"]))
    assert [str(day)[:10] for day in cube["t"].values] == ["2024-06-01", "2024-06-11"]


@pytest.mark.parametrize(
    ("region", "span"),
    [
        (box(5000, 0, 5010, 10), ALL_TIME),
        (None, parse_temporal_extent(["2020-01-01", "2020-02-01"])),
    ],
)
def test_an_empty_extent_is_a_clear_error(scenes, region, span):
    with pytest.raises(NoDataError):
        load(scenes, region, span)


def test_an_unknown_band_names_the_known_ones(scenes):
    with pytest.raises(ParameterError, match=r"no band B99; its bands are B04, B08, SCL"):
        load(scenes, bands=("B99",))


@pytest.mark.parametrize(
    "extent",
    [
        {"west": 1, "south": 2, "east": 0, "north": 3},
        {"west": 1, "south": 2},
        {"west": 1, "south": 2, "east": 3, "north": 4, "crs": "EPSG:99999"},
    ],
)
def test_a_wrong_spatial_extent_is_refused(extent):
    with pytest.raises(ParameterError):
        parse_spatial_extent(extent)


@pytest.mark.parametrize("extent", [["2024-06-02", "2024-06-01"], ["June", None], "2024", [1]])
def test_a_wrong_temporal_extent_is_refused(extent):
    with pytest.raises(ParameterError):
        parse_temporal_extent(extent)


def test_tiles_of_one_day_become_one_date(tiny, scenes, tmp_path):
    first = scenes[0]
    place = tmp_path / "east.tif"
    with rasterio.open(first.bands["B04"].href) as dataset:
        profile, values = dataset.profile, dataset.read()
    profile["transform"] *= rasterio.Affine.translation(140, 0)
    with rasterio.open(place, "w", **profile) as dataset:
        dataset.write(values)
    item = {
        "id": "east",
        "properties": {"datetime": "2024-06-01T10:20:44Z"},
        "assets": {"B04": {"href": str(place), "type": "image/tiff"}},
    }
    east = read_scene(item, [tmp_path.resolve()])
    cube = load([first, east], bands=("B04",))
    assert cube.shape == (1, 1, 131, 290)
    west = cube[0, 0, :, :150].values
    known = ~np.isnan(tiny.reflectance[0, 0])
    np.testing.assert_array_equal(west[known], tiny.reflectance[0, 0][known])
    np.testing.assert_array_equal(  # this item declares no offset
        cube[0, 0, :, 150:], tiny.reflectance[0, 0, :, 10:] - OFFSET / SCALE
    )


def test_coarser_bands_are_brought_to_the_finest_grid(scenes, tmp_path):
    place = tmp_path / "coarse.tif"
    with rasterio.open(scenes[0].bands["SCL"].href) as dataset:
        profile, values = dataset.profile, dataset.read()[:, ::2, ::2]
    profile.update(height=values.shape[1], width=values.shape[2])
    profile["transform"] *= rasterio.Affine.scale(2)
    with rasterio.open(place, "w", **profile) as dataset:
        dataset.write(values)
    item = {
        "id": "both",
        "properties": {"datetime": "2024-06-01T10:20:44Z"},
        "assets": {
            "fine": {"href": scenes[0].bands["B04"].href, "bands": [{"name": "fine"}]},
            "coarse": {"href": str(place)},
        },
    }
    cube = load([read_scene(item, [tmp_path.resolve(), tmp_path.parent.parent])])
    np.testing.assert_array_equal(cube[0, 1], values[0].repeat(2, 0).repeat(2, 1)[:131])


def test_an_unreadable_asset_is_named(scenes, tmp_path):
    broken = tmp_path / "broken.tif"
    broken.write_bytes(b"not a picture")
    item = {
        "id": "x",
        "properties": {"datetime": "2024-06-01"},
        "assets": {"B04": {"href": str(broken)}},
    }
    with pytest.raises(SourceError, match=r"broken\.tif"):
        load([read_scene(item, [tmp_path.resolve()])])


def test_items_without_a_raster_are_refused(scenes):
    with pytest.raises(SourceError):
        load([dataclasses.replace(scene, bands={}) for scene in scenes])


def test_items_are_found_behind_an_item_or_a_collection(tiny, tmp_path):
    home = tiny.folder / "TINY"
    item = home / "2024-06-01" / "scene-2024-06-01.json"
    assert [found["id"] for found in walk_items(str(item), [tiny.folder])] == ["scene-2024-06-01"]
    collection = json.loads((home / "collection.json").read_text())
    collection["links"] = [{"rel": "item", "href": str(item)}]
    place = tmp_path / "linked.json"
    place.write_text(json.dumps(collection))
    found = walk_items(place.as_uri(), [tiny.folder.resolve(), tmp_path.resolve()])
    assert [one["id"] for one in found] == ["scene-2024-06-01"]


def test_files_outside_the_allowed_folders_are_not_read(tiny, tmp_path):
    home = tiny.folder / "TINY" / "2024-06-01"
    with pytest.raises(AccessError):
        list(walk_items("file:///etc/passwd", [tiny.folder]))
    shutil.copy(home / "scene-2024-06-01.json", tmp_path / "copy.json")
    (tmp_path / "reflectance.tif").symlink_to("/etc/passwd")
    item = next(iter(walk_items(str(tmp_path / "copy.json"), [tmp_path.resolve()])))
    with pytest.raises(AccessError):
        read_scene(item, [tmp_path.resolve()])


def test_collection_description_is_completed_from_its_items(tiny):
    found = find_collections([tiny.folder])
    description = describe_collection(found["TINY"], [tiny.folder])
    assert description["cube:dimensions"]["bands"]["values"] == ["B04", "B08", "SCL"]
    scales = [band.get("raster:scale") for band in description["summaries"]["bands"]]
    assert scales == [0.0001, 0.0001, None]


def test_an_asset_that_names_other_files_is_refused(scenes, tmp_path):
    place = tmp_path / "bait.tif"  # GDAL goes by the content, not by the name
    with rasterio.open(scenes[0].bands["B04"].href) as dataset:
        rasterio.shutil.copy(dataset, place, driver="VRT")
    item = {
        "id": "x",
        "properties": {"datetime": "2024-06-01"},
        "assets": {"B04": {"href": str(place)}},
    }
    with pytest.raises(SourceError):
        load([read_scene(item, [tmp_path.resolve()])])


def test_products_of_both_baselines_come_on_one_scale(tiny, scenes, tmp_path):
    shutil.copytree(tiny.folder / "TINY", tmp_path / "TINY")
    home = tmp_path / "TINY" / "2024-06-01"  # as before baseline 04.00: no offset
    text = (home / "scene-2024-06-01.json").read_text()
    (home / "scene-2024-06-01.json").write_text(
        text.replace('"raster:offset": -0.1', '"unit": "1"')
    )
    with rasterio.open(home / "reflectance.tif", "r+") as dataset:
        values = dataset.read()
        dataset.write(np.where(values == 0, 0, values + 1000).astype("uint16"))
    cube = load(read_scenes(tmp_path / "TINY" / "collection.json", [tmp_path]), bands=("B04",))
    expected = tiny.reflectance[:, 0].copy()
    expected[0] += 2000
    np.testing.assert_allclose(cube[:, 0], expected, atol=1e-30)


def test_an_offset_that_is_in_the_pixels_already_is_not_applied(tiny):
    path = tiny.folder / "TINY" / "2024-06-01" / "scene-2024-06-01.json"
    (item,) = walk_items(str(path), [tiny.folder])
    for applied, is_zero in ((True, True), ("true", True), ("false", False), (False, False)):
        item["properties"]["earthsearch:boa_offset_applied"] = applied
        assert (read_scene(item, [tiny.folder]).bands["B04"].offset == 0) == is_zero


@pytest.mark.parametrize("west", [179.9, -180.1])
def test_areas_across_the_antimeridian_are_asked_for_in_two_parts(west):
    extent = {"west": west, "south": 10, "east": -179.9, "north": 11}
    boxes = wrapped_boxes(parse_spatial_extent(extent))
    np.testing.assert_allclose(boxes, [(179.9, 10, 180, 11), (-180, 10, -179.9, 11)])
    utm = {"west": 450_000, "south": 7e6, "east": 460_000, "north": 7.1e6, "crs": 32601}
    (box_of_zone_1,) = wrapped_boxes(parse_spatial_extent(utm))
    assert -178.2 < box_of_zone_1[0] < box_of_zone_1[2] < -177


def test_items_across_the_antimeridian_are_found_on_both_sides(tiny, tmp_path):
    folder = shutil.copytree(tiny.folder, tmp_path / "collections")
    path = folder / "TINY" / "2024-06-01" / "scene-2024-06-01.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"bbox": [179.6, -17, -179.8, -16]}))
    catalog = LocalCatalog(BackendSettings(collection_dirs=(folder,), data_dir=tmp_path))
    boxes = ("179.7,-17,179.9,-16", "-179.9,-17,-179.85,-16", "-90,-17,-80,-16")
    found = [catalog.get_collection_items("TINY", {"bbox": box})["features"] for box in boxes]
    assert [[item["id"] for item in features] for features in found] == [
        ["scene-2024-06-01"],
        ["scene-2024-06-01"],
        [],
    ]


def test_bands_of_several_pixel_sizes_are_loaded_with_a_warning(scenes, tmp_path, caplog):
    place = tmp_path / "coarse.tif"
    with rasterio.open(scenes[0].bands["SCL"].href) as dataset:
        profile, values = dataset.profile, dataset.read()[:, ::2, ::2]
    profile.update(height=values.shape[1], width=values.shape[2])
    profile["transform"] *= rasterio.Affine.scale(2)
    with rasterio.open(place, "w", **profile) as dataset:
        dataset.write(values)
    fine = scenes[0].bands["B04"]
    sources = {"B04": fine, "B05": dataclasses.replace(fine, href=str(place), index=1)}
    load([dataclasses.replace(scenes[0], bands=sources)])
    (warning,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "B05 (40)" in warning.getMessage()
