"""Composites and seasons of series whose answer is known."""

import numpy as np
import pytest
import xarray as xr
from fake_series import crop_lai, fake_series

from lai_udf import smooth
from lai_udf.errors import MissingBandError
from lai_udf.predict import LaiInputError
from lai_udf.seasons import composite, season


def make_series(lai: np.ndarray, first: str = "2024-01-01", sd: float = 0.1) -> xr.Dataset:
    times = np.datetime64(first, "ns") + np.arange(len(lai)) * np.timedelta64(1, "D")
    values = np.asarray(lai, dtype=float)
    return xr.Dataset(
        {"LAI": ("t", values), "LAI_SD": ("t", np.full(len(lai), sd))}, coords={"t": times}
    )


def test_dekads_are_ten_days_and_the_rest_of_the_month() -> None:
    result = composite(make_series(np.arange(60.0)), "dekad")

    starts = [str(time)[:10] for time in result["t"].values]
    assert starts[:4] == ["2024-01-01", "2024-01-11", "2024-01-21", "2024-02-01"]
    assert result["COUNT"].values[:3].tolist() == [10, 10, 11]
    assert result["LAI"].values[:3].tolist() == [4.5, 14.5, 25.0]


@pytest.mark.parametrize(("method", "expected"), [("mean", 22 / 3), ("median", 1), ("best", 20)])
def test_a_month_is_its_mean_its_median_or_its_best_date(method: str, expected: float) -> None:
    series = make_series(np.array([1.0, 20.0, 1.0]))
    series["LAI_SD"][:] = [0.3, 0.1, 0.2]

    assert float(composite(series, "month", method)["LAI"][0]) == pytest.approx(expected)  # type: ignore[arg-type]


def test_flagged_and_rejected_dates_are_left_out() -> None:
    series = make_series(np.array([1.0, 9.0, 2.0, 8.0]))
    series["LAI_FLAGS"] = ("t", np.array([0, 1, 4, 0], np.uint8))
    series["REJECTED"] = ("t", np.array([0, 0, 0, 1.0]))

    result = composite(series, "month")
    assert float(result["LAI"][0]) == 1.5
    assert int(result["COUNT"][0]) == 2


def test_a_period_without_a_usable_date_is_empty() -> None:
    series = make_series(np.array([1.0] * 10 + [np.nan] * 10))

    for method in ("mean", "median", "best"):
        result = composite(series, "dekad", method)  # type: ignore[arg-type]
        assert np.isnan(result["LAI"].values).tolist() == [False, True]


def test_a_triangle_has_the_season_of_its_geometry() -> None:
    up, down = np.linspace(1, 5, 51), np.linspace(5, 1, 41)[1:]
    found = season(make_series(np.concatenate([np.ones(20), up, down, np.ones(30)]), sd=0.08))

    day = np.datetime64("2024-01-01")
    assert abs(found["START"].values - (day + 20 + 10)) < np.timedelta64(12, "h")
    assert abs(found["PEAK"].values - (day + 70)) < np.timedelta64(12, "h")
    assert abs(found["END"].values - (day + 70 + 32)) < np.timedelta64(12, "h")
    assert float(found["LENGTH"]) == pytest.approx(72, abs=0.1)
    assert float(found["PEAK_LAI"]) == 5
    # A slope of 0.08 a day and a deviation of 0.08: one day.
    assert float(found["START_SD"]) == pytest.approx(1, rel=0.01)
    assert float(found["INTEGRAL"]) == pytest.approx((1.8 + 5) / 2 * 72, rel=0.01)
    assert 0.05 * 72 < float(found["INTEGRAL_SD"]) < 0.08 * 72


def test_no_season_where_nothing_grows_and_no_start_where_it_is_not_seen() -> None:
    flat = season(make_series(np.full(100, 2.0)))
    assert np.isnat(flat["PEAK"].values)
    assert np.isnan(float(flat["INTEGRAL"]))

    late = season(make_series(np.linspace(5, 1, 60)))
    assert np.isnat(late["START"].values)
    assert not np.isnat(late["END"].values)
    assert np.isnan(float(late["LENGTH"]))


def test_a_gap_inside_a_season_leaves_no_integral() -> None:
    lai = np.concatenate([np.linspace(1, 5, 50), np.linspace(5, 1, 50)])
    lai[60:64] = np.nan
    found = season(make_series(lai))

    assert np.isnan(float(found["INTEGRAL"]))
    assert not np.isnat(found["START"].values)


def test_the_season_of_a_noisy_field_is_that_of_its_truth_within_its_deviation(
    rng: np.random.Generator,
) -> None:
    cube = fake_series(rng, haze=(26, 31, 37), size=(8, 8))
    found = season(smooth(cube, step_days=1, start="2024-03-01", end="2024-10-20"))
    days = np.arange(58.0, 291.0)
    truth = make_series(crop_lai(days + 3), "2024-02-28")
    expected = season(truth)

    assert found["START"].dims == ("y", "x")
    for name in ("START", "END"):
        error = (found[name] - expected[name]) / np.timedelta64(1, "D")
        assert np.abs(error).max() < 6
        assert (np.abs(error) < 1.96 * found[f"{name}_SD"]).mean() > 0.9
    ratio = found["INTEGRAL"] / expected["INTEGRAL"]
    assert np.abs(ratio - 1).max() < 0.05


def test_wrong_use_is_refused() -> None:
    series = make_series(np.arange(9.0))
    with pytest.raises(LaiInputError):
        composite(series, "week")  # type: ignore[arg-type]
    with pytest.raises(LaiInputError):
        season(series, share=2)
    with pytest.raises(MissingBandError):
        season(series.drop_vars("LAI_SD"))
    with pytest.raises(MissingBandError):
        composite(series.drop_vars("LAI"))
