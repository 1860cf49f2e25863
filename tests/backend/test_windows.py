"""UDFs on windows of a cube, without a server."""

import dask
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from backend import udfs
from backend.udfs import px
from lai_backend.errors import ParameterError, UdfError
from lai_backend.neighborhood import (
    apply_along,
    apply_neighborhood,
    apply_pixels,
    reduce_with_udf,
    run_on_cube,
)
from lai_backend.udf_runner import LocalUdf
from lai_backend.windows import parse_windows

P1D = [{"dimension": "t", "value": "P1D"}]


@pytest.fixture(autouse=True)
def _one_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


def make_cube(rng: np.random.Generator, height: int = 131, width: int = 150) -> xr.DataArray:
    cube = xr.DataArray(
        rng.normal(size=(2, 3, height, width)).astype("float32"),
        dims=("t", "bands", "y", "x"),
        coords={
            "t": pd.to_datetime(["2024-06-01", "2024-06-11"]).values,
            "bands": ["B04", "B08", "SCL"],
            "y": 5_600_000 - 20 * np.arange(height) - 10.0,
            "x": 500_000 + 20 * np.arange(width) + 10.0,
        },
    )
    return cube.chunk({"y": 64, "x": 64}).rio.write_crs("EPSG:32633")


def neighborhood(cube: xr.DataArray, code: str, size: int = 96, overlap: int = 16, **options):
    context = options.get("context", {})
    sizes = px(size) + options.get("t", [])
    return apply_neighborhood(cube, LocalUdf(code, context), sizes, px(overlap)).compute()


@pytest.mark.parametrize(("height", "width"), [(131, 150), (96, 96), (7, 5), (97, 193)])
def test_identity_returns_the_input_for_odd_sizes(rng, height, width):
    cube = make_cube(rng, height, width)
    xr.testing.assert_identical(neighborhood(cube, udfs.IDENTITY), cube.compute())


def test_blocks_of_many_windows_keep_every_pixel_in_place(rng):
    cube = make_cube(rng, 70, 1010).isel(t=[0], bands=[0])
    result = neighborhood(cube, udfs.IDENTITY, size=32, overlap=4)
    xr.testing.assert_identical(result, cube.compute())


def test_udf_sees_size_plus_twice_the_overlap(rng):
    assert np.unique(neighborhood(make_cube(rng), udfs.CHUNK_SHAPE)) == [128128]


def test_tiled_box_mean_equals_the_whole_image(rng):
    cube = make_cube(rng)
    whole = run_on_cube(cube, LocalUdf(udfs.BOX_MEAN))
    np.testing.assert_array_equal(neighborhood(cube, udfs.BOX_MEAN), whole)


def test_tiled_box_mean_without_overlap_has_seams(rng):
    cube = make_cube(rng)
    whole = run_on_cube(cube, LocalUdf(udfs.BOX_MEAN))
    assert not np.array_equal(neighborhood(cube, udfs.BOX_MEAN, overlap=0), whole, equal_nan=True)


def test_box_mean_equals_apply_kernel(rng):
    from openeo_processes_dask.process_implementations.cubes.apply import apply_kernel

    cube = make_cube(rng)
    kernel = apply_kernel(cube.compute(), np.full((3, 3), 1 / 9))
    ours = neighborhood(cube, udfs.BOX_MEAN)
    inner = {"y": slice(1, -1), "x": slice(1, -1)}  # border=0 there, NaN here
    np.testing.assert_allclose(ours.isel(inner), kernel.isel(inner), atol=1e-6)


def test_changed_overlap_is_ignored(rng):
    cube = make_cube(rng)
    xr.testing.assert_identical(neighborhood(cube, udfs.DIRTY_OVERLAP), cube.compute())


def test_beyond_the_cube_there_is_nan(rng):
    result = neighborhood(make_cube(rng, 192, 192), udfs.NAN_COUNT)
    assert np.unique(result) == [128 * 128 - 112 * 112]  # two sides of every corner window


