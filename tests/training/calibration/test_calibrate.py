"""Calibration: quantiles by hand, coverage on data whose truth is known, bounds that hold."""

import dataclasses

import numpy as np
import pytest

from lai_training.calibration.calibrate import (
    CORRECTION_LIMIT,
    FADE_BELOW_LAI,
    Pairs,
    calibrate,
    correct,
    cross_validate,
    fit_correction,
    fit_intervals,
)
from lai_training.calibration.conformal import (
    bounds,
    effective_rows,
    fit_interval,
    group_weights,
    weighted_quantile,
)


def _pairs(rng: np.random.Generator, *, bias: float = 0.0, groups: int = 60) -> Pairs:
    """Errors that grow with LAI and have a part shared by each site-date."""
    group = np.repeat(np.arange(groups), 8)
    estimated = rng.uniform(0, 6, group.size)
    scale = 0.2 + 0.25 * estimated
    error = scale * (0.5 * rng.standard_normal(groups)[group] + rng.standard_normal(group.size))
    return Pairs(
        measured_lai=np.maximum(estimated + error, 0.0) + bias,
        estimated_lai=estimated,
        group=group,
        outside=np.zeros(group.size, dtype=bool),
    )


@pytest.mark.parametrize(
    ("level", "expected"),
    [(0.2, 1.0), (0.5, 3.0), (0.8, 4.0), (0.95, 4.0)],
)
def test_the_conformal_quantile_of_four_values_by_hand(level, expected):
    # four values split the line into five equally likely parts: shares 0.2, 0.4, 0.6, 0.8
    values = np.array([3.0, 1.0, 4.0, 2.0])

    assert weighted_quantile(values, np.ones(4), level, 4) == expected


def test_the_conformal_quantile_follows_the_weights_by_hand():
    # weights 1, 1, 2 and the unseen value's 4/3: shares 3/16, 6/16, 12/16
    values, weights = np.array([1.0, 2.0, 3.0]), np.array([1.0, 1.0, 2.0])

    assert weighted_quantile(values, weights, 0.37, 3) == 2.0
    assert weighted_quantile(values, weights, 0.38, 3) == 3.0


def test_a_site_date_weighs_as_the_root_of_its_rows():
    weights = group_weights(np.array([0, 0, 0, 0, 1]))

    assert weights[4] / weights[0] == pytest.approx(2)
    assert weights.mean() == pytest.approx(1)


def test_the_interval_covers_what_it_promises_on_site_dates_left_out(rng):
    scores = cross_validate(_pairs(rng))

    for target in ("sl2p", "field"):
        assert 0.93 <= scores[target]["coverage"] <= 0.98


def test_the_interval_is_wider_where_errors_are_larger(rng):
    pairs = _pairs(rng)
    interval = fit_interval(pairs.estimated_lai, pairs.measured_lai, pairs.group)

    lower, upper = bounds(np.array([1.0, 5.0]), interval)

    assert upper[1] - 5 > 1.5 * (upper[0] - 1)
    assert (lower >= 0).all()


def test_a_lower_level_gives_a_narrower_interval(rng):
    pairs = _pairs(rng)

    tables = fit_intervals(pairs, fit_correction(pairs), (0.5, 0.95))

    assert (np.array(tables["field", 0.5]["upper"]) < tables["field", 0.95]["upper"]).all()


def test_either_target_has_the_same_interval_of_field_lai(rng):
    pairs = _pairs(rng, bias=0.4)
    correction = fit_correction(pairs)
    tables = fit_intervals(pairs, correction, (0.95,))

    around_sl2p = bounds(np.array([2.0, 3.5]), tables["sl2p", 0.95])
    pairs_at = dataclasses.replace(
        pairs, estimated_lai=np.array([2.0, 3.5]), outside=np.zeros(2, dtype=bool)
    )
    around_field = bounds(correct(pairs_at, correction), tables["field", 0.95])

    np.testing.assert_allclose(around_sl2p, around_field, atol=0.05)  # knots in between


def test_rows_that_share_their_errors_count_as_fewer():
    alone, together = np.arange(8), np.zeros(8, dtype=np.int64)

    assert effective_rows(alone, 1.0) == 8
    assert effective_rows(together, 1.0) == pytest.approx(8 / 4.5)  # 1 + 7 * 0.5
    assert effective_rows(together, 0.0) == 8


def test_the_correction_removes_a_bias_but_never_more_than_its_limit(rng):
    slight, absurd = _pairs(rng, bias=0.8), _pairs(rng, bias=20.0)

    near = correct(slight, fit_correction(slight))
    far = correct(absurd, fit_correction(absurd))

    vegetated = slight.estimated_lai > FADE_BELOW_LAI
    assert abs(np.mean((near - slight.measured_lai)[vegetated])) < 0.25  # of 0.8
    assert abs(far - absurd.estimated_lai).max() == pytest.approx(CORRECTION_LIMIT)
    assert CORRECTION_LIMIT == 1.5


def test_one_crowded_date_does_not_decide_the_correction(rng):
    pairs = _pairs(rng)
    crowd = rng.integers(0, 8, 400)  # fifty more rows of each row of the first date, all 2 too high
    more = dataclasses.replace(
        pairs,
        measured_lai=np.append(pairs.measured_lai, pairs.estimated_lai[crowd] + 2.0),
        estimated_lai=np.append(pairs.estimated_lai, pairs.estimated_lai[crowd]),
        group=np.append(pairs.group, np.zeros(400, dtype=np.int64)),
        outside=np.zeros(880, dtype=bool),
    )

    moved = correct(pairs, fit_correction(more)) - correct(pairs, fit_correction(pairs))

    assert abs(moved.mean()) < 0.15


def test_bare_soil_is_not_corrected(rng):
    pairs = _pairs(rng, bias=0.8)
    bare = dataclasses.replace(pairs, estimated_lai=np.linspace(0, 2, pairs.outside.size))

    change = correct(bare, fit_correction(pairs)) - bare.estimated_lai

    assert change[0] == 0
    assert (np.diff(change[bare.estimated_lai < FADE_BELOW_LAI]) > 0).all()


def test_spectra_outside_the_domain_are_not_corrected(rng):
    pairs = _pairs(rng, bias=0.8)
    outside = rng.random(pairs.outside.size) < 0.3
    pairs = dataclasses.replace(pairs, outside=outside)

    corrected = correct(pairs, fit_correction(pairs))

    np.testing.assert_array_equal(corrected[outside], pairs.estimated_lai[outside])
    assert (corrected[~outside] != pairs.estimated_lai[~outside]).all()


def test_the_calibration_says_what_it_rests_on(rng):
    block = calibrate(_pairs(rng))

    assert (block["n_pairs"], block["n_site_dates"], block["level"]) == (480, 60, 0.95)
    assert set(block["intervals"]) == set(block["scores_left_out_site_dates"]) == {"sl2p", "field"}
    for interval in block["intervals"].values():
        assert max(interval["lower"]) <= 0 <= min(interval["upper"])
