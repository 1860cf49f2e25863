"""`lai_udf.smooth`: the function over time on datasets, in memory or of Dask."""

import numpy as np
import pytest
import xarray as xr
from fake_cubes import fake_cube, to_digital_numbers
from fake_series import fake_series

from lai_udf import estimate, series, smooth
from lai_udf.errors import MissingBandError
from lai_udf.predict import BANDS, LaiError, LaiInputError

SEASON = {"step_days": 5, "start": "2024-02-02", "end": "2024-10-01"}


@pytest.fixture
def cube(rng: np.random.Generator) -> xr.DataArray:
    return fake_series(rng, haze=(30, 33), size=(5, 6))


def test_a_dataset_gives_the_numbers_of_the_udf(cube: xr.DataArray) -> None:
    expected = series.apply_datacube(cube, SEASON)
    found = smooth(cube.to_dataset("bands"), **SEASON)

    assert list(found.data_vars) == list(series.OUTPUT_BANDS)
    assert found["LAI"].dims == ("t", "y", "x")
    assert found["LAI"].attrs["units"] == "m2 m-2"
    for name in series.OUTPUT_BANDS:
        np.testing.assert_allclose(found[name], expected.sel(bands=name), atol=1e-4)


def test_evidence_may_come_apart_and_as_digital_numbers(cube: xr.DataArray) -> None:
    lai = cube.sel(bands=["LAI", "LAI_LOWER", "LAI_UPPER", "LAI_FLAGS"]).to_dataset("bands")
    bands = cube.sel(bands=["B02", "B04", "B8A", "B11", "SCL"])
    numbers = bands.copy()
    numbers[:, :4] = np.round(10_000 * (bands[:, :4] + 0.1))

    whole = smooth(cube.to_dataset("bands"), **SEASON)
    apart = smooth(lai, evidence=numbers, scale=1e-4, offset=-1000, **SEASON)
    assert np.abs(apart["LAI"] - whole["LAI"]).max() < 0.01


@pytest.mark.parametrize("lazy", [False, True])
def test_evidence_may_be_the_cube_that_lai_was_estimated_from(lazy: bool) -> None:
    if lazy:
        pytest.importorskip("dask")
    reflectance = fake_cube(np.random.default_rng(3), 24, dates=4).rio.write_crs("EPSG:32633")
    times = np.datetime64("2024-06-01", "ns") + np.arange(4) * np.timedelta64(5, "D")
    numbers = to_digital_numbers(reflectance.assign_coords(t=times)).rename(t="time")
    data = numbers.to_dataset("bands").rio.write_crs("EPSG:32633")
    data = data.chunk({"time": 1}) if lazy else data
    scaling = {"scale": 1e-4, "offset": -1000}
    lai = estimate(data, **scaling)

    found = smooth(lai, evidence=data, dates="observed", **scaling)
    bands = reflectance.assign_coords(t=times).rename(t="time")
    expected = smooth(lai, evidence=bands, dates="observed")
    assert found["LAI"].dims == ("time", "y", "x")
    assert (np.abs(found["LAI"] - expected["LAI"]) < 0.02).mean() > 0.99  # rounded reflectance
    assert np.abs(found["LAI"] - smooth(lai, dates="observed")["LAI"]).max() > 0.1


def test_time_may_be_called_time_and_the_grid_defaults_to_the_data(cube: xr.DataArray) -> None:
    found = smooth(cube.rename(t="time", bands="band"), step_days=10)

    assert found["LAI"].dims == ("time", "y", "x")
    assert found["time"].values[0] == cube["t"].values[0].astype("datetime64[D]")
    assert (np.diff(found["time"].values) == np.timedelta64(10, "D")).all()


def test_dask_cubes_stay_lazy_and_give_the_same_numbers(cube: xr.DataArray) -> None:
    pytest.importorskip("dask")
    lazy = smooth(cube.to_dataset("bands").chunk({"t": 7, "y": 2, "x": 4}), **SEASON)

    assert lazy["LAI"].chunks is not None
    np.testing.assert_allclose(
        lazy["LAI"].compute(scheduler="synchronous"),
        smooth(cube.to_dataset("bands"), **SEASON)["LAI"],
        atol=1e-4,
    )


def test_observed_dates_keep_their_times_and_name_what_was_rejected(cube: xr.DataArray) -> None:
    found = smooth(cube.to_dataset("bands"), dates="observed")

    assert found["t"].equals(cube["t"])
    assert np.flatnonzero(found["REJECTED"].mean(("y", "x")) > 0.5).tolist() == [30, 33]
    assert not found["FALL"].any()


