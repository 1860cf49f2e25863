"""Scenes from multiband GeoTIFF: scaling, no data, names, time, extent, and what is refused."""

import csv
from pathlib import Path

import numpy as np
import pytest
import rasterio
from fake_products import BANDS, CORNER, SIZE, make_dn, write_multiband, write_raster
from rasterio.windows import Window

from lai_udf.errors import (
    EmptySceneError,
    EncodingError,
    GridError,
    MetadataError,
    MissingBandError,
    UndeclaredScaleError,
    UnreadableProductError,
)
from lai_udf.grid import Grid
from lai_udf.identity import RunOptions
from lai_udf.predict import ANGLES
from lai_udf.predict import BANDS as CONTRACT_BANDS
from lai_udf.run import run_all
from lai_udf.scenes.geotiff import write_scene_geotiff
from lai_udf.scenes.labels import band_label
from lai_udf.scenes.read import open_scene, read_scene


def test_declared_scale_and_offset_make_reflectance(tmp_path):
    dn = make_dn()
    scene = read_scene(write_multiband(tmp_path / "scene.tif", dn))
    assert scene.dims == ("bands", "y", "x")
    assert scene.dtype == np.float32
    assert tuple(scene.bands.values) == BANDS == CONTRACT_BANDS
    expected = np.stack([dn[band] for band in BANDS]).astype(float) * 1e-4 - 0.1
    assert expected.min() < 0  # digital numbers below 1000 are negative, not wrapped to 6.5
    np.testing.assert_allclose(scene.values, expected, atol=1e-6)


def test_coordinates_are_cell_centres_and_the_crs_is_kept(tmp_path):
    scene = read_scene(write_multiband(tmp_path / "scene.tif", make_dn()))
    assert float(scene.x[0]) == CORNER[0] + 10
    assert float(scene.y[0]) == CORNER[1] - 10
    assert float(scene.y[1]) == CORNER[1] - 30
    assert scene.rio.crs.to_epsg() == 32629


def test_scene_carries_its_metadata(tmp_path):
    name = "S2B_MSIL2A_20170709T094029_N0205_R036_T34VER.tif"
    path = write_multiband(tmp_path / name, make_dn(), tags={})
    attributes = read_scene(path).attrs
    assert attributes == {
        "datetime": "2017-07-09T09:40:29Z",
        "platform": "sentinel-2b",
        "product_id": name.removesuffix(".tif"),
        "processing_baseline": "02.05",
        "reflectance_offset_applied": True,
    }


def test_digital_number_zero_is_no_data(tmp_path):
    dn = make_dn()
    dn["B8A"][3, 5] = 0
    declared = read_scene(write_multiband(tmp_path / "declared.tif", dn))
    undeclared = read_scene(write_multiband(tmp_path / "undeclared.tif", dn, nodata=None))
    for scene in (declared, undeclared):
        assert np.isnan(scene.sel(bands="B8A").values[3, 5])
        assert np.isnan(scene.values).sum() == 1


def test_order_and_spelling_of_the_descriptions_do_not_matter(tmp_path):
    dn = make_dn()
    turned = dict(reversed(dn.items()))
    names = tuple(name.lower().replace("b0", "b") for name in turned)
    path = write_multiband(tmp_path / "turned.tif", turned, descriptions=names)
    straight = read_scene(write_multiband(tmp_path / "straight.tif", dn))
    np.testing.assert_array_equal(read_scene(path).values, straight.values)


@pytest.mark.parametrize(
    ("text", "label"),
    [("B2", "B02"), ("b8a", "B8A"), ("B08", "B08"), ("B09", None), ("B10", None), ("scl", "SCL")],
)
def test_band_labels_are_recognised(text, label):
    assert band_label(text) == label


def test_integers_without_scale_are_refused_with_what_to_set(tmp_path):
    path = write_multiband(tmp_path / "raw.tif", make_dn(), scales=None, offsets=None)
    with pytest.raises(UndeclaredScaleError) as caught:
        read_scene(path)
    assert caught.value.parameter == "reflectance_scale"
    assert "0.0001" in str(caught.value.expected)


@pytest.mark.parametrize("offset", [-0.1, -1000])
def test_caller_may_declare_scale_and_offset(tmp_path, offset):
    dn = make_dn()
    path = write_multiband(tmp_path / "raw.tif", dn, scales=None, offsets=None)
    scene = read_scene(path, reflectance_scale=1e-4, reflectance_offset=offset)
    expected = read_scene(write_multiband(tmp_path / "declared.tif", dn))
    np.testing.assert_allclose(scene.values, expected.values, atol=1e-6)


