"""Windows of published rasters: read without GDAL where the layout is ours, to the same values."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile
from rasterio.transform import from_origin
from rasterio.windows import Window

from lai_service.files.pixels import (
    UnsupportedTiffLayout,
    grid_of,
    physical,
    read_tiff_window,
    setting_tags,
    stored,
)

# rasterio 1.4 multiplies transforms with `*`, which affine 3 announces to deprecate.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

HEIGHT, WIDTH = 300, 280
WINDOWS = (
    Window(0, 0, 1, 1),
    Window(10, 20, 30, 5),
    Window(120, 250, 20, 12),  # across four tiles of 128 px
    Window(0, 0, WIDTH, HEIGHT),
    Window(WIDTH - 3, HEIGHT - 4, 3, 4),
)


def raster(
    path: Path, dtype: str = "int16", crs: str = "EPSG:32632", east: float = 6e5, **options: Any
) -> Path:
    """Write a raster of noise with scale, offset and no data."""
    values = np.random.default_rng(4).integers(0, 255, (HEIGHT, WIDTH)).astype(dtype)
    values[40:60, 100:200] = 9
    profile = {
        "driver": "GTiff",
        "width": WIDTH,
        "height": HEIGHT,
        "count": 1,
        "dtype": dtype,
        "crs": crs,
        "transform": from_origin(east, 5.3e6, 20, 20),
        "nodata": 9,
    }
    with MemoryFile() as memory:
        with memory.open(**profile) as made:
            made.write(values, 1)
            made.scales, made.offsets = (0.001,), (-0.5,)
            made.update_tags(note='<Item sample="0" role="scale">7</Item>', CALIBRATION="a & <b>")
        with memory.open() as made:
            rasterio.shutil.copy(made, path, **options)
    return path


OURS = {"driver": "COG", "compress": "DEFLATE", "predictor": "YES", "blocksize": 128}


def cog(path: Path, dtype: str = "int16", **options: Any) -> Path:
    """Write the same as a COG in the layout of ours, but for the options given."""
    return raster(path, dtype, **{**OURS, **options})


def assert_reads_as_gdal_does(path: Path) -> None:
    assert setting_tags(path) == {"CALIBRATION": "a & <b>"}
    for window in WINDOWS:
        with rasterio.open(path) as opened:
            direct = opened.read(1, window=window, masked=True)
        found = stored(path, window)
        assert (found.scale, found.offset, found.nodata) == (0.001, -0.5, 9)
        np.testing.assert_array_equal(found.values, direct.data)
        expected = np.where(direct.mask, np.nan, direct.data.astype(float) * 0.001 - 0.5)
        np.testing.assert_allclose(physical(path, window), expected, rtol=1e-12)


@pytest.mark.parametrize("predictor", ["YES", "NO"])
@pytest.mark.parametrize("dtype", ["int16", "uint8"])
def test_window_of_our_cogs_is_read_without_gdal(
    tmp_path: Path, dtype: str, predictor: str
) -> None:
    path = cog(tmp_path / "a.tif", dtype, predictor=predictor)
    assert all(read_tiff_window(path, window).values.shape for window in WINDOWS)
    assert_reads_as_gdal_does(path)


@pytest.mark.parametrize(
    "other",
    [
        {"compress": "ZSTD"},
        {"compress": "NONE"},
        {"bigtiff": "YES"},
        {"dtype": "float32"},
        {"compress": "LZW"},
    ],
    ids=str,
)
def test_window_of_another_layout_is_read_by_gdal(tmp_path: Path, other: dict[str, Any]) -> None:
    path = cog(tmp_path / "a.tif", **other)
    with pytest.raises(UnsupportedTiffLayout):
        read_tiff_window(path, WINDOWS[0])
    assert_reads_as_gdal_does(path)


@pytest.mark.parametrize("other", [{}, {"tiled": True, "endianness": "BIG"}], ids=str)
def test_strips_and_another_byte_order_are_read_by_gdal(
    tmp_path: Path, other: dict[str, Any]
) -> None:
    path = raster(tmp_path / "a.tif", driver="GTiff", compress="DEFLATE", predictor=2, **other)
    with pytest.raises(UnsupportedTiffLayout):
        read_tiff_window(path, WINDOWS[0])
    assert_reads_as_gdal_does(path)


def test_grid_is_the_same_for_the_same_size_place_and_crs(tmp_path: Path) -> None:
    first = grid_of(cog(tmp_path / "a.tif"))
    assert first == grid_of(cog(tmp_path / "b.tif", "uint8"))
    assert first != grid_of(cog(tmp_path / "c.tif", east=6e5 + 20))
    assert first != grid_of(cog(tmp_path / "d.tif", crs="EPSG:32633"))
    big = grid_of(cog(tmp_path / "e.tif", bigtiff="YES"))
    assert big == grid_of(cog(tmp_path / "f.tif", "uint8", bigtiff="YES"))
    assert big != grid_of(cog(tmp_path / "g.tif", bigtiff="YES", east=0))


@pytest.mark.parametrize("kept", [0, 4, 100, 2000, 0.5])
def test_truncated_raster_is_refused_as_gdal_refuses_it(tmp_path: Path, kept: float) -> None:
    path = cog(tmp_path / "a.tif")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept if isinstance(kept, float) else kept)])
    with pytest.raises(RasterioError):
        stored(path, Window(0, 0, WIDTH, HEIGHT))


def test_missing_raster_is_an_error_of_gdal(tmp_path: Path) -> None:
    with pytest.raises(RasterioError):
        grid_of(tmp_path / "none.tif")
    with pytest.raises(RasterioError):
        stored(tmp_path / "none.tif", WINDOWS[0])


@pytest.mark.parametrize("seed", range(40))
def test_damaged_tags_never_break_the_reader(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    path = cog(tmp_path / "a.tif")
    content = bytearray(path.read_bytes())
    places = rng.integers(0, 800, 12)
    for place in places:
        content[place] = rng.integers(256)
    path.write_bytes(content)
    for window in WINDOWS:
        try:
            read_tiff_window(path, window)
        except UnsupportedTiffLayout:
            continue
