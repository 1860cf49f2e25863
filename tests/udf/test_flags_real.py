"""Flags 32 and 64 on a real series: they mark where the estimate is worse, and little else."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from scipy.ndimage import distance_transform_cdt

from lai_udf.bundle import default_bundle_path
from lai_udf.predict import (
    ANGLES,
    BANDS,
    CLOUD_NEAR,
    INPUT_OUT_OF_DOMAIN,
    MASKED_SCENE_CLASSES,
    NO_DATA_NEAR,
    OUTPUT_TOO_HIGH,
    OUTPUT_TOO_LOW,
    apply_datacube,
)

FAR_PX = 16


@pytest.fixture(scope="module")
def series(shared_data: Path) -> xr.DataArray:
    """Return the cube (t, bands, y, x) of 118 real dates with scene classes and angles."""
    (path,) = (shared_data / "timeseries").glob("0000280663*.nc")
    with xr.open_dataset(path) as cube:
        like = cube["B02"].transpose("time", ...)
        names = [*BANDS, "SCL", *ANGLES]
        planes = [cube[name].broadcast_like(like).transpose(*like.dims) for name in names]
        joined = xr.concat(planes, "bands").assign_coords(bands=names).load()
    spatial = dict(zip(like.dims, ("t", "y", "x"), strict=True))
    return joined.rename(spatial).transpose("t", "bands", "y", "x").astype("float32")


def expect_from_neighbours(lai: np.ndarray, clear: np.ndarray, days: np.ndarray) -> np.ndarray:
    """Return LAI (t, y, x) on the line between clear dates at most 10 days before and after."""
    whole = np.flatnonzero(clear.mean(axis=(1, 2)) > 0.9)
    expected = np.full(lai.shape, np.nan)
    for date, day in enumerate(days):
        before = [other for other in whole if 0 < day - days[other] <= 10]
        after = [other for other in whole if 0 < days[other] - day <= 10]
        if before and after:
            first, last = before[-1], after[0]
            share = (day - days[first]) / (days[last] - days[first])
            line = (1 - share) * lai[first] + share * lai[last]
            expected[date] = np.where(clear[first] & clear[last], line, np.nan)
    return expected


@pytest.mark.shared
def test_flags_mark_the_worse_pixels_near_masks_and_few_others(series: xr.DataArray) -> None:
    result = apply_datacube(
        series, {"model": str(default_bundle_path()), "reflectance_offset": 0.0}
    )
    lai = result.sel(bands="LAI").values
    flags = result.sel(bands="LAI_FLAGS").values.astype(int)
    scene_class = series.sel(bands="SCL").values
    days = series["t"].values.astype("datetime64[h]").astype(float) / 24
    worse = INPUT_OUT_OF_DOMAIN | OUTPUT_TOO_LOW | OUTPUT_TOO_HIGH
    usable = np.isfinite(lai) & (flags & worse == 0)
    hidden = np.isin(scene_class, MASKED_SCENE_CLASSES)
    distance = np.stack([distance_transform_cdt(~mask, "chessboard") for mask in hidden])
    distance[~hidden.any(axis=(1, 2))] = 99
    # The border of the scene is flagged as well, whatever the masks.
    inside = np.zeros_like(usable)
    inside[:, 2:-2, 2:-2] = True
    error = np.abs(lai - expect_from_neighbours(lai, np.isin(scene_class, (4, 5)), days))

    unmarked = usable & inside & (flags & (CLOUD_NEAR | NO_DATA_NEAR) == 0)
    near = np.nanmean(error[unmarked & (distance <= FAR_PX)])
    far = np.nanmean(error[unmarked & (distance > FAR_PX)])
    marked = 1 - unmarked.sum() / (usable & inside).sum()
    print(
        f"unmarked near masks {near:.3f}, beyond {FAR_PX} px {far:.3f}, {near / far:.2f}; "
        f"marked {marked:.1%}"
    )
    assert near <= 1.1 * far
    assert marked <= 0.15
