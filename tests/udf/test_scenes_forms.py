"""The same scene in every form gives the same reflectance and the same LAI."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
from affine import Affine
from fake_forms import (
    FORMS,
    SIDE,
    TIME,
    make_item,
    numbers,
    write_earth_search_named,
    write_folder,
    write_safe_named,
)
from fake_products import BANDS, CORNER, make_dn, write_multiband, write_raster

import lai_udf
from lai_udf.errors import (
    GridError,
    MetadataError,
    MissingBandError,
    UndeclaredScaleError,
    UnreadableProductError,
)
from lai_udf.identity import RunOptions
from lai_udf.predict import ANGLES
from lai_udf.run import run_all

EXPECTED = np.stack([np.where(p == 0, np.nan, p * 1e-4 - 0.1) for p in numbers().values()])


@pytest.mark.parametrize("form", FORMS)
def test_every_form_holds_the_same_reflectance(tmp_path: Path, form: str) -> None:
    source = lai_udf.open_scene(FORMS[form](tmp_path))
    scene = source.read().sel(bands=list(BANDS))

    # the Browser writes 0 where there is no data, which is known when the UDF reads all bands
    expected = np.nan_to_num(EXPECTED) if "Browser" in form else EXPECTED
    np.testing.assert_allclose(scene.values, expected, atol=1e-5)
    assert source.metadata.datetime[:10] == TIME[:10]
    assert (float(scene.x[0]), float(scene.y[0])) == (CORNER[0] + 10, CORNER[1] - 10)
    assert scene.rio.crs.to_epsg() == 32629


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_lai(tmp_path: Path, form: str, shipped: str) -> None:
    first = lai_udf.predict_scene(lai_udf.read_scene(FORMS["geotiff"](tmp_path / "a")))
    scene = lai_udf.read_scene(FORMS[form](tmp_path / "b"))
    lai = lai_udf.predict_scene(
        scene.drop_sel(bands=[b for b in scene.bands.values if b in ANGLES])
    )

    np.testing.assert_allclose(lai.sel(bands="LAI"), first.sel(bands="LAI"), atol=1e-4)
    np.testing.assert_array_equal(lai.sel(bands="LAI_FLAGS"), first.sel(bands="LAI_FLAGS"))


def test_scaling_and_its_origin_are_stated(tmp_path: Path) -> None:
    texts = {form: lai_udf.open_scene(write(tmp_path / form)) for form, write in FORMS.items()}
    known = {form: scene.offset_is_known for form, scene in texts.items()}
    assert known == {form: "Browser" not in form for form in FORMS}  # float32, undeclared
    assert "EOPF" in texts["EOPF Zarr"].scaling_text
    assert "MTD_MSIL2A.xml" in texts["SAFE"].scaling_text
    assert "STAC Item" in texts["STAC with COG"].scaling_text


def test_angles_of_eopf_are_read(tmp_path: Path) -> None:
    scene = lai_udf.read_scene(FORMS["EOPF Zarr"](tmp_path))
    means = {angle: float(scene.sel(bands=angle).mean()) for angle in ANGLES}
    assert means == pytest.approx(dict(zip(ANGLES, (40, 170, 5, 100), strict=True)), abs=1e-3)
    assert float(scene.sel(bands="SCL").min()) == 4


@pytest.mark.parametrize("form", ["SAFE", "EOPF Zarr", "files named as in SAFE"])
def test_ten_metres_repeat_the_bands_of_twenty(tmp_path: Path, form: str) -> None:
    scene = lai_udf.read_scene(FORMS[form](tmp_path), resolution=10).sel(bands=list(BANDS))
    assert scene.shape[1:] == (2 * SIDE, 2 * SIDE)
    fine = EXPECTED.repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_allclose(scene.values, fine, atol=1e-5)

    part = lai_udf.open_scene(FORMS[form](tmp_path / "b"), resolution=10)
    window = part.read(window=lai_udf_window(3, 5, 21, 14)).sel(bands=list(BANDS))
    np.testing.assert_allclose(window.values, fine[:, 3:24, 5:19], atol=1e-5)


def lai_udf_window(row: int, column: int, height: int, width: int) -> object:
    from rasterio.windows import Window

    return Window(column, row, width, height)


def test_acquisitions_of_one_folder_are_distinguished(tmp_path: Path) -> None:
    write_earth_search_named(tmp_path)
    for band, plane in numbers(9).items():
        write_raster(
            tmp_path / f"S2B_29UNU_20221010_0_L2A_{band}.tif",
            plane,
            scales=(1e-4,),
            offsets=(0.0,),
        )
    scenes = [entry.open() for entry in lai_udf.open_scenes(tmp_path)]
    assert [scene.metadata.datetime[:10] for scene in scenes] == ["2022-10-05", "2022-10-10"]
    assert [scene.metadata.platform for scene in scenes] == ["sentinel-2a", "sentinel-2b"]
    assert [scene.bands[0].scaling.offset for scene in scenes] == [-0.1, 0.0]
    with pytest.raises(UnreadableProductError):
        lai_udf.open_scene(tmp_path)


def test_products_of_different_baseline_in_one_folder_have_each_its_offset(tmp_path: Path) -> None:
    for name, day in (("N0301", "20210605"), ("N0509", "20230605")):
        folder = tmp_path / f"S2A_MSIL2A_{day}T115411_{name}_R023_T29UNU_{day}T164454"
        write_folder(folder, lambda band, day=day: f"T29UNU_{day}T115411_{band}_20m")
        for path in folder.glob("*_B02_20m.tif"):  # of 10 m, as its name has to state
            path.rename(path.with_name(path.name.replace("20m", "10m")))
    offsets = [entry.open().bands[0].scaling.offset for entry in lai_udf.open_scenes(tmp_path)]
    assert offsets == [0.0, -0.1]


def test_a_band_twice_is_refused(tmp_path: Path) -> None:
    write_earth_search_named(tmp_path)
    write_raster(tmp_path / "S2A_29UNU_20221005_0_L2A_B02.tif", numbers()["B02"])
    with pytest.raises(MetadataError):
        lai_udf.open_scene(tmp_path)


def test_bands_of_different_grids_are_refused(tmp_path: Path) -> None:
    write_earth_search_named(tmp_path)
    name = "S2A_29UNU_20221005_0_L2A_nir08.tif"
    write_raster(tmp_path / name, numbers()["B8A"], corner=(CORNER[0] + 60, CORNER[1]))
    with pytest.raises((GridError, UndeclaredScaleError)):
        lai_udf.open_scene(tmp_path)


def test_a_missing_band_of_a_folder_is_refused(tmp_path: Path) -> None:
    folder = write_safe_named(tmp_path)
    for path in folder.glob("*B8A*"):
        path.unlink()
    with pytest.raises(MissingBandError):
        lai_udf.open_scene(folder)


def test_level_1c_is_recognised_by_its_name(tmp_path: Path) -> None:
    path = write_multiband(tmp_path / "S2A_MSIL1C_20221005T115411_N0400.tif", make_dn())
    with pytest.raises(UnreadableProductError):
        lai_udf.open_scene(path)


def test_a_scene_in_degrees_is_reprojected_on_demand(tmp_path: Path) -> None:
    step = 0.00018
    path = tmp_path / "degrees.tif"
    write_multiband(path, numbers(), crs="EPSG:4326", pixel=step, corner=(9.0, 50.0))
    with pytest.raises(GridError) as caught:
        lai_udf.open_scene(path)
    assert caught.value.parameter == "reproject"

    scene = lai_udf.read_scene(path, reproject=True)
    assert scene.rio.crs.to_epsg() == 32632
    assert scene.rio.resolution() == (20.0, -20.0)
    middle = np.nanmean(scene.sel(bands="B8A").values)
    assert middle == pytest.approx(np.nanmean(EXPECTED[BANDS.index("B8A")]), abs=0.01)


def test_a_scene_whose_rows_run_north_is_turned_on_demand(tmp_path: Path) -> None:
    usual, turned = tmp_path / "usual.tif", tmp_path / "turned.tif"
    layers = numbers()
    write_multiband(usual, layers)
    write_multiband(turned, {band: layer[::-1] for band, layer in layers.items()})
    with rasterio.open(usual) as dataset, rasterio.open(turned, "r+") as other:
        other.transform = dataset.transform @ Affine(1, 0, 0, 0, -1, dataset.height)
    with pytest.raises(GridError):
        lai_udf.open_scene(turned)
    expected, found = (lai_udf.read_scene(path, reproject=True) for path in (usual, turned))
    xr.testing.assert_equal(found, expected)


def test_a_series_of_items_goes_on_past_a_bad_one(tmp_path: Path, known: str) -> None:
    make_item(tmp_path, "a")
    make_item(tmp_path, "b", time="2022-10-10T11:54:11Z")
    (tmp_path / "b" / "B05.tif").unlink()
    for folder in ("a", "b"):  # the folders of the bands hold scenes themselves
        assert (tmp_path / folder).is_dir()
    sources = [tmp_path / "a.json", tmp_path / "b.json"]
    report = run_all(sources, tmp_path / "out", RunOptions(model=Path(known)))

    assert len(report.folders) == 1
    assert [refusal.name for refusal in report.refused] == ["b.json"]


def test_cube_of_one_scene_is_a_scene(tmp_path: Path) -> None:
    dataset = xr.open_dataset(FORMS["netCDF"](tmp_path), mask_and_scale=False)
    later = dataset.assign_coords(time=dataset.time + np.timedelta64(5, "D"))
    twice = xr.concat([dataset, later], dim="time", data_vars="minimal")
    twice.to_netcdf(tmp_path / "two.nc")
    with pytest.raises(UnreadableProductError):
        lai_udf.open_scene(tmp_path / "two.nc")
