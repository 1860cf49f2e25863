"""Cloud masks from the scene classification of Sentinel-2, as the cloud back-ends make them.

Both masks are blurred with Gaussian kernels and cut at a threshold, as in
openeo-geotrellis-extensions (`SCLConvolutionFilter`); what is no whole class, or no data, counts
as hidden.
"""

from collections.abc import Sequence

import dask.array as da
import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy import ndimage

from lai_backend.errors import ParameterError
from lai_backend.grids import georeference_like
from lai_backend.margins import SCL_KERNELS_PX

CLEAR = (2, 4, 5, 6, 7)
CLOUDS = (3, 8, 9, 10, 11)
CHUNK_PX = 1024
SHARE_NOT_CLEAR, SHARE_CLOUDS = 0.057, 0.025  # blurred shares above which a pixel is hidden


def to_scl_dilation_mask(
    data: xr.DataArray,
    erosion_kernel_size: int = 0,
    mask1_values: Sequence[int] = CLEAR,
    mask2_values: Sequence[int] = CLOUDS,
    kernel1_size: int = SCL_KERNELS_PX[0],
    kernel2_size: int = SCL_KERNELS_PX[1],
) -> xr.DataArray:
    """Return where clouds and what surrounds them hide the ground: 1 hidden, 0 clear.

    Args:
        data: scene classes, with one band or none.
        erosion_kernel_size: px; what is hidden shrinks by half of it first.
        mask1_values: classes that are clear; all others are blurred with the first kernel.
        mask2_values: classes blurred with the second kernel.
        kernel1_size: px, 0: no blurring.
        kernel2_size: the same for the second.
    """
    if data.sizes.get("bands", 1) != 1:
        raise ParameterError("to_scl_dilation_mask needs a cube with the band SCL alone.")
    sizes = [int(size) for size in (erosion_kernel_size, kernel1_size, kernel2_size)]
    if min(sizes) < 0:
        raise ParameterError(f"Sizes of kernels must be whole numbers from 0 on, not {sizes}.")
    ordered = data.transpose(..., "y", "x")
    reach = sizes[0] + max(sizes[1:]) // 2
    rows, columns = ordered.ndim - 2, ordered.ndim - 1
    chunk = max(CHUNK_PX, reach)
    classes = da.asarray(ordered.data).astype(np.float32).rechunk({rows: chunk, columns: chunk})
    # an axis in one chunk has no neighbours to exchange pixels with
    depth = {
        axis: reach if axis >= rows and classes.numblocks[axis] > 1 else 0
        for axis in range(ordered.ndim)
    }

    def hide(block: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        clear, clouds = np.isin(block, list(mask1_values)), np.isin(block, list(mask2_values))
        outside = np.isinf(block)  # beyond the cube nothing is hidden
        pairs = ((~clear & ~outside, sizes[1], SHARE_NOT_CLEAR), (clouds, sizes[2], SHARE_CLOUDS))
        parts = [
            _blur(_erode(part | outside, sizes[0]) & ~outside, size, share)
            for part, size, share in pairs
        ]
        return (parts[0] | parts[1]).astype(np.float32)

    hidden = da.map_overlap(hide, classes, depth=depth, boundary=np.inf, dtype=np.float32)
    result = ordered.copy(data=hidden).transpose(*data.dims)
    return georeference_like(result, data)


def mask_scl_dilation(data: xr.DataArray, scl_band_name: str | None = None) -> xr.DataArray:
    """Hide clouds and what surrounds them in all bands of a cube that holds `SCL`."""
    name = scl_band_name or "SCL"
    names = data["bands"].values.tolist() if "bands" in data.dims else []
    if name not in names:
        raise ParameterError(f"mask_scl_dilation finds no band {name} in {names}.")
    hidden = to_scl_dilation_mask(data.sel(bands=name, drop=True))
    return georeference_like(data.where(hidden == 0).transpose(*data.dims), data)


def _erode(hidden: npt.NDArray[np.bool_], size: int) -> npt.NDArray[np.bool_]:
    if size < 2:
        return hidden
    steps = np.arange(size) - size // 2
    disk = steps[:, None] ** 2 + steps**2 <= (size // 2) ** 2
    element = disk.reshape((1,) * (hidden.ndim - 2) + disk.shape)
    eroded: npt.NDArray[np.bool_] = ndimage.binary_erosion(hidden, element, border_value=1)
    return eroded


def _blur(part: npt.NDArray[np.bool_], size: int, threshold: float) -> npt.NDArray[np.bool_]:
    """Return where the share of a mask under a Gaussian of `size` px exceeds a threshold."""
    if size < 2 or not part.any():
        return part
    steps = np.arange(size) - size // 2
    weights = np.exp(-(steps**2) / (2 * (size / 6) ** 2))
    blurred = part.astype(float)
    for axis in (-2, -1):
        blurred = ndimage.convolve1d(blurred, weights / weights.sum(), axis, mode="constant")
    return blurred > threshold
