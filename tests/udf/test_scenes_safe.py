"""Scenes from SAFE folders: offsets by metadata, 10 m bands, angles, and what is refused."""

import logging
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from fake_products import BANDS, PRODUCT, SIZE, make_dn, product_xml, tile_xml, write_safe

from lai_udf.errors import (
    GridError,
    MetadataError,
    MissingBandError,
    UnreadableProductError,
)
from lai_udf.predict import ANGLES
from lai_udf.scenes.bands import AngleGrid
from lai_udf.scenes.read import read_scene
from lai_udf.scenes.safe import read_tile_angles


def band_file(safe: Path, band: str) -> Path:
    return next(safe.glob(f"GRANULE/*/IMG_DATA/R*m/*_{band}_*.jp2"))


def test_offset_of_the_metadata_is_taken_off(tmp_path):
    dn = make_dn()
    scene = read_scene(write_safe(tmp_path, dn))
    assert tuple(scene.bands.values) == (*BANDS, "SCL", *ANGLES)
    expected = dn["B8A"].astype(float) * 1e-4 - 0.1
    assert expected.min() < 0
    np.testing.assert_allclose(scene.sel(bands="B8A"), expected, atol=1e-6)
    assert scene.attrs == {
        "datetime": "2022-10-05T11:54:11.024000Z",
        "platform": "sentinel-2a",
        "product_id": PRODUCT,
        "processing_baseline": "04.00",
        "reflectance_offset_applied": True,
    }


def test_band_without_20_m_image_is_averaged_from_10_m(tmp_path):
    dn = make_dn()
    scene = read_scene(write_safe(tmp_path, dn))
    expected = (dn["B08"] + 1.0) * 1e-4 - 0.1  # two of four pixels are 2 higher
    np.testing.assert_allclose(scene.sel(bands="B08"), expected, atol=1e-6)


def test_metadata_file_stands_for_its_folder(tmp_path):
    safe = write_safe(tmp_path, make_dn())
    whole = read_scene(safe)
    np.testing.assert_array_equal(read_scene(safe / "MTD_MSIL2A.xml").values, whole.values)


@pytest.mark.parametrize("baseline", ["02.12", "03.01", "99.99"])
def test_baselines_without_offset_list_have_none(tmp_path, baseline):
    dn = make_dn()
    scene = read_scene(write_safe(tmp_path, dn, product=product_xml(baseline, offsets=False)))
    np.testing.assert_allclose(scene.sel(bands="B04"), dn["B04"] * 1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("stated", "damaged"),
    [
        (">10000<", ">ten thousand<"),
        (">10000<", ">0<"),
        (">-1000<", ">none<"),
        (">-1000<", ">1000<"),
        ('band_id="12"', 'band_id="99"'),
        ('band_id="12"', 'band_id="last"'),
    ],
)
def test_numbers_of_the_metadata_that_cannot_be_are_one_clear_error(tmp_path, stated, damaged):
    product = product_xml().replace(stated, damaged)
    with pytest.raises(MetadataError):
        read_scene(write_safe(tmp_path, make_dn(), product=product))


def test_new_baseline_without_offset_list_is_refused(tmp_path):
    safe = write_safe(tmp_path, make_dn(), product=product_xml("05.09", offsets=False))
    with pytest.raises(MetadataError) as caught:
        read_scene(safe)
    assert caught.value.parameter == "reflectance_offset"
    scene = read_scene(safe, reflectance_offset=-1000)
    np.testing.assert_allclose(scene.values[0], make_dn()["B02"] * 1e-4 - 0.1, atol=1e-6)


def test_angles_are_interpolated_from_the_granule(tmp_path):
    scene = read_scene(write_safe(tmp_path, make_dn()))
    sun = scene.sel(bands="sunZenithAngles")
    # 1 degree per 5000 m to the south and to the east, 40 at the corner
    expected = 40 + (np.arange(SIZE)[:, None] + 0.5 + np.arange(SIZE) + 0.5) * 20 / 5000
    np.testing.assert_allclose(sun, expected, atol=1e-4)
    np.testing.assert_allclose(scene.sel(bands="viewZenithMean"), 3, atol=1e-5)
    north = scene.sel(bands="viewAzimuthMean").values  # the mean of 350 and 10 is 0, not 180
    np.testing.assert_allclose(np.cos(np.deg2rad(north)), 1, atol=1e-6)
    np.testing.assert_allclose(scene.sel(bands="sunAzimuthAngles"), 172, atol=1e-3)


