"""The second UDF: LAI through clouds and gaps, on simulated fields."""

import numpy as np
import pytest
import xarray as xr
from fake_series import START, crop_lai, fake_series, mown_lai

from lai_udf import predict, series
from lai_udf.series import LaiInputError, apply_datacube, smooth_series

SEASON = {"step_days": 5, "start": "2024-02-02", "end": "2024-10-01"}


def band(cube: xr.DataArray, name: str) -> np.ndarray:
    return cube.sel(bands=name).values


def test_constants_are_those_of_predict() -> None:
    shared = [name for name in vars(series) if name.isupper() and hasattr(predict, name)]

    assert "MASKED_SCENE_CLASSES" in shared
    assert "CLOUD_NEAR" in shared
    for name in set(shared) - {"OUTPUT_BANDS"}:
        if name != "BLOCK_PX":  # each function's own
            assert getattr(series, name) == getattr(predict, name), name


def test_scaling_is_that_of_predict() -> None:
    stored = np.array([0.0, 1.0, 1200.0, 9000.0])
    settings = series.SeriesOptions(
        dates="observed", reflectance_scale=1e-4, reflectance_offset=-1000.0
    )

    np.testing.assert_allclose(
        series.to_reflectance(stored, settings), predict.to_reflectance(stored, 1e-4, -1000)
    )


def test_output_has_the_dates_asked_for_and_the_window_whole(rng: np.random.Generator) -> None:
    cube = fake_series(rng)
    result = apply_datacube(cube, {"dates": ["2024-06-03", "2024-05-01"]})

    assert result.dims == ("t", "bands", "y", "x")
    assert result.dtype == np.float32
    assert list(result["bands"].values) == list(series.OUTPUT_BANDS)
    assert [str(time)[:10] for time in result["t"].values] == ["2024-06-03", "2024-05-01"]
    assert result["y"].equals(cube["y"])
    assert result["x"].equals(cube["x"])


def test_grid_of_dates_runs_from_start_by_steps(rng: np.random.Generator) -> None:
    context = {"step_days": 10, "start": "2024-03-01", "end": "2024-03-25"}
    times = apply_datacube(fake_series(rng), context)["t"].values

    assert [str(time)[:10] for time in times] == ["2024-03-01", "2024-03-11", "2024-03-21"]


def test_smoothing_comes_nearer_to_the_truth_than_the_dates_themselves(
    rng: np.random.Generator,
) -> None:
    cube = fake_series(rng, size=(10, 10))
    smoothed = apply_datacube(cube, {"dates": "observed"})
    truth = crop_lai(5.0 * np.arange(60) + 3)[:, None, None]

    error, before = (np.sqrt(np.mean((band(c, "LAI") - truth) ** 2)) for c in (smoothed, cube))
    assert error < 0.75 * before


def test_hazy_dates_are_rejected_and_clear_ones_kept(rng: np.random.Generator) -> None:
    hazy = (26, 31, 37, 44)
    smoothed = apply_datacube(fake_series(rng, haze=hazy), {"dates": "observed"})

    rejected = band(smoothed, "REJECTED") == 1
    assert rejected[list(hazy)].mean() > 0.95
    assert np.delete(rejected, hazy, axis=0).mean() < 0.01
    truth = crop_lai(5.0 * np.array(hazy) + 3)[:, None, None]
    assert np.abs(band(smoothed, "LAI")[list(hazy)] - truth).max() < 0.45


def test_without_spectra_lai_alone_is_smoothed(rng: np.random.Generator) -> None:
    cube = fake_series(rng).sel(bands=["LAI"])
    smoothed = apply_datacube(cube, SEASON)

    assert np.isfinite(smoothed.values).all()


def test_a_cut_is_kept_and_its_moment_is_averaged_over(rng: np.random.Generator) -> None:
    cube = fake_series(rng, mown_lai)
    observed = apply_datacube(cube, {"dates": "observed"})
    days = 5.0 * np.arange(60) + 3

    assert not (band(observed, "REJECTED") == 1).any()
    assert np.abs(band(observed, "LAI") - mown_lai(days)[:, None, None]).max() < 0.5
    last, first = np.flatnonzero(days < 140)[-1], np.flatnonzero(days >= 140)[0]
    between = (START + np.timedelta64(int(days[last]) - 3 + 2, "D"), days[first])[0]
    inside = apply_datacube(cube, {"dates": [str(between)]})
    high, low = band(observed, "LAI")[last], band(observed, "LAI")[first]
    assert (band(inside, "LAI")[0] < high - 0.5).all()
    assert (band(inside, "LAI")[0] > low + 0.5).all()
    assert (band(inside, "LAI_SD")[0] > 0.8).all()  # before or after the cut: unknown


@pytest.mark.parametrize(("trusted", "expected"), [(True, [3]), (False, [])])
def test_the_end_of_a_rejected_cloud_is_no_fall(trusted: bool, expected: list[int]) -> None:
    lai = np.array([3.1, 3.2, 6.5, 3.2, 3.1])[:, None]
    seen = series.read_observations(np.arange(0, 50, 10), {"LAI": lai})
    found = series.mark_falls(np.arange(5)[:, None] == 3, seen.usable)
    dates = np.ones((5, 1), dtype=bool)
    dates[2] = trusted

    kept = series.confirm_falls(seen, found, dates)
    assert np.flatnonzero(kept.after).tolist() == expected


