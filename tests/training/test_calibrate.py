"""Calibration: quantiles by hand, coverage on data whose truth is known, bounds that hold."""

import dataclasses

import numpy as np
import pytest

from lai_training.calibrate import (
    CORRECTION_BANDS,
    CORRECTION_LIMIT,
    Pairs,
    bounds,
    calibrate,
    correct,
    cross_validate,
    fit_correction,
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
        bands=rng.uniform(0, 0.5, (group.size, len(CORRECTION_BANDS))),
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

    assert weighted_quantile(values, np.ones(4), level) == expected


def test_the_conformal_quantile_follows_the_weights_by_hand():
    # weights 1, 1, 2 and the unseen value's 4/3: shares 3/16, 6/16, 12/16
    values, weights = np.array([1.0, 2.0, 3.0]), np.array([1.0, 1.0, 2.0])

    assert weighted_quantile(values, weights, 0.37) == 2.0
    assert weighted_quantile(values, weights, 0.38) == 3.0


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
    of = (pairs.estimated_lai, pairs.measured_lai, pairs.group)

    wide, narrow = (np.array(fit_interval(*of, level)["upper"]) for level in (0.95, 0.5))

    assert (narrow < wide).all()


def test_the_correction_removes_a_bias_but_never_more_than_its_limit(rng):
    slight, absurd = _pairs(rng, bias=0.8), _pairs(rng, bias=20.0)

    near = correct(slight, fit_correction(slight))
    far = correct(absurd, fit_correction(absurd))

    assert abs(np.mean(near - slight.measured_lai)) < 0.15
    assert abs(far - absurd.estimated_lai).max() == pytest.approx(CORRECTION_LIMIT)
    assert CORRECTION_LIMIT == 1.5


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
