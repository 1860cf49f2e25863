"""Dilated cloud masks."""

import dask.array as da
import numpy as np
import pytest

from backend.cubes import cube_of
from lai_backend.errors import ParameterError
from lai_backend.scl import mask_scl_dilation, to_scl_dilation_mask

SIZE = 96


def classes(*clouds: tuple[int, int], cls: int = 9) -> np.ndarray:
    image = np.full((SIZE, SIZE), 4.0)
    for row, column in clouds:
        image[row - 2 : row + 3, column - 2 : column + 3] = cls
    return image


def gaussian_share(hidden: np.ndarray, size: int) -> np.ndarray:
    """Return the share under a Gaussian, summed window by window."""
    steps = np.arange(size) - size // 2
    weights = np.exp(-(steps[:, None] ** 2 + steps**2) / (2 * (size / 6) ** 2))
    padded = np.pad(hidden.astype(float), size // 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size))
    return np.einsum("yxij,ij->yx", windows, weights / weights.sum())


def test_the_mask_is_that_of_the_cloud_backends():
    image = classes((30, 40), (70, 20), cls=3)
    image[5, 90] = 0  # no data
    found = to_scl_dilation_mask(cube_of(image), kernel1_size=9, kernel2_size=21)
    clear = np.isin(image, (2, 4, 5, 6, 7))
    expected = (gaussian_share(~clear, 9) > 0.057) | (
        gaussian_share(np.isin(image, (3, 8, 9, 10, 11)), 21) > 0.025
    )
    np.testing.assert_array_equal(found[0, 0], expected)
    assert 100 < expected.sum() < SIZE * SIZE / 2


def test_chunks_make_no_difference():
    image = cube_of(classes((31, 33), (64, 60)))
    whole = to_scl_dilation_mask(image, kernel1_size=17, kernel2_size=31, erosion_kernel_size=3)
    cut = image.copy(data=da.asarray(image.data).rechunk((1, 1, 40, 40)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lai_backend.scl.CHUNK_PX", 40)
        parts = to_scl_dilation_mask(cut, kernel1_size=17, kernel2_size=31, erosion_kernel_size=3)
    np.testing.assert_array_equal(whole, parts)


def test_single_pixels_are_eroded_away():
    image = classes()
    image[50, 50] = 9
    kept = to_scl_dilation_mask(cube_of(image), kernel1_size=3, kernel2_size=3)
    gone = to_scl_dilation_mask(
        cube_of(image), kernel1_size=3, kernel2_size=3, erosion_kernel_size=3
    )
    assert kept.any()
    assert not gone.any()


def test_all_bands_are_hidden_where_the_scene_classes_hide_them():
    cube = cube_of(np.ones((SIZE, SIZE)), bands=("B04", "SCL")).copy()
    cube = cube.where(cube["bands"] != "SCL", cube_of(classes((48, 48)))[0, 0].values)
    masked = mask_scl_dilation(cube)
    hidden = to_scl_dilation_mask(cube.sel(bands=["SCL"]))[0, 0]
    np.testing.assert_array_equal(masked[0, 0].isnull(), hidden == 1)


def test_wrong_cubes_are_refused():
    with pytest.raises(ParameterError):
        to_scl_dilation_mask(cube_of(classes(), bands=("B04", "SCL")))
    with pytest.raises(ParameterError):
        mask_scl_dilation(cube_of(classes(), bands=("B04",)))