def test_series_deviation_grows_in_a_gap_and_covers_the_truth(rng: np.random.Generator) -> None:
    cube = fake_series(rng, size=(12, 12))
    gap = cube.isel(t=[*range(22), *range(30, 60)])
    inside = {"dates": [str(time)[:10] for time in cube["t"].values[22:30]]}
    smoothed = apply_datacube(gap, inside)

    deviation, days = band(smoothed, "LAI_SD"), 5.0 * np.arange(22, 30) + 3
    assert (deviation[3] > 2 * deviation[0] * 0.6).all()
    truth = crop_lai(days)[:, None, None]
    assert (np.abs(band(smoothed, "LAI") - truth) < 1.96 * deviation).mean() > 0.9
    assert band(smoothed, "GAP_DAYS")[:, 0, 0].tolist() == [5, 10, 15, 20, 20, 15, 10, 5]


def test_field_bounds_hold_the_error_that_all_dates_share(rng: np.random.Generator) -> None:
    cube = fake_series(rng)
    smoothed = apply_datacube(cube, SEASON)
    lai, lower, upper = (band(smoothed, name) for name in ("LAI", "LAI_LOWER", "LAI_UPPER"))

    assert (lower <= lai).all()
    assert (upper - lai >= 1.5 - 1e-4).all()
    assert ((lai - lower >= 1.3 - 1e-3) | (lower == 0)).sum() > 0
    assert (upper - lai > 1.96 * band(smoothed, "LAI_SD")).all()


def test_windows_whose_dates_differ_give_one_grid_and_the_same_numbers(
    rng: np.random.Generator,
) -> None:
    cube = fake_series(rng, haze=(30,), size=(6, 6))
    cube[::3, :, :, :3] = np.nan
    whole = apply_datacube(cube, SEASON)
    left = apply_datacube(cube.isel(x=slice(0, 3)).dropna("t", how="all"), SEASON)
    right = apply_datacube(cube.isel(x=slice(3, 6)), SEASON)

    assert left["t"].equals(right["t"])
    np.testing.assert_allclose(xr.concat([left, right], "x").values, whole.values, atol=1e-4)


def test_order_of_dates_does_not_matter(rng: np.random.Generator) -> None:
    cube = fake_series(rng, haze=(30,))
    mixed = cube.isel(t=rng.permutation(cube.sizes["t"]))

    np.testing.assert_allclose(
        apply_datacube(mixed, SEASON).values, apply_datacube(cube, SEASON).values, atol=1e-4
    )


def test_two_looks_at_one_day_count_as_one(rng: np.random.Generator) -> None:
    cube = fake_series(rng)
    twice = xr.concat([cube, cube.isel(t=[30])], "t")
    day = {"dates": [str(cube["t"].values[30])[:10]]}

    np.testing.assert_allclose(apply_datacube(twice, day), apply_datacube(cube, day), atol=1e-5)


def test_one_date_gives_itself_with_a_wide_interval_and_nothing_far_off(
    rng: np.random.Generator,
) -> None:
    cube = fake_series(rng).isel(t=[30])
    day = np.datetime64(str(cube["t"].values[0])[:10])
    smoothed = apply_datacube(cube, {"dates": [str(day), str(day + 25)]})

    assert np.abs(band(smoothed, "LAI")[0] - band(cube, "LAI")[0]).max() < 0.3
    assert np.isnan(band(smoothed, "LAI")[1]).all()


@pytest.mark.parametrize("hidden", ["cloud", "nothing"])
def test_a_pixel_without_usable_dates_has_no_series(rng: np.random.Generator, hidden: str) -> None:
    cube = fake_series(rng)
    if hidden == "cloud":
        cube.loc[{"bands": "SCL"}][..., 0, 0] = 9
    else:
        cube.loc[{"bands": "LAI"}][..., 0, 0] = np.nan
    smoothed = apply_datacube(cube, SEASON)

    assert np.isnan(smoothed.values[..., 0, 0]).all()
    assert np.isfinite(smoothed.values[..., 1, 1]).all()


@pytest.mark.parametrize("missing", ["B02", "B04", "B8A", "B11", "SCL", "LAI_LOWER", "LAI_FLAGS"])
def test_any_band_but_lai_may_be_missing(rng: np.random.Generator, missing: str) -> None:
    cube = fake_series(rng, size=(1, 2))
    whole, less = (apply_datacube(each, SEASON) for each in (cube, cube.drop_sel(bands=missing)))

    assert np.isfinite(band(less, "LAI")).all()
    np.testing.assert_allclose(band(less, "LAI"), band(whole, "LAI"), atol=0.3)