def test_what_the_caller_declares_goes_before_the_file(tmp_path):
    dn = make_dn()
    path = write_multiband(tmp_path / "scene.tif", dn)
    scene = read_scene(path, reflectance_offset=0)
    np.testing.assert_allclose(scene.sel(bands="B02"), dn["B02"] * 1e-4, atol=1e-6)


def test_float_reflectance_is_taken_as_it_is(tmp_path):
    values = {band: (dn / 1e4).astype("float32") for band, dn in make_dn().items()}
    values["B02"][0, 0] = np.nan
    values["B03"][0, 1] = -9999
    path = write_multiband(tmp_path / "f.tif", values, scales=None, offsets=None, nodata=-9999)
    scene = read_scene(path)
    assert np.isnan(scene.values).sum() == 2
    np.testing.assert_array_equal(scene.sel(bands="B12"), values["B12"])


def test_missing_offset_is_reported_once_a_file(tmp_path, caplog):
    path = write_multiband(tmp_path / "raw.tif", make_dn(), scales=None, offsets=None)
    open_scene(path, reflectance_scale=1e-4)
    (line,) = caplog.messages
    assert "raw.tif: no reflectance offset is stated" in line


def test_band_described_twice_is_refused(tmp_path):
    names = ("b2", *BANDS[1:9], "B02")
    path = write_multiband(tmp_path / "twice.tif", make_dn(), descriptions=names)
    with pytest.raises(MetadataError):
        open_scene(path)


def test_missing_bands_are_refused(tmp_path):
    dn = make_dn()
    del dn["B05"], dn["B11"]
    with pytest.raises(MissingBandError):
        read_scene(write_multiband(tmp_path / "scene.tif", dn))


def test_bands_without_descriptions_are_refused(tmp_path):
    path = write_multiband(tmp_path / "scene.tif", make_dn(), descriptions=None)
    with pytest.raises(MissingBandError):
        read_scene(path)


def test_scene_class_and_angles_ride_along(tmp_path):
    dn = make_dn()
    dn["SCL"] = np.full((SIZE, SIZE), 4, "uint16")
    dn["SCL"][0, 0] = 0
    dn |= {angle: np.full((SIZE, SIZE), 3001, "uint16") for angle in ANGLES}
    scales = (1e-4,) * 10 + (1.0,) + (0.01,) * 4
    offsets = (-0.1,) * 10 + (0.0,) + (-0.01,) * 4
    scene = read_scene(write_multiband(tmp_path / "s.tif", dn, scales=scales, offsets=offsets))
    assert tuple(scene.bands.values) == (*BANDS, "SCL", *ANGLES)
    assert scene.sel(bands="SCL").values[0, 0] == 0  # a class, not a gap
    assert scene.sel(bands="SCL").values[1, 1] == 4
    np.testing.assert_allclose(scene.sel(bands="sunZenithAngles"), 30, atol=1e-4)


def test_ten_metre_pixels_are_averaged_over_those_with_data(tmp_path):
    dn = make_dn()
    fine = {band: layer.repeat(2, axis=0).repeat(2, axis=1) for band, layer in dn.items()}
    fine["B02"][0, 0] = 0
    fine["B02"][0, 1], fine["B02"][1, 0], fine["B02"][1, 1] = 2000, 2300, 2600
    fine["B03"][:2, :2] = 0
    path = write_multiband(tmp_path / "fine.tif", fine, pixel=10)
    scene = read_scene(path)
    assert scene.shape == (10, SIZE, SIZE)
    assert scene.sel(bands="B02").values[0, 0] == pytest.approx(0.13, abs=1e-6)
    assert np.isnan(scene.sel(bands="B03").values[0, 0])
    np.testing.assert_allclose(scene.sel(bands="B12"), dn["B12"] * 1e-4 - 0.1, atol=1e-6)


def test_time_comes_from_the_tag_or_the_caller_or_is_missed(tmp_path):
    tagged = write_multiband(tmp_path / "tagged.tif", make_dn())
    assert read_scene(tagged).attrs["datetime"] == "2022-10-05T11:54:11Z"
    path = write_multiband(tmp_path / "silent.tif", make_dn(), tags={})
    with pytest.raises(MetadataError) as caught:
        read_scene(path)
    assert caught.value.parameter == "datetime"
    scene = read_scene(path, datetime="2021-06-24T12:30:00+02:00")
    assert scene.attrs["datetime"] == "2021-06-24T10:30:00Z"
    with pytest.raises(MetadataError) as caught:
        read_scene(path, datetime="yesterday")
    assert (caught.value.parameter, caught.value.value) == ("datetime", "yesterday")


