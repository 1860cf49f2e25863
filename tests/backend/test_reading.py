"""Pixels of files on a grid: picked where the CRS is the same, warped where it is not."""

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.warp import reproject

from backend import udfs
from backend.udfs import px
from lai_backend import reading
from lai_backend.errors import SourceError
from lai_backend.extents import parse_temporal_extent
from lai_backend.loading import LoadRequest, load_cube, plan_cube
from lai_backend.neighborhood import apply_neighborhood
from lai_backend.sources import read_scene
from lai_backend.udf_runner import LocalUdf

SIDE, STEP = 90, 20.0
WEST, NORTH, CRS = 500_000.0, 5_600_000.0, "EPSG:32633"


def write_bands(path, rng, *, step=STEP, nodata=0.0, dtype="uint16", **profile):
    """Write a file of two bands with holes, and return its item."""
    values = rng.integers(0, 200, (2, SIDE, SIDE)).astype(dtype)
    values[rng.random(values.shape) < 0.1] = nodata
    transform = profile.pop("transform", Affine(step, 0, WEST, 0, -step, NORTH))
    shape = {"count": 2, "height": SIDE, "width": SIDE}
    how = {"driver": "GTiff", "dtype": dtype, "nodata": nodata, "crs": CRS, "transform": transform}
    with rasterio.open(path, "w", **how | shape | profile) as dataset:
        dataset.write(values)
    bands = [{"name": "B04"}, {"name": "B08"}]
    item = {
        "id": path.stem,
        "properties": {"datetime": "2024-06-01T10:20:44Z"},
        "assets": {"both": {"href": str(path), "type": "image/tiff", "bands": bands}},
    }
    return read_scene(item, [path.parent.resolve()])


def warp(scene, grid) -> np.ndarray:
    """Read by GDAL's warper."""
    values = np.full((2, *grid.shape), np.nan, "float32")
    with rasterio.open(scene.bands["B04"].href) as dataset:
        for number, layer in enumerate(values, 1):
            reproject(
                rasterio.band(dataset, number),
                layer,
                src_nodata=dataset.nodata,
                dst_transform=grid.affine,
                dst_crs=CRS,
                dst_nodata=np.nan,
                resampling=Resampling.nearest,
            )
    return values


@pytest.mark.parametrize("step", [20.0, 60.0, 10.0, 15.0])
@pytest.mark.parametrize("shift", [(0.0, 0.0), (-300.0, 250.0), (6.0, -4.0), (800.0, -800.0)])
def test_picked_pixels_are_those_that_gdal_would_warp_to(tmp_path, rng, step, shift):
    scene = write_bands(tmp_path / "a.tif", rng, step=step, nodata=7.0)
    # Centres do not lie on the edges of pixels, where a rounding error would decide.
    corner = (WEST + shift[0] + 0.001, NORTH + shift[1] - 0.001)
    grid = GeoBox((70, 80), Affine(STEP, 0, corner[0], 0, -STEP, corner[1]), CRS)
    picked = reading.read_day([scene], ["B04", "B08"], grid)
    np.testing.assert_array_equal(picked, warp(scene, grid))
    assert np.isfinite(picked).any()


def test_a_file_whose_rows_go_north_is_read_the_right_way_up(tmp_path, rng):
    upward = Affine(STEP, 0, WEST, 0, STEP, NORTH - SIDE * STEP)
    scene = write_bands(tmp_path / "a.tif", rng, transform=upward)
    grid = GeoBox((SIDE, SIDE), Affine(STEP, 0, WEST, 0, -STEP, NORTH), CRS)
    np.testing.assert_array_equal(
        reading.read_day([scene], ["B04", "B08"], grid), warp(scene, grid)
    )


@pytest.mark.parametrize(("dtype", "nodata"), [("float32", -9999.0), ("float32", np.nan)])
def test_no_data_of_floats_is_nan(tmp_path, rng, dtype, nodata):
    scene = write_bands(tmp_path / "a.tif", rng, dtype=dtype, nodata=nodata)
    grid = GeoBox((SIDE, SIDE), Affine(STEP, 0, WEST, 0, -STEP, NORTH), CRS)
    values = reading.read_day([scene], ["B04", "B08"], grid)
    assert np.nanmin(values) >= 0
    assert 0.05 < np.isnan(values).mean() < 0.15


def test_a_truncated_jpeg_2000_file_is_an_error_and_no_surface(tmp_path, rng):
    lossless = {"driver": "JP2OpenJPEG", "QUALITY": 100, "REVERSIBLE": "YES"}
    tiles = {"BLOCKXSIZE": 32, "BLOCKYSIZE": 32}
    scene = write_bands(tmp_path / "a.jp2", rng, **lossless, **tiles)
    grid = GeoBox((SIDE, SIDE), Affine(STEP, 0, WEST, 0, -STEP, NORTH), CRS)
    whole = reading.read_day([scene], ["B04"], grid)
    assert np.isfinite(whole).mean() > 0.8
    content = (tmp_path / "a.jp2").read_bytes()
    (tmp_path / "a.jp2").write_bytes(content[: len(content) * 4 // 5])
    with pytest.raises(SourceError):
        reading.read_day([scene], ["B04"], grid)


def test_gaps_of_the_first_scene_are_filled_from_the_next(tmp_path, rng):
    first, second = (write_bands(tmp_path / f"{name}.tif", rng) for name in "ab")
    grid = GeoBox((SIDE, SIDE), Affine(STEP, 0, WEST, 0, -STEP, NORTH), CRS)
    alone = [reading.read_day([scene], ["B04"], grid) for scene in (first, second)]
    both = reading.read_day([first, second], ["B04"], grid)
    np.testing.assert_array_equal(both, np.where(np.isnan(alone[0]), alone[1], alone[0]))


@pytest.fixture
def tiles_read(monkeypatch) -> list[tuple[int, int]]:
    """Note the first row and column, in the file, of what is read."""
    corners = []
    read = reading._read_band

    def noting(source, grid, values):
        if source.index == 1:
            column, row = (grid.affine.c - WEST) / STEP, (NORTH - grid.affine.f) / STEP
            corners.append((round(row), round(column)))
        read(source, grid, values)

    monkeypatch.setattr("lai_backend.reading._read_band", noting)
    monkeypatch.setattr("lai_backend.loading.CHUNK_PX", 32)
    return corners


def load(scene, left_px: int = 0):
    box = GeoBox((50, 60), Affine(STEP, 0, WEST + left_px * STEP, 0, -STEP, NORTH), CRS)
    request = LoadRequest(parse_temporal_extent(None), box.extent, None)
    return load_cube(plan_cube([scene], request, "a"))


def test_chunks_end_where_tiles_of_the_file_do(tmp_path, rng, tiles_read):
    scene = write_bands(tmp_path / "a.tif", rng)
    load(scene, left_px=21).compute()
    assert sorted(tiles_read) == [(0, 21), (0, 32), (0, 64), (32, 21), (32, 32), (32, 64)]


def test_windows_that_share_a_chunk_read_it_once(tmp_path, rng, tiles_read, monkeypatch):
    monkeypatch.setattr("lai_backend.neighborhood.BLOCK_PX", 16)
    cube = load(write_bands(tmp_path / "a.tif", rng))
    result = apply_neighborhood(cube, LocalUdf(udfs.IDENTITY), px(16), px(8)).compute()
    assert sorted(tiles_read) == [(0, 0), (0, 32), (32, 0), (32, 32)]
    np.testing.assert_array_equal(result, cube.compute())
