"""Counts of stored numbers give the statistics that the pixels themselves give."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lai_stac.statistics import ValueCounts

STEP = 0.001


@given(
    st.lists(st.integers(-32768, 65535), min_size=1, max_size=60),
    st.floats(0, 1),
    st.integers(1, 5),
)
def test_counts_give_the_statistics_of_the_values(stored, share, parts):
    values = np.array(stored) * STEP
    counts = ValueCounts(STEP)
    for part in np.array_split(values.astype("float32"), parts):
        counts.add(part)
    assert counts.total == len(values)
    assert counts.mean == pytest.approx(values.mean(), abs=1e-9)
    assert counts.spread == pytest.approx(values.std(), abs=1e-9)
    assert counts.ends == pytest.approx((values.min(), values.max()))
    assert counts.quantile(share) == pytest.approx(np.quantile(values, share), abs=1e-9)


def test_histogram_counts_every_value_once():
    counts = ValueCounts(STEP)
    counts.add(np.array([-0.5, 0.1, 7.9, 12.0]))
    assert counts.histogram((0, 8), 8) == [2, 0, 0, 0, 0, 0, 0, 2]


def test_nothing_has_no_mean():
    counts = ValueCounts(STEP)
    assert counts.total == 0
    assert np.isnan([counts.mean, counts.spread, counts.quantile(0.5)]).all()