def test_floats_that_are_reflectance_already_are_not_scaled_by_the_tag(tmp_path):
    layers = np.stack(list(make_dn().values())).astype("float32") * 1e-4
    tags = {"DATETIME": "2022-10-05T11:54:11Z"}
    path = write_raster(
        tmp_path / "f.tif", layers, descriptions=BANDS, scales=(1e-4,) * 10, tags=tags
    )
    report = run_all([path], tmp_path / "out", RunOptions())
    assert [refusal.error.parameter for refusal in report.refused] == ["reflectance_scale"]


def test_the_day_in_the_name_of_an_openeo_result_is_its_time(tmp_path):
    path = write_multiband(tmp_path / "openEO_2022-10-05Z.tif", make_dn(), tags={})
    assert read_scene(path).attrs["datetime"] == "2022-10-05T00:00:00Z"


def test_degrees_wrong_pixels_and_missing_crs_are_refused(tmp_path):
    layers = np.stack(list(make_dn().values()))
    settings = {"descriptions": BANDS, "scales": (1e-4,) * 10, "tags": {"DATETIME": "2022-10-05"}}
    degrees = write_raster(tmp_path / "d.tif", layers, crs="EPSG:4326", pixel=2e-4,
                           corner=(9.0, 50.0), **settings)  # fmt: skip
    with pytest.raises(GridError) as caught:
        read_scene(degrees)
    assert caught.value.parameter == "reproject"
    with pytest.raises(GridError):
        read_scene(write_raster(tmp_path / "60.tif", layers, pixel=60, **settings))
    with pytest.raises(GridError):
        read_scene(write_raster(tmp_path / "n.tif", layers, crs=None, **settings))


def test_scene_without_data_is_refused(tmp_path):
    dn = make_dn()
    dn["B11"][:] = 0
    with pytest.raises(EmptySceneError):
        read_scene(write_multiband(tmp_path / "scene.tif", dn))


def test_window_equals_the_same_part_of_the_whole(tmp_path):
    path = write_multiband(tmp_path / "scene.tif", make_dn())
    whole = read_scene(path)
    part = read_scene(path, window=Window(4, 8, 10, 6))
    expected = whole.isel(y=slice(8, 14), x=slice(4, 14))
    np.testing.assert_array_equal(part.values, expected.values)
    np.testing.assert_array_equal(part.x, expected.x)
    np.testing.assert_array_equal(part.y, expected.y)


@pytest.mark.parametrize("window", [Window(0, 0, 0, 4), Window(30, 0, 4, 4), Window(-1, 0, 4, 4)])
def test_window_outside_is_refused(tmp_path, window):
    path = write_multiband(tmp_path / "scene.tif", make_dn())
    with pytest.raises(GridError):
        read_scene(path, window=window)


def test_bbox_in_degrees_covers_what_was_asked(tmp_path):
    path = write_multiband(tmp_path / "scene.tif", make_dn())
    source = open_scene(path)
    box = rasterio.warp.transform_bounds(
        "EPSG:32629",
        "EPSG:4326",
        CORNER[0] + 105,
        CORNER[1] - 195,
        CORNER[0] + 155,
        CORNER[1] - 145,
    )
    scene = read_scene(path, bbox=box)
    west, south, east, north = scene.rio.bounds()
    assert west <= CORNER[0] + 105
    assert east >= CORNER[0] + 155
    assert south <= CORNER[1] - 195
    assert north >= CORNER[1] - 145
    assert scene.shape[1:] <= (5, 5)
    assert source.window((-180, -90, 180, 90)) == Window(0, 0, SIZE, SIZE)


@pytest.mark.parametrize("west_east", [(179.99, -179.99), (179.99, 180.01), (-180.01, -179.99)])
def test_bbox_across_the_antimeridian_is_read_in_every_spelling(tmp_path, west_east):
    (x,), (y,) = rasterio.warp.transform("EPSG:4326", "EPSG:32601", [180.0], [66.9])
    corner = (x - 10 * SIZE, y + 10 * SIZE)  # the antimeridian runs through the middle
    path = write_multiband(tmp_path / "s.tif", make_dn(), crs="EPSG:32601", corner=corner)
    window = open_scene(path).window((west_east[0], 66, west_east[1], 67))
    assert (window.width, window.height) == (SIZE, SIZE)