def test_points_need_no_grid(cube: xr.DataArray) -> None:
    points = cube.stack(point=("y", "x")).reset_index("point").to_dataset("bands")

    found = smooth(points, **SEASON)["LAI"]
    whole = smooth(cube.to_dataset("bands"), **SEASON)["LAI"].stack(point=("y", "x"))
    np.testing.assert_allclose(found, whole, atol=1e-4)


def test_wrong_data_are_refused_by_the_errors_of_the_project(cube: xr.DataArray) -> None:
    with pytest.raises(MissingBandError):
        smooth(cube.sel(bands=["B02"]), **SEASON)
    with pytest.raises(MissingBandError):
        smooth(cube.isel(t=0), **SEASON)
    with pytest.raises(LaiInputError) as outside:
        smooth(cube, dates=["2030-01-01"])
    assert outside.value.parameter == "dates"
    with pytest.raises(LaiInputError):
        smooth(cube)


def test_dates_that_are_none_or_missing_are_named_as_such(cube: xr.DataArray) -> None:
    times = cube["t"].values.copy()
    times[3] = np.datetime64("NaT")
    with pytest.raises(LaiInputError) as no_time:
        smooth(cube.assign_coords(t=times), step_days=5)
    assert no_time.value.parameter is None
    empty = cube.isel(t=slice(0))
    with pytest.raises(LaiInputError):
        smooth(empty, step_days=5)
    assert smooth(empty, **SEASON)["LAI"].isnull().all()


def test_products_of_one_day_count_as_one(cube: xr.DataArray) -> None:
    later = cube.assign_coords(t=cube["t"] + np.timedelta64(20, "s"))
    later = later.isel(t=slice(None, None, 2))
    twice = xr.concat([cube, later], "t").sortby("t")
    once = smooth(cube, **SEASON)
    for name, values in smooth(twice, **SEASON).items():
        np.testing.assert_allclose(values, once[name], atol=1e-5)

    whole = smooth(cube, dates="observed")
    seen = smooth(twice, dates="observed")
    assert seen.sizes["t"] == twice.sizes["t"]
    found = seen.sel(t=later["t"])
    np.testing.assert_array_equal(found["REJECTED"], whole["REJECTED"][::2])


def test_of_the_products_of_one_day_what_is_usable_is_averaged(cube: xr.DataArray) -> None:
    other = cube.copy()
    other.loc[{"bands": "LAI"}] += 0.4
    other.loc[{"bands": "SCL", "y": cube["y"][0]}] = 9  # cloud: the first product counts alone
    both = smooth(xr.concat([cube, other], "t").sortby("t"), **SEASON)["LAI"]
    middle = cube.copy()
    middle.loc[{"bands": "LAI"}] += 0.2
    bounds = ["LAI_LOWER", "LAI_UPPER"]
    middle.loc[{"bands": bounds}] = cube.sel(bands=bounds) + 0.2
    xr.testing.assert_allclose(both.isel(y=0), smooth(cube, **SEASON)["LAI"].isel(y=0))
    np.testing.assert_allclose(
        both.isel(y=slice(1, None)),
        smooth(middle, **SEASON)["LAI"].isel(y=slice(1, None)),
        atol=0.01,
    )


def test_of_the_products_of_one_day_the_one_suspected_of_cloud_is_left_out(
    cube: xr.DataArray,
) -> None:
    cloudy = cube.isel(t=[20, 40]).copy()
    cloudy.loc[{"bands": "LAI"}] *= 0.4
    cloudy.loc[{"bands": ["B02", "B04"]}] += 0.1
    cloudy.loc[{"bands": "LAI_FLAGS"}] = series.RESIDUAL_CLOUD
    both = smooth(xr.concat([cube, cloudy], "t").sortby("t"), **SEASON)
    for name, values in smooth(cube, **SEASON).items():
        np.testing.assert_allclose(both[name], values, atol=1e-5)
    alone = smooth(xr.concat([cube.drop_isel(t=[20, 40]), cloudy], "t"), dates="observed")
    assert (alone["REJECTED"].sel(t=cloudy["t"]) == 1).all()


@pytest.mark.parametrize(
    ("dates", "value"),
    [
        (["2024-05-01", "NaT"], "NaT"),
        (["2024-05-01", "2024-05-03", "2024-05-01T10:00"], "2024-05-01"),
        (5, "5"),
    ],
)
def test_a_date_that_is_none_or_comes_twice_is_named(
    cube: xr.DataArray, dates: object, value: str
) -> None:
    with pytest.raises(LaiInputError) as refused:
        smooth(cube, dates=dates)  # type: ignore[arg-type]
    assert (refused.value.parameter, refused.value.value) == ("dates", value)


