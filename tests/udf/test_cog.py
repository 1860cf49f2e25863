"""LAI on disk: what is written comes back, as other readers see it too, whole or not at all."""

import os
import resource
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio
import rioxarray
from fake_products import write_raster
from rasterio.windows import Window
from rio_cogeo.cogeo import cog_validate

from lai_udf import cog
from lai_udf.cog import ENCODINGS, LaiCogWriter, write_lai_cogs
from lai_udf.errors import (
    EncodingError,
    GridError,
    OutputNotWritableError,
    RasterError,
)
from lai_udf.grid import Grid
from lai_udf.predict import ALL_OUTPUT_BANDS, OUTPUT_BANDS, VARIABLES
from lai_udf.results import read_lai_cogs, read_lai_geotiff

# rioxarray and odc-geo still multiply transforms with `*`, which affine 3.1 is about to deprecate
AFFINE_3 = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
KEYS = ("lai", "lai_sd", "lai_lower", "lai_upper", "lai_flags")
GRID = Grid(
    rasterio.crs.CRS.from_epsg(32633), rasterio.Affine(20, 0, 399960, 0, -20, 5300040), 96, 128
)


def make_lai(rng: np.random.Generator, grid: Grid = GRID):
    """Return a cube of LAI 0 to 8 with a gap, and flags 0, 1 and 64."""
    values = rng.uniform(0, 8, (5, *grid.shape)).astype("float32")
    values[4] = rng.choice([0, 1], grid.shape)
    values[:4, 10:20, 30:50] = np.nan
    values[4, 10:20, 30:50] = 64
    return grid.to_data_array(values, OUTPUT_BANDS)


def test_the_way_to_disk_and_back_loses_half_a_thousandth_at_most(tmp_path, rng):
    lai = make_lai(rng)
    paths = write_lai_cogs(lai, tmp_path / "item", tags={"model_id": "seamless"})
    assert tuple(paths) == KEYS
    assert sorted(p.name for p in (tmp_path / "item").iterdir()) == sorted(f"{k}.tif" for k in KEYS)
    back = read_lai_cogs(tmp_path / "item")
    assert tuple(back.bands.values) == OUTPUT_BANDS
    assert back.dtype == np.float32
    np.testing.assert_allclose(back.values, lai.values, atol=0.000501)  # NaN where NaN was
    np.testing.assert_array_equal(back.sel(bands="LAI_FLAGS"), lai.sel(bands="LAI_FLAGS"))
    np.testing.assert_array_equal(back.x, lai.x)
    np.testing.assert_array_equal(back.y, lai.y)
    assert back.rio.crs == lai.rio.crs
    assert back.attrs["model_id"] == "seamless"


def test_order_of_dimensions_and_bands_does_not_matter(tmp_path, rng):
    lai = make_lai(rng)
    turned = lai.isel(bands=slice(None, None, -1)).transpose("x", "bands", "y")
    write_lai_cogs(turned, tmp_path)
    np.testing.assert_allclose(read_lai_cogs(tmp_path).values, lai.values, atol=0.000501)


def test_files_are_valid_cogs_with_the_agreed_encoding(tmp_path, rng):
    paths = write_lai_cogs(make_lai(rng, Grid(GRID.crs, GRID.transform, 600, 700)), tmp_path)
    for key, path in paths.items():
        assert cog_validate(path, strict=True, quiet=True) == (True, [], [])
        with rasterio.open(path) as dataset:
            flags = key == "lai_flags"
            assert dataset.dtypes == (("uint8",) if flags else ("int16",))
            assert dataset.nodata == (None if flags else -32768)
            assert dataset.scales == ((1.0,) if flags else (0.001,))
            assert dataset.units == ((None,) if flags else ("m2 m-2",))
            assert dataset.descriptions[0]
            assert dataset.compression.value == "DEFLATE"
            assert dataset.overviews(1) == [2, 4]