def test_p1d_calls_with_three_dimensions_and_the_date(rng):
    result = neighborhood(make_cube(rng), udfs.DIMENSIONS, t=P1D)
    days = [int(pd.Timestamp(day).value // 86_400e9) for day in ("2024-06-01", "2024-06-11")]
    assert [int(layer.max()) for layer in result] == [300_000 + day for day in days]


def test_without_p1d_all_dates_come_at_once(rng):
    assert np.unique(neighborhood(make_cube(rng), udfs.DIMENSIONS)) == [400_000]


def test_p1d_equals_all_dates_at_once(rng):
    cube = make_cube(rng)
    one, all_dates = (neighborhood(cube, udfs.BOX_MEAN, t=t) for t in (P1D, []))
    xr.testing.assert_identical(one, all_dates)


def test_apply_metadata_relabels_the_bands(rng):
    cube = make_cube(rng)
    result = neighborhood(cube, udfs.TWO_BANDS)
    assert result["bands"].values.tolist() == ["SUM", "COUNT"]
    np.testing.assert_allclose(result.sel(bands="SUM"), cube.sum("bands"), rtol=1e-5)


def test_a_cube_without_time_or_bands_is_fine(rng):
    cube = make_cube(rng).isel(t=0, bands=0, drop=True)
    xr.testing.assert_identical(neighborhood(cube, udfs.IDENTITY), cube.compute())


def test_integers_arrive_as_float32(rng):
    cube = (make_cube(rng) * 100).astype("int16")
    assert neighborhood(cube, udfs.IDENTITY).dtype == np.float32


def test_reduce_with_a_udf_drops_the_dimension_and_keeps_the_labels(rng):
    cube = make_cube(rng)
    result = reduce_with_udf(cube, LocalUdf(udfs.MEAN_OVER_T), "t").compute()
    assert result.dims == ("bands", "y", "x")
    assert result["bands"].values.tolist() == ["B04", "B08", "SCL"]
    np.testing.assert_allclose(result, cube.mean("t"), rtol=1e-5)


def test_reduce_that_does_not_reduce_is_an_error(rng):
    with pytest.raises(UdfError):
        reduce_with_udf(make_cube(rng), LocalUdf(udfs.IDENTITY), "t").compute()


def test_apply_keeps_all_labels(rng):
    cube = make_cube(rng)
    xr.testing.assert_identical(
        apply_pixels(cube, LocalUdf(udfs.IDENTITY)).compute(), cube.compute()
    )


def test_apply_dimension_takes_a_new_length_from_the_udf(rng):
    last = udfs.IDENTITY.replace("return cube", "return cube.isel(t=[-1])")
    result = apply_along(make_cube(rng), LocalUdf(last), "t", None).compute()
    assert result["t"].values.tolist() == [pd.Timestamp("2024-06-11").value]


@pytest.mark.parametrize(
    "code",
    [
        udfs.RAISES,
        udfs.CROPS,
        udfs.RETURNS_NONE,
        udfs.LATE_ANNOTATIONS,
        udfs.TWO_BANDS.replace("def apply_metadata", "def other"),
        "import nowhere_to_be_found\n" + udfs.IDENTITY,
        "def broken(:\n  pass\n",
    ],
)
def test_a_bad_udf_is_an_error_of_the_udf(rng, code):
    with pytest.raises(UdfError):
        neighborhood(make_cube(rng), code)


@pytest.mark.parametrize(
    ("size", "overlap"),
    [
        (px(96), px(97)),
        (px(2), []),
        (px(96)[:1], []),
        ([{"dimension": "x", "value": 960, "unit": "m"}, *px(96)[1:]], []),
        (px(96), px(16)[:1]),
        (px(96), px(-1)),
        ([*px(96), {"dimension": "t", "value": "P1M"}], []),
        ([*px(96), {"dimension": "z", "value": 1}], []),
    ],
)
def test_wrong_sizes_are_refused(size, overlap):
    with pytest.raises(ParameterError):
        parse_windows(size, overlap)