def test_bbox_elsewhere_or_turned_round_is_refused(tmp_path):
    path = write_multiband(tmp_path / "scene.tif", make_dn())
    with pytest.raises(GridError):
        read_scene(path, bbox=(10, 50, 11, 51))
    with pytest.raises(GridError):
        read_scene(path, bbox=(11, 50, 10, 51))


def test_truncated_file_is_one_clear_error(tmp_path):
    path = write_multiband(tmp_path / "scene.tif", make_dn())
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(UnreadableProductError):
        read_scene(path)


@pytest.mark.parametrize("name", ["absent.tif", "scene.zip", "scene.hdf"])
def test_what_is_no_scene_is_refused(tmp_path, name):
    if name != "absent.tif":
        (tmp_path / name).write_bytes(b"PK")
    with pytest.raises(UnreadableProductError):
        read_scene(tmp_path / name)


@pytest.mark.shared
def test_real_chips_read_as_reflectance(shared_data: Path):
    with (shared_data / "chips" / "index.csv").open() as rows:
        index = list(csv.DictReader(rows))
    vegetated = [row for row in index if row["role"] == "vegetated"]
    assert len(index) == 78
    for row in vegetated:
        scene = read_scene(shared_data / "chips" / row["file"])
        assert tuple(scene.bands.values) == BANDS
        assert scene.shape[1:] == (int(row["height"]), int(row["width"]))
        assert scene.attrs["datetime"] == row["time_utc"].replace(" ", "T") + "Z"
        valid = scene.values[np.isfinite(scene.values)]
        assert valid.min() > 0
        assert valid.max() < 1.2


@pytest.mark.shared
def test_offset_of_a_real_baseline_4_chip_is_taken_off(shared_data: Path):
    path = next((shared_data / "chips").glob("majortom_core_*.tif"))
    scene = read_scene(path, window=Window(100, 100, 64, 64))
    with rasterio.open(path) as dataset:
        dn = dataset.read(window=Window(100, 100, 64, 64)).astype(float)
    np.testing.assert_allclose(scene.values, (dn - 1000) / 10000, atol=1e-6)
    assert scene.attrs["processing_baseline"] == "04.00"


def test_a_scene_goes_to_disk_and_back(tmp_path, rng):
    dn = make_dn()
    dn["B02"][0, 0] = 0
    scene = read_scene(write_multiband(tmp_path / "first.tif", dn))
    extra = np.stack([
        rng.integers(0, 12, scene.shape[1:]),
        *(rng.uniform(0, high, scene.shape[1:]) for high in (80, 360, 12, 360)),
    ]).astype("float32")  # fmt: skip
    grid = Grid.of_data_array(scene, "scene")
    full = grid.to_data_array(
        np.concatenate([scene.values, extra]), (*BANDS, "SCL", *ANGLES), scene.attrs
    )
    back = read_scene(write_scene_geotiff(full, tmp_path / "sim" / "second.tif"))
    assert tuple(back.bands.values) == (*BANDS, "SCL", *ANGLES)
    np.testing.assert_allclose(back.values[:10], scene.values, atol=1e-6)
    np.testing.assert_array_equal(back.values[10], extra[0])
    np.testing.assert_allclose(back.values[11:], extra[1:], atol=0.0051)
    assert back.attrs == scene.attrs
    assert [path.name for path in (tmp_path / "sim").iterdir()] == ["second.tif"]


def test_a_scene_keeps_very_dark_pixels_apart_from_no_data(tmp_path):
    scene = read_scene(write_multiband(tmp_path / "first.tif", make_dn()))
    scene.values[3, 4, 5] = -0.25
    back = read_scene(write_scene_geotiff(scene, tmp_path / "dark.tif"))
    assert back.values[3, 4, 5] == pytest.approx(-0.0999, abs=1e-6)


def test_a_scene_in_digital_numbers_or_without_time_is_refused(tmp_path):
    scene = read_scene(write_multiband(tmp_path / "first.tif", make_dn()))
    with pytest.raises(EncodingError):
        write_scene_geotiff((scene * 1e4).assign_attrs(scene.attrs), tmp_path / "dn.tif")
    scene.attrs.clear()
    with pytest.raises(MetadataError):
        write_scene_geotiff(scene, tmp_path / "no.tif")
    assert not (tmp_path / "dn.tif").exists()
