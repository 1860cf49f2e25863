"""Statistics of the pixels: shares, percentiles, interval and GCOS conformity."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lai_stac import fields
from lai_stac.statistics import ProductCounts

NAN = np.nan


def describe_product(lai, lower, upper, flags, inside, *, cloud_known=True, level=0.95):
    return count(lai, lower, upper, flags, inside, level).describe(cloud_known=cloud_known)


def count(lai, lower, upper, flags, inside, level=0.95):
    layers = {"LAI": lai, "LAI_LOWER": lower, "LAI_UPPER": upper, "LAI_FLAGS": flags}
    counts = ProductCounts([band for band, layer in layers.items() if layer is not None], level)
    for row in range(len(lai)):
        rows = slice(row, row + 1)
        some = {band: layer[rows] for band, layer in layers.items() if layer is not None}
        counts.add(some, inside[rows])
    return counts


def product(lai, half_width, flags, level=0.95):
    lai = np.array(lai, dtype="float32")
    half = np.asarray(half_width, dtype="float32")
    inside = np.ones(lai.shape, dtype=bool)
    flags = np.array(flags, dtype="uint8")
    return describe_product(lai, lai - half, lai + half, flags, inside, level=level)


def test_shares_of_the_observation_add_up_to_one():
    values = product([[1.0, 2.0, NAN, NAN, NAN]], 0.5, [[0, 2, 96, 64, 0]]).values
    assert values[fields.PIXEL_COUNT] == 5
    assert values[fields.VALID_FRACTION] == 0.4
    assert values[fields.CLOUD_FRACTION] == 0.2
    assert values[fields.NODATA_FRACTION] == 0.2
    assert values[fields.WATER_FRACTION] == 0.2


def test_pixels_with_a_flag_against_them_are_not_valid():
    values = product([[1.0, 3.0, 9.0, 9.0]], 0.5, [[0, 4, 8, 33]]).values
    assert values[fields.VALID_FRACTION] == 0.5
    assert values[fields.LAI_MEAN] == 2.0


def test_a_product_of_which_little_is_usable_has_no_mean():
    values = product([[1.0, NAN, NAN]], 0.5, [[0, 32, 32]]).values
    assert values[fields.VALID_FRACTION] == pytest.approx(1 / 3, abs=1e-6)
    assert fields.LAI_MEAN not in values
    assert fields.GCOS_GOAL_FRACTION not in values


def test_the_cloud_fraction_is_unknown_without_a_scene_classification():
    lai = np.array([[1.0, NAN]], dtype="float32")
    flags = np.array([[0, 64]], dtype="uint8")
    inside = np.ones(lai.shape, dtype=bool)
    described = describe_product(lai, lai, lai, flags, inside, cloud_known=False)
    assert described.values[fields.CLOUD_FRACTION] is None
    assert fields.WATER_FRACTION not in described.values
    assert described.values[fields.NODATA_FRACTION] == 0.5


def test_a_product_without_an_interval_has_no_uncertainty():
    lai = np.array([[1.0, 2.0]], dtype="float32")
    inside = np.ones(lai.shape, dtype=bool)
    described = describe_product(lai, None, None, np.zeros(lai.shape, "uint8"), inside)
    assert described.values[fields.LAI_MEAN] == 1.5
    assert fields.UNCERTAINTY_MEAN not in described.values
    assert described.requirements == []


def test_pixels_outside_the_footprint_do_not_count():
    lai = np.array([[1.0, 3.0, NAN]], dtype="float32")
    inside = np.array([[True, False, True]])
    flags = np.array([[0, 1, 64]], dtype="uint8")
    values = describe_product(lai, lai - 1, lai + 1, flags, inside).values
    assert values[fields.PIXEL_COUNT] == 2
    assert values[fields.LAI_MEAN] == 1.0
    assert values[fields.INPUT_OUT_OF_DOMAIN_FRACTION] == 0.0


@pytest.mark.parametrize(
    ("flag", "domain", "out_of_range"),
    [(1, 1, 0), (2, 0, 1), (4, 0, 1), (8, 0, 1), (16, 0, 1), (32, 0, 0), (64, 0, 0), (9, 1, 1)],
)
def test_flag_bits_are_counted_as_what_they_mean(flag, domain, out_of_range):
    values = product([[2.0, 2.0]], 0.5, [[flag, 0]]).values
    assert values[fields.VALID_FRACTION] == (1 if flag in (2, 4) else 0.5)
    assert values[fields.INPUT_OUT_OF_DOMAIN_FRACTION] == domain / 2
    assert values[fields.OUTPUT_OUT_OF_RANGE_FRACTION] == out_of_range / 2


def test_flags_of_pixels_without_lai_are_not_counted():
    values = product([[2.0, NAN]], 0.5, [[0, 1 | 32]]).values
    assert values[fields.INPUT_OUT_OF_DOMAIN_FRACTION] == 0.0


def test_half_width_of_a_normal_95_percent_interval_is_1_96_sigma():
    # 1.959964: quantile 0.975 of the standard normal distribution (any table).
    values = product([[3.0]], 1.96, [[0]]).values
    assert values[fields.UNCERTAINTY_MEAN] == pytest.approx(1.96 / 1.959964, abs=1e-6)


@pytest.mark.parametrize(("level", "in_sigma"), [(0.5, 0.674490), (0.8, 1.281552), (0.9, 1.644854)])
def test_one_sigma_is_the_same_whatever_the_level_of_the_interval(level, in_sigma):
    described = product([[3.0]], 0.25 * in_sigma, [[0]], level)
    assert described.values[fields.UNCERTAINTY_MEAN] == pytest.approx(0.25, abs=1e-3)
    assert described.values[fields.RELATIVE_UNCERTAINTY_MEDIAN] == pytest.approx(0.25 / 3, abs=1e-3)
    assert [one.fraction for one in described.requirements] == [0, 1]


@pytest.mark.parametrize(
    ("lai", "sigma", "goal", "threshold"),
    [
        # GCOS-244 (2022): two sigma within 10 % (goal) or 20 % (threshold) of LAI >= 0.5,
        # within 0.05 or 0.10 below.
        (4.0, 0.19, 1, 1),
        (4.0, 0.21, 0, 1),
        (4.0, 0.41, 0, 0),
        (0.5, 0.049, 0, 1),
        (0.3, 0.024, 1, 1),
        (0.3, 0.026, 0, 1),
        (0.3, 0.051, 0, 0),
    ],
)
def test_gcos_conformity_uses_two_sigma_and_switches_at_lai_one_half(lai, sigma, goal, threshold):
    at_goal, at_threshold = product([[lai]], 1.959964 * sigma, [[0]]).requirements
    assert (at_goal.fraction, at_threshold.fraction) == (goal, threshold)
    assert at_goal.coverage_factor == 2
    assert at_goal.basis == "predicted"


def test_relative_uncertainty_leaves_out_sparse_vegetation():
    values = product([[0.1, 2.0]], 1.959964, [[0, 0]]).values
    assert values[fields.RELATIVE_UNCERTAINTY_MEDIAN] == 0.5


def test_product_under_cloud_has_shares_but_no_statistics():
    described = product([[NAN, NAN]], 0.5, [[32, 32]])
    assert described.values[fields.CLOUD_FRACTION] == 1.0
    assert described.values[fields.VALID_FRACTION] == 0.0
    assert fields.LAI_MEAN not in described.values
    assert described.requirements == []


@given(st.lists(st.integers(0, 8000).map(lambda number: number / 1000), min_size=1, max_size=50))
def test_percentiles_rise_and_lie_within_the_values(lai):
    values = product([lai], 0.5, [[0] * len(lai)]).values
    low, middle, high = (values[n] for n in (fields.LAI_P05, fields.LAI_MEDIAN, fields.LAI_P95))
    assert min(lai) - 1e-4 <= low <= middle <= high <= max(lai) + 1e-4


def test_band_statistics_are_in_physical_units():
    values = np.array([[1.0, 3.0, NAN, 9.0]])
    inside = np.array([[True, True, True, False]])
    flags = np.zeros(values.shape, "uint8")
    assert count(values, None, None, flags, inside).band_statistics("LAI") == {
        "minimum": 1.0,
        "maximum": 3.0,
        "mean": 2.0,
        "stddev": 1.0,
        "count": 2,
        "valid_percent": pytest.approx(66.6667),
    }
    nothing = count(np.array([[NAN]]), None, None, np.zeros((1, 1), "u1"), np.array([[True]]))
    assert nothing.band_statistics("LAI") is None


def test_histogram_counts_every_value_once():
    lai = np.array([[-0.5, 0.1, 7.9, 12.0, NAN]])
    counts = count(lai, None, None, np.zeros(lai.shape, "u1"), np.ones(lai.shape, bool))
    counted = counts.histogram(buckets=8)
    assert counted == {"count": 8, "min": 0.0, "max": 8.0, "buckets": [2, 0, 0, 0, 0, 0, 0, 2]}
