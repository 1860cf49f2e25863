"""A JPEG 2000 file that ends too early is refused, for GDAL reads it without a word."""

import numpy as np
import pytest
import rasterio
from affine import Affine

from lai_udf.errors import UnreadableProductError
from lai_udf.scenes.bands import open_raster, require_whole


@pytest.fixture
def tiled(tmp_path):
    """A lossless image of 16 tiles, as bands of a SAFE folder are tiled."""
    path = tmp_path / "T31TCJ_B05_20m.jp2"
    dn = np.random.default_rng(1).integers(1000, 5000, (1, 128, 128)).astype("uint16")
    with rasterio.open(
        path, "w", driver="JP2OpenJPEG", height=128, width=128, count=1, dtype="uint16",
        crs="EPSG:32631", transform=Affine(20, 0, 0, 0, -20, 0),
        blockxsize=32, blockysize=32, REVERSIBLE="YES", QUALITY="100",
    ) as dataset:  # fmt: skip
        dataset.write(dn)
    return path, dn


def test_a_whole_file_is_read(tiled):
    path, dn = tiled

    with open_raster(str(path), "B05") as dataset:
        np.testing.assert_array_equal(dataset.read(), dn)


@pytest.mark.parametrize("share", [0.999, 0.8, 0.5, 0.2, 0.01, 0])
def test_a_truncated_file_is_one_clear_error(tiled, share):
    path, _ = tiled
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])

    with (
        pytest.raises(UnreadableProductError),
        open_raster(str(path), "B05") as dataset,
    ):
        dataset.read()


def test_a_codestream_up_to_the_end_of_the_file_needs_its_marker(tiled):
    path, dn = tiled
    whole = path.read_bytes()
    start = whole.index(b"jp2c") - 4
    open_ended = whole[:start] + bytes(4) + whole[start + 4 :]
    path.write_bytes(open_ended)
    with open_raster(str(path), "B05") as dataset:
        np.testing.assert_array_equal(dataset.read(), dn)

    path.write_bytes(open_ended[:-100])

    with pytest.raises(UnreadableProductError):
        require_whole(str(path), "B05")


def test_a_long_box_is_measured_by_its_eight_bytes(tiled):
    path, _ = tiled
    whole = path.read_bytes()
    start = whole.index(b"jp2c") - 4
    length = int.from_bytes(whole[start : start + 4], "big")
    long = (1).to_bytes(4, "big") + b"jp2c" + (length + 8).to_bytes(8, "big")
    path.write_bytes(whole[:start] + long + whole[start + 8 :])
    require_whole(str(path), "B05")

    path.write_bytes(path.read_bytes()[:-1])

    with pytest.raises(UnreadableProductError):
        require_whole(str(path), "B05")


def test_other_files_are_passed_over(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"II*")

    require_whole(str(tmp_path / "a.tif"), "B05")
    require_whole(str(tmp_path / "absent.jp2"), "B05")
    require_whole("https://host/a.jp2", "B05")
