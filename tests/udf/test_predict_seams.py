"""The answer does not depend on how the cube was cut."""

import numpy as np
import pytest
import xarray as xr
from fake_cubes import ANGLE_DEGREES, fake_cube, with_bands

from lai_udf.emulation import Cutting, run_udf_in_windows
from lai_udf.predict import apply_datacube

TOLERANCE_LAI = 1e-4


@pytest.fixture(scope="module")
def scene() -> xr.DataArray:
    """Return 200 x 272 px with a cloud, a hole, and angles that vary."""
    rng = np.random.default_rng(3)
    cube = fake_cube(rng, (200, 272)).isel(t=0, drop=True)
    scene_class = np.full((200, 272), 4)
    scene_class[90:100, 100:130] = 9
    slope = np.linspace(0, 4, 272)[None, :] + np.zeros((200, 1))
    angles = {name: degrees + slope for name, degrees in ANGLE_DEGREES.items()}
    cube = with_bands(cube, SCL=scene_class, **angles)
    cube[:, 40:60, 180:200] = np.nan
    return cube


def largest_difference(one: xr.DataArray, other: xr.DataArray, band: str) -> float:
    first, second = one.sel(bands=band).values, other.sel(bands=band).values
    np.testing.assert_array_equal(np.isnan(first), np.isnan(second))
    return float(np.nanmax(np.abs(first - second)))


@pytest.fixture(scope="module")
def uncut(scene: xr.DataArray, shipped: str) -> xr.DataArray:
    return apply_datacube(scene, {"model": shipped, "samples": 3, "seed": 5})


@pytest.mark.parametrize(
    "cutting",
    [
        Cutting(size_px=96),
        Cutting(size_px=224),
        Cutting(size_px=96, origin_px=(32, 60)),
    ],
    ids=["96+16", "224+16", "96+16, shifted"],
)
def test_windows_and_the_whole_scene_agree(
    scene: xr.DataArray, uncut: xr.DataArray, shipped: str, udf_code: str, cutting: Cutting
) -> None:
    context = {"model": shipped, "samples": 3, "seed": 5, "overlap": 16}
    windows = run_udf_in_windows(udf_code, scene, context, cutting)

    for band in ("LAI", "LAI_SD", "LAI_LOWER", "LAI_UPPER"):
        assert largest_difference(windows, uncut, band) <= TOLERANCE_LAI
    differing = windows.sel(bands="LAI_FLAGS") != uncut.sel(bands="LAI_FLAGS")
    assert float(differing.mean()) <= 1e-4  # LAI at a limit to the last digit


def test_windows_without_overlap_show_their_seams(
    scene: xr.DataArray, uncut: xr.DataArray, shipped: str, udf_code: str
) -> None:
    # The test above can fail: without overlap it does, by far.
    windows = run_udf_in_windows(
        udf_code, scene, {"model": shipped}, Cutting(size_px=96, overlap_px=0)
    )
    assert largest_difference(windows, uncut, "LAI") > 100 * TOLERANCE_LAI


def test_overlap_in_the_context_saves_work_and_changes_nothing_inside(
    scene: xr.DataArray, shipped: str
) -> None:
    window = scene.isel(y=slice(0, 128), x=slice(0, 128))
    with_overlap = apply_datacube(window, {"model": shipped, "overlap": 16})
    without = apply_datacube(window, {"model": shipped})
    inside = {"y": slice(16, -16), "x": slice(16, -16)}

    np.testing.assert_allclose(with_overlap.isel(inside), without.isel(inside), atol=TOLERANCE_LAI)


def test_blocks_inside_a_large_window_leave_no_seams(
    monkeypatch: pytest.MonkeyPatch, scene: xr.DataArray, shipped: str
) -> None:
    import lai_udf.predict

    whole = apply_datacube(scene, {"model": shipped})
    monkeypatch.setattr(lai_udf.predict, "BLOCK_PX", 96)
    blocks = apply_datacube(scene, {"model": shipped})

    assert largest_difference(blocks, whole, "LAI") <= TOLERANCE_LAI


def test_one_date_chunks_equal_chunks_with_all_dates(known: str, udf_code: str) -> None:
    cube = fake_cube(np.random.default_rng(4), 50, dates=3)
    cube[1, :, :30, :30] = np.nan
    context = {"model": known, "overlap": 16}

    all_dates = run_udf_in_windows(udf_code, cube, context, Cutting(size_px=32))
    by_date = run_udf_in_windows(udf_code, cube, context, Cutting(size_px=32, by_date=True))

    np.testing.assert_array_equal(all_dates.values, by_date.values)


def test_dates_may_be_absent_from_some_windows(known: str, udf_code: str) -> None:
    cube = fake_cube(np.random.default_rng(5), (32, 96), dates=2)
    cube[0, :, :, :60] = np.nan  # the first of two windows holds the second date only
    cutting = Cutting(size_px=48, overlap_px=4)

    lai = run_udf_in_windows(udf_code, cube, {"model": known, "overlap": 4}, cutting)
    whole = apply_datacube(cube, {"model": known})

    assert lai.sel(bands="LAI").isel(t=0, x=slice(0, 48)).isnull().all()
    xr.testing.assert_allclose(lai.sel(bands="LAI"), whole.sel(bands="LAI"), atol=1e-5)