def test_dates_without_lai_change_nothing(rng: np.random.Generator) -> None:
    cube = fake_series(rng, size=(1, 2))
    empty = cube.isel(t=[10, 40]).assign_coords(t=cube["t"][[10, 40]] + np.timedelta64(2, "D"))
    with_empty = xr.concat([cube, empty * np.nan], "t")

    np.testing.assert_allclose(
        apply_datacube(with_empty, SEASON).values, apply_datacube(cube, SEASON).values, atol=1e-6
    )


def test_a_gap_of_a_year_stays_empty_in_its_middle(rng: np.random.Generator) -> None:
    cube = fake_series(rng, dates=20)
    later = cube.assign_coords(t=cube["t"] + np.timedelta64(460, "D"))
    context = {"step_days": 10, "start": "2024-01-03", "end": "2025-07-01"}
    smoothed = apply_datacube(xr.concat([cube, later], "t"), context)

    gap = band(smoothed, "GAP_DAYS")[:, 0, 0]
    assert np.isnan(band(smoothed, "LAI")[gap > 60]).all()
    assert np.isfinite(band(smoothed, "LAI")[gap <= 60]).all()


@pytest.mark.parametrize(
    ("context", "parameter"),
    [
        ({}, "dates"),
        ({"dates": []}, "dates"),
        ({"dates": ["soon"]}, "dates"),
        ({"dates": ["2024-05-01", "2024-05-01"]}, "dates"),
        ({"dates": ["2026-05-01"]}, "dates"),
        ({"dates": ["2024-02-01"], "period": ["2024-02-05", "2024-06-01"]}, "dates"),
        ({"step_days": 0, "start": "2024-03-01", "end": "2024-04-01"}, "step_days"),
        ({"step_days": 5, "start": "2024-03-01"}, "end"),
        ({"step_days": 5, "start": "2024-03-01", "end": "2024-02-01"}, "end"),
        ({"step_days": 5, "start": "2020-03-01", "end": "2024-04-01"}, "start"),
        ({"dates": "observed", "level": 2}, "level"),
        ({"dates": "observed", "reflectance_scale": 10_000}, "reflectance_scale"),
        ({"dates": "observed", "reflectance_offset": 1000}, "reflectance_offset"),
        ({"dates": "observed", "reflectance_offset": "-0.1"}, "reflectance_offset"),
    ],
)
def test_contexts_that_no_run_could_mean_are_refused(
    rng: np.random.Generator, context: dict[str, object], parameter: str
) -> None:
    with pytest.raises(LaiInputError) as refused:
        apply_datacube(fake_series(rng), context)

    assert refused.value.parameter == parameter


def test_cubes_that_would_give_a_wrong_number_are_refused(rng: np.random.Generator) -> None:
    cube = fake_series(rng)
    scaled = cube.copy()
    scaled.loc[{"bands": "LAI"}] *= 1000
    numbers = cube.copy()
    numbers.loc[{"bands": ["B02", "B04", "B8A", "B11"]}] *= 10_000
    smoothed = apply_datacube(cube, SEASON)
    wrong = (cube.isel(t=0, drop=True), cube.drop_sel(bands="LAI"), scaled, numbers, smoothed)

    for each in wrong:
        with pytest.raises(LaiInputError):
            apply_datacube(each, SEASON)


def test_one_series_of_a_parcel_is_smoothed_like_a_pixel(rng: np.random.Generator) -> None:
    cube = fake_series(rng, haze=(31,)).isel(y=slice(0, 1), x=slice(0, 1))
    names = [name for name in cube["bands"].values if name != "LAI"]
    bands = {str(name): band(cube, name)[:, 0, 0] for name in names}
    line = smooth_series(cube["t"].values, band(cube, "LAI")[:, 0, 0], bands=bands, **SEASON)
    pixel = apply_datacube(cube, SEASON)

    assert line["time"].dtype == "datetime64[D]"
    for name in series.OUTPUT_BANDS:
        np.testing.assert_allclose(line[name], band(pixel, name)[:, 0, 0], atol=1e-5)


def test_observed_dates_of_a_series_name_the_cuts(rng: np.random.Generator) -> None:
    cube = fake_series(rng, mown_lai)
    found = smooth_series(cube["t"].values, band(cube, "LAI")[:, 0, 0], dates="observed")

    days = 5.0 * np.arange(60) + 3
    expected = [np.flatnonzero(days >= cut)[0] for cut in (140, 190)]
    assert np.flatnonzero(found["FALL"]).tolist() == expected


def test_times_may_be_texts_and_numbers_are_none(rng: np.random.Generator) -> None:
    cube = fake_series(rng)
    texts = cube.assign_coords(t=[f"{str(time)[:19]}Z" for time in cube["t"].values])

    np.testing.assert_array_equal(
        apply_datacube(texts, SEASON).values, apply_datacube(cube, SEASON).values
    )
    with pytest.raises(LaiInputError):
        apply_datacube(cube.assign_coords(t=np.arange(60)), SEASON)


def test_a_chunk_without_dates_has_no_values(rng: np.random.Generator) -> None:
    empty = apply_datacube(fake_series(rng).isel(t=slice(0, 0)), SEASON)

    assert empty.sizes["t"] > 40
    assert np.isnan(empty.values).all()