def test_dates_may_be_those_of_xarray_pandas_or_text(cube: xr.DataArray) -> None:
    times = cube["t"][5:30:8]
    expected = smooth(cube, dates=[str(day)[:10] for day in times.values])
    xr.testing.assert_identical(smooth(cube, dates=times), expected)
    xr.testing.assert_identical(smooth(cube, dates=times.to_index()), expected)

    grid = smooth(cube, step_days=5)
    ends = {"start": cube["t"].min(), "end": cube["t"].max()}
    xr.testing.assert_identical(smooth(cube, step_days=np.int64(5), **ends), grid)
    texts = cube.assign_coords(t=cube["t"].dt.strftime("%Y-%m-%d"))
    xr.testing.assert_identical(smooth(texts, step_days=5), grid)


def _estimated(seed: int) -> tuple[xr.Dataset, xr.Dataset]:
    """Return a cube of five dates, of which one is hazy, and its LAI."""
    reflectance = fake_cube(np.random.default_rng(seed), 24, dates=5)
    reflectance[2, :10] += 0.08
    times = np.datetime64("2024-06-01", "ns") + np.arange(5) * np.timedelta64(5, "D")
    cube = reflectance.assign_coords(t=times).rename(t="time").to_dataset("bands")
    cube["SCL"] = (("time", "y", "x"), np.full((5, 24, 24), 4, np.uint8))
    cube = cube.rio.write_crs("EPSG:32633")
    return cube, estimate(cube)


def test_the_level_is_that_of_the_estimate_unless_another_is_given() -> None:
    cube, _ = _estimated(8)
    lai = estimate(cube, level=0.8)
    found = smooth(lai, step_days=5)
    assert found.attrs["series_level"] == 0.8
    xr.testing.assert_identical(found, smooth(lai, step_days=5, level=0.8))
    assert np.abs(found["LAI_UPPER"] - smooth(lai, step_days=5, level=0.95)["LAI_UPPER"]).max() > 0


@pytest.mark.parametrize("bands", [list(BANDS), ["B02", "B04", "B8A", "B11"]])
def test_evidence_is_used_whatever_its_names_and_order(bands: list[str]) -> None:
    cube, lai = _estimated(4)
    expected = smooth(lai, evidence=cube, dates="observed")["LAI"]
    assert np.abs(expected - smooth(lai, dates="observed")["LAI"]).max() > 0.1

    own = cube[[*bands, "SCL"]]
    xr.testing.assert_equal(
        smooth(lai, evidence=own.rename({b: b.lower() for b in bands}), dates="observed")["LAI"],
        expected,
    )
    by_day = own.assign_coords(time=own["time"] + np.timedelta64(11, "h"))
    for turned in (own.isel(time=[3, 0, 4, 1, 2]), own.isel(y=slice(None, None, -1)), by_day):
        found = smooth(lai, evidence=turned, dates="observed")["LAI"]
        xr.testing.assert_equal(found, expected)


@pytest.mark.parametrize("all_bands", [True, False])
def test_evidence_of_other_dates_or_pixels_is_refused(all_bands: bool) -> None:
    cube, lai = _estimated(5)
    cube = cube if all_bands else cube[["B02", "B04", "B8A", "B11"]].rio.write_crs("EPSG:32633")
    for other in (
        cube.isel(time=slice(0, 4)),
        cube.assign_coords(time=cube["time"] + np.timedelta64(1, "D")),
        cube.assign_coords(x=cube["x"] + 20),
    ):
        with pytest.raises(LaiInputError) as refused:
            smooth(lai, evidence=other, dates="observed")
        assert refused.value.parameter == "evidence"


def test_errors_about_evidence_name_the_parameters_of_smooth() -> None:
    cube, lai = _estimated(6)
    numbers = cube.copy()
    for band in BANDS:
        numbers[band] = (10_000 * cube[band].clip(0.0001)).round().astype("uint16")
    for evidence in (numbers, numbers[["B02", "B04", "B8A", "B11"]]):
        with pytest.raises(LaiError) as refused:
            smooth(lai, evidence=evidence, dates="observed")
        assert refused.value.parameter == "scale"


def test_a_level_that_is_no_number_is_named(cube: xr.DataArray) -> None:
    lai = cube.to_dataset("bands")
    with pytest.raises(LaiInputError) as raised:
        smooth(lai.assign_attrs(level="L2A"), step_days=10)
    assert (raised.value.parameter, raised.value.value) == ("level", "L2A")


def test_a_series_is_not_smoothed_again(cube: xr.DataArray) -> None:
    series = smooth(cube.to_dataset("bands"), step_days=10)
    for form in (series, series.to_array("bands"), series.to_array("band")):
        with pytest.raises(LaiInputError):
            smooth(form, step_days=5)