def test_overviews_average_lai_and_take_the_commonest_flag(tmp_path):
    grid = Grid(GRID.crs, GRID.transform, 1024, 1024)
    values = np.zeros((2, 1024, 1024), "float32")
    values[0, ::2, ::2] = 4.0  # one of four pixels: the mean is 1
    values[1] = 1
    values[1, ::2, ::2] = 64  # one of four pixels: the mode is 1
    paths = write_lai_cogs(grid.to_data_array(values, ("LAI", "LAI_FLAGS")), tmp_path)
    with rasterio.open(paths["lai"], OVERVIEW_LEVEL=0) as dataset:
        assert (dataset.read(1) == 1000).all()
    with rasterio.open(paths["lai_flags"], OVERVIEW_LEVEL=0) as dataset:
        assert (dataset.read(1) == 1).all()


@pytest.mark.filterwarnings(
    "ignore:Use `@` matmul:PendingDeprecationWarning"
)  # rioxarray, affine 3
def test_rioxarray_reads_masked_and_scaled_lai(tmp_path, rng):
    lai = make_lai(rng)
    paths = write_lai_cogs(lai, tmp_path)
    with rioxarray.open_rasterio(paths["lai"], mask_and_scale=True) as read:
        np.testing.assert_allclose(read.values[0], lai.values[0], atol=0.000501)
        assert read.rio.crs == lai.rio.crs


@AFFINE_3
@pytest.mark.filterwarnings("ignore:The 'shapely.ops.transform:DeprecationWarning")  # odc-geo
def test_odc_stac_reads_the_numbers_and_their_no_data(tmp_path, rng):
    odc_stac = pytest.importorskip("odc.stac")
    lai = make_lai(rng)
    paths = write_lai_cogs(lai, tmp_path)
    item = pystac.Item("lai", None, [13, 47, 14, 48], datetime(2021, 6, 24, tzinfo=UTC), {})
    item.stac_extensions = ["https://stac-extensions.github.io/projection/v2.0.0/schema.json"]
    fields = {
        "proj:code": "EPSG:32633",
        "proj:shape": GRID.shape,
        "proj:transform": GRID.transform[:6],
    }
    for key, path in paths.items():
        band = {"name": key, "nodata": -32768, "data_type": "int16"}
        flags = {"name": key, "data_type": "uint8"}
        bands = [flags if key == "lai_flags" else band]
        asset = pystac.Asset(str(path), media_type=pystac.MediaType.COG, roles=["data"])
        asset.extra_fields = {"bands": bands, **fields}
        item.add_asset(key, asset)
    loaded = odc_stac.load([item], bands=["lai"], crs="EPSG:32633", resolution=20)
    numbers = loaded["lai"].values[0]
    assert numbers.dtype == np.int16  # odc-stac does not apply the scale
    assert loaded["lai"].attrs["nodata"] == -32768
    gaps = np.isnan(lai.values[0])
    np.testing.assert_array_equal(numbers == -32768, gaps)
    np.testing.assert_allclose(numbers[~gaps] * 0.001, lai.values[0][~gaps], atol=0.000501)


def test_windows_give_the_same_files_as_one_write(tmp_path, rng):
    lai = make_lai(rng)
    write_lai_cogs(lai, tmp_path / "whole")
    with LaiCogWriter(tmp_path / "windows", GRID) as writer:
        for top in range(0, 96, 40):
            for left in range(0, 128, 50):
                window = Window(left, top, min(50, 128 - left), min(40, 96 - top))
                rows, columns = window.toslices()
                writer.write(lai.isel(y=rows, x=columns), window)
    for key in KEYS:
        whole, windows = (
            rasterio.open(tmp_path / kind / f"{key}.tif") for kind in ("whole", "windows")
        )
        with whole, windows:
            np.testing.assert_array_equal(windows.read(), whole.read())


def test_a_window_left_out_leaves_nothing(tmp_path, rng):
    lai = make_lai(rng)
    with (
        pytest.raises(RasterError),
        LaiCogWriter(tmp_path / "item", GRID) as writer,
    ):
        writer.write(lai.isel(y=slice(0, 48)), Window(0, 0, 128, 48))
    assert list(tmp_path.iterdir()) == []