def test_missing_angle_file_leaves_a_scene_without_angles(tmp_path, caplog):
    safe = write_safe(tmp_path, make_dn())
    next(safe.glob("GRANULE/*/MTD_TL.xml")).unlink()
    with caplog.at_level(logging.WARNING, logger="lai_udf"):
        scene = read_scene(safe)
    assert tuple(scene.bands.values) == (*BANDS, "SCL")
    assert "without sun and view angles" in caplog.text


@pytest.mark.parametrize(
    "tile", ["<n1:Level-2A_Tile_ID", "<a/>", tile_xml().replace(">5000<", ">0<")]
)
def test_damaged_angle_file_leaves_a_scene_without_angles(tmp_path, caplog, tile):
    safe = write_safe(tmp_path, make_dn(), tile=tile)
    with caplog.at_level(logging.WARNING, logger="lai_udf"):
        scene = read_scene(safe)
    assert tuple(scene.bands.values) == (*BANDS, "SCL")
    assert "no usable sun and view angles" in caplog.text


@pytest.mark.parametrize("values", ["missing", "NaN"])
def test_missing_view_grids_leave_the_angles_of_the_sun(tmp_path, caplog, values):
    tile = tile_xml()
    start = tile.index("<Viewing_Incidence_Angles_Grids")
    end = tile.rindex("</Tile_Angles>")
    empty = re.sub(r"(?<=<VALUES>)[^<]*", "NaN NaN NaN", tile[start:end])
    tile = tile[:start] + ("" if values == "missing" else empty) + tile[end:]
    with caplog.at_level(logging.WARNING, logger="lai_udf"):
        scene = read_scene(write_safe(tmp_path, make_dn(), tile=tile))
    assert tuple(scene.bands.values) == (*BANDS, "SCL", "sunZenithAngles", "sunAzimuthAngles")
    assert "no usable view angles" in caplog.text


@pytest.mark.parametrize(("band", "number"), [("B04", 0), ("B05", 65535)])
def test_special_values_of_the_product_are_no_data(tmp_path, band, number):
    dn = make_dn()
    dn[band][3, 5] = number
    scene = read_scene(write_safe(tmp_path, dn)).sel(bands=band)
    hidden = np.isnan(scene.values)
    assert hidden.sum() == hidden[3, 5] == 1


