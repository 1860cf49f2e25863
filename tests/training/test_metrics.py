"""Scores against hand calculations, closed forms and the interval arithmetic of the paper."""

import math

import numpy as np
import pytest
from scipy import stats

from lai_training import metrics


def test_scores_are_those_of_a_hand_calculation():
    # differences 1, 0, -1, 2: SSE 6; reference mean 2.5, SST 5; centred products sum to 6,
    # predictions (2, 2, 2, 6) have mean 3 and centred sum of squares 12
    scores = metrics.score([1, 2, 3, 4], [2, 2, 2, 6])

    assert scores.n == 4
    assert scores.bias == pytest.approx(0.5)
    assert scores.mse == pytest.approx(1.5)
    assert scores.rmse == pytest.approx(math.sqrt(1.5))
    assert scores.distance == pytest.approx(1.0)
    assert scores.r_squared == pytest.approx(1 - 6 / 5)
    assert scores.correlation == pytest.approx(6 / math.sqrt(5 * 12))
    assert scores.correlation_squared == pytest.approx(36 / 60)


def test_pairs_with_nan_are_left_out():
    with_nan = metrics.score([1, np.nan, 3, 4, 5], [2, 2, np.nan, 6, 5])
    without = metrics.score([1, 4, 5], [2, 6, 5])
    assert with_nan == without


def test_scores_of_no_pairs_are_nan():
    scores = metrics.score([np.nan], [1.0])
    assert scores.n == 0
    assert math.isnan(scores.rmse)
    assert math.isnan(metrics.coverage([], [], []))


def test_a_constant_reference_has_no_correlation():
    scores = metrics.score([2, 2, 2], [1, 2, 3])
    assert math.isnan(scores.correlation)
    assert math.isnan(scores.r_squared)
    assert scores.rmse == pytest.approx(math.sqrt(2 / 3))


def test_float32_images_lose_no_digits_in_the_sums(rng):
    reference = rng.uniform(0, 6, 300_000).astype(np.float32)
    shifted = reference + np.float32(0.25)
    assert metrics.score(reference, shifted).bias == pytest.approx(0.25, abs=1e-7)


@pytest.mark.parametrize(
    ("truth", "guess", "within"),
    [(1.0, 1.5, True), (1.0, 1.51, False), (5.0, 6.0, True), (5.0, 6.01, False)],
)
def test_agreement_is_half_a_unit_or_twenty_percent(truth, guess, within):
    assert metrics.agreement_ratios([truth], [guess])["within_0.5_or_20%"] == within


@pytest.mark.parametrize(
    ("truth", "guess", "level", "within"),
    [
        (0.2, 0.29, "threshold", True),  # GCOS-244: 0.1 below LAI 0.5
        (0.2, 0.31, "threshold", False),
        (4.0, 4.79, "threshold", True),  # 20 % above
        (4.0, 4.79, "goal", False),
        (4.0, 4.39, "goal", True),
        (0.2, 0.26, "goal", False),  # 0.05
    ],
)
def test_gcos_agreement_follows_its_two_levels(truth, guess, level, within):
    assert metrics.agreement_ratios([truth], [guess])[f"within_gcos_{level}"] == within


def test_coverage_counts_the_ends_and_width_is_a_mean():
    assert metrics.coverage([0, 1, 2, 3], [0, 0, 0, 0], [1, 1, 2, 2]) == 0.75
    assert metrics.mean_width([0, 1], [1, 4]) == 2


def test_crps_from_quantiles_agrees_with_the_closed_form(rng):
    mean, sd = rng.uniform(0, 5, 500), rng.uniform(0.2, 1, 500)
    truth = rng.normal(mean, sd)
    probabilities = np.linspace(0.025, 0.975, 39)
    quantiles = {p: mean + sd * stats.norm.ppf(p) for p in probabilities}

    from_quantiles = metrics.crps_quantiles(truth, quantiles)

    z = (truth - mean) / sd  # Gneiting and Raftery 2007, eq. 21
    exact = sd * (z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - 1 / math.sqrt(math.pi))
    assert from_quantiles == pytest.approx(exact.mean(), rel=0.01)


def test_pinball_loss_is_asymmetric():
    assert metrics.pinball_loss([2.0], [1.0], 0.9) == pytest.approx(0.9)
    assert metrics.pinball_loss([1.0], [2.0], 0.9) == pytest.approx(0.1)


def test_rank_correlation_sees_order_only():
    assert metrics.rank_correlation([1, 2, 3, 4], [1, 10, 100, 1000]) == pytest.approx(1)
    assert math.isnan(metrics.rank_correlation([1, 1, 1], [1, 2, 3]))


def test_interval_of_the_mean_uses_the_two_sided_t():
    assert stats.t.ppf(0.975, 29) == pytest.approx(metrics.T_TWO_SIDED_95_DF29, abs=5e-4)
    assert metrics.half_width_of_mean(0.13, 30) == pytest.approx(0.13 * 2.045 / math.sqrt(30))


def test_arrays_of_different_size_are_refused():
    with pytest.raises(ValueError, match="one size"):
        metrics.score([1, 2], [1])