def test_an_error_between_windows_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), LaiCogWriter(tmp_path / "item", GRID):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [32.768, -32.768, np.inf])
def test_values_that_do_not_fit_are_refused_not_wrapped(tmp_path, rng, value):
    lai = make_lai(rng)
    write_lai_cogs(lai, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    lai.values[3, 40, 40] = value
    with pytest.raises(EncodingError):
        write_lai_cogs(lai, tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_flags_without_a_value_are_refused(tmp_path, rng):
    lai = make_lai(rng)
    lai.values[4, 0, 0] = np.nan
    with pytest.raises(EncodingError):
        write_lai_cogs(lai, tmp_path / "item")
    assert list(tmp_path.iterdir()) == []


def test_a_foreign_band_or_a_cube_without_crs_is_refused(tmp_path, rng):
    lai = make_lai(rng)
    with pytest.raises(EncodingError):
        write_lai_cogs(lai.assign_coords(bands=["NDVI", *OUTPUT_BANDS[1:]]), tmp_path)
    with pytest.raises(GridError):
        write_lai_cogs(lai.drop_vars("spatial_ref"), tmp_path)
    with pytest.raises(GridError):
        write_lai_cogs(lai.sortby("y"), tmp_path)


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path, rng):
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file", tmp_path / "file" / "item", Path("/proc/lai/item")):
        with pytest.raises(OutputNotWritableError):
            write_lai_cogs(make_lai(rng), folder)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("limit", [4_000, 30_000, 60_000])
def test_a_full_disk_is_one_clear_error_and_leaves_what_was_there(tmp_path, rng, limit):
    lai = make_lai(rng)
    write_lai_cogs(lai, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (limit, hard)
    )  # writing beyond fails like a full disk
    try:
        with pytest.raises(OutputNotWritableError):
            write_lai_cogs(lai + 1, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_cog_that_differs_from_what_was_computed_is_not_published(tmp_path, rng, monkeypatch):
    real_copy = rasterio.shutil.copy

    def damaging_copy(source, target, **options):
        with rasterio.open(source, "r+") as dataset:
            good = dataset.read(1)
            dataset.write(np.where(good == good.max(), 7, good), 1)
        real_copy(source, target, **options)
        with rasterio.open(source, "r+") as dataset:
            dataset.write(good, 1)

    monkeypatch.setattr(cog.rasterio.shutil, "copy", damaging_copy)
    with pytest.raises(OutputNotWritableError):
        write_lai_cogs(make_lai(rng), tmp_path / "item")
    assert list(tmp_path.iterdir()) == []


def test_files_can_be_read_by_others(tmp_path, rng):
    mask = os.umask(0o022)
    os.umask(mask)
    for path in write_lai_cogs(make_lai(rng), tmp_path).values():
        assert path.stat().st_mode & 0o777 == 0o666 & ~mask


def test_geotiff_of_a_back_end_is_read_by_names(tmp_path, rng):
    lai = make_lai(rng)
    values = lai.values.copy()
    values[4, 0, :] = np.nan  # a back-end pads with NaN, the flags too
    path = write_raster(
        tmp_path / "openeo.tif",
        values[::-1].copy(),
        crs="EPSG:32633",
        corner=(399960.0, 5300040.0),
        descriptions=OUTPUT_BANDS[::-1],
        nodata=np.nan,
    )
    read = read_lai_geotiff(path)
    assert tuple(read.bands.values) == OUTPUT_BANDS
    np.testing.assert_array_equal(read.values[:4], lai.values[:4])
    assert (read.sel(bands="LAI_FLAGS").values[0] == 64).all()
    np.testing.assert_array_equal(read.values[4, 1:], lai.values[4, 1:])
    np.testing.assert_array_equal(read.y, lai.y)


def test_rasters_without_lai_are_refused(tmp_path):
    path = write_raster(tmp_path / "ndvi.tif", np.zeros((8, 8), "float32"), descriptions=("NDVI",))
    with pytest.raises(RasterError):
        read_lai_geotiff(path)
    with pytest.raises(RasterError):
        read_lai_cogs(tmp_path)
    (tmp_path / "lai.tif").write_bytes(b"II*\0")
    with pytest.raises(RasterError):
        read_lai_cogs(tmp_path)


def test_encodings_are_those_of_the_contract():
    assert tuple(ENCODINGS) == (*ALL_OUTPUT_BANDS, "GAP_DAYS")
    assert tuple(ENCODINGS[band].key for band in OUTPUT_BANDS) == KEYS
    assert {band: ENCODINGS[band].scale for band in VARIABLES} == {
        name: variable.scale for name, variable in VARIABLES.items()
    }