def test_truncated_jpeg_2000_names_the_band(tmp_path):
    safe = write_safe(tmp_path, make_dn())
    image = band_file(safe, "B11")
    image.write_bytes(image.read_bytes()[: image.stat().st_size // 2])
    with pytest.raises(
        UnreadableProductError, match=r"B11: cannot read .*truncated.*fetch it again"
    ):
        read_scene(safe)


def test_missing_image_is_a_missing_band(tmp_path):
    safe = write_safe(tmp_path, make_dn())
    band_file(safe, "B12").unlink()
    with pytest.raises(MissingBandError):
        read_scene(safe)


def test_images_on_different_grids_are_refused(tmp_path):
    safe = write_safe(tmp_path, make_dn())
    other = write_safe(tmp_path / "other", make_dn(), corner=(399960.0, 5900040.0))
    band_file(safe, "B05").write_bytes(band_file(other, "B05").read_bytes())
    with pytest.raises(GridError):
        read_scene(safe)


def test_level_1_product_and_foreign_folder_are_refused(tmp_path):
    safe = write_safe(tmp_path, make_dn())
    (safe / "MTD_MSIL2A.xml").rename(safe / "MTD_MSIL1C.xml")
    with pytest.raises(UnreadableProductError):
        read_scene(safe)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnreadableProductError):
        read_scene(tmp_path / "empty")


def test_azimuths_meet_at_north():
    grid = AngleGrid(np.array([[359.0, 1.0], [359.0, 1.0]]), 0, 0, 100, is_azimuth=True)
    between = grid.interpolate(np.array([25.0, 50.0, 75.0]), np.array([-50.0]))[0]
    np.testing.assert_allclose((between + 180) % 360 - 180, [-0.5, 0, 0.5], atol=1e-3)


REAL_PRODUCTS = {
    # product and tile metadata of one granule: offset by the published rule (04.00 and later)
    "S2A_MSIL2A_20150826T185436_N0212_R070_T11SLT_20210412T023147": 0.0,
    "S2B_MSIL2A_20210122T133229_N0214_R081_T22HBD_20210122T155500": 0.0,
    "S2A_MSIL2A_20221005T115411_N0400_R023_T29UNU_20221005T164454": -0.1,
    "S2B_MSIL2A_20220413T150759_N0400_R025_T33XWJ_20220414T082126": -0.1,
    "S2A_MSIL2A_20230821T221941_N0509_R029_T01KAB_20230822T021825": -0.1,
    "S2A_MSIL2A_20230625T234621_N0509_R073_T01WCS_20230626T022157": -0.1,
}


@pytest.mark.shared
@pytest.mark.parametrize(("name", "offset"), REAL_PRODUCTS.items())
def test_real_metadata_give_offset_time_and_angles(tmp_path, shared_data: Path, name, offset):
    product = (shared_data / "metadata" / f"{name}__MTD_MSIL2A.xml").read_text()
    tile = (shared_data / "metadata" / f"{name}__MTD_TL.xml").read_text()
    root = ET.fromstring(tile)
    position = root.find(".//Geoposition[@resolution='20']")
    corner = (float(position.findtext("ULX")), float(position.findtext("ULY")))
    dn = make_dn()
    safe = write_safe(
        tmp_path, dn, product=product, tile=tile, name=name,
        crs=root.findtext(".//HORIZONTAL_CS_CODE"), corner=corner,
    )  # fmt: skip
    scene = read_scene(safe)
    np.testing.assert_allclose(scene.sel(bands="B02"), dn["B02"] * 1e-4 + offset, atol=1e-6)
    assert scene.attrs["product_id"] == name
    assert scene.attrs["datetime"][:19].replace("-", "").replace(":", "") == name[11:26]
    assert scene.attrs["processing_baseline"].replace(".", "") == name[28:32]
    assert scene.attrs["platform"] == f"sentinel-2{name[2].lower()}"
    assert np.isfinite(scene.sel(bands=list(ANGLES)).values).all()


@pytest.mark.shared
@pytest.mark.parametrize("name", REAL_PRODUCTS)
def test_real_angle_grids_agree_with_the_means_that_esa_states(shared_data: Path, name):
    path = shared_data / "metadata" / f"{name}__MTD_TL.xml"
    root = ET.parse(path).getroot()
    angles = read_tile_angles(path)
    centre = {}
    for label, grid in angles.items():
        x = grid.left + np.arange(10, 109800, 2745.0)
        y = grid.top - np.arange(10, 109800, 2745.0)
        centre[label] = grid.interpolate(x, y)
    mean_sun = root.find(".//Mean_Sun_Angle")
    # Mean_Sun_Angle is the mean over the tile; ours are sampled on a regular lattice
    assert centre["sunZenithAngles"].mean() == pytest.approx(
        float(mean_sun.findtext("ZENITH_ANGLE")), abs=0.02
    )
    assert centre["sunAzimuthAngles"].mean() == pytest.approx(
        float(mean_sun.findtext("AZIMUTH_ANGLE")), abs=0.1
    )
    views = [float(e.text) for e in root.iterfind(".//Mean_Viewing_Incidence_Angle/ZENITH_ANGLE")]
    assert centre["viewZenithMean"].min() <= np.mean(views) <= centre["viewZenithMean"].max()
    assert (centre["viewZenithMean"] < 13).all()  # the swath of MSI reaches about 12 degrees
