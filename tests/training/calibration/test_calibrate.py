"""Calibration: quantiles by hand, coverage on data whose truth is known, bounds that hold."""

import numpy as np
import pytest

from experiments import worth
from experiments.worth import describe_worth
from lai_training.calibration import correction
from lai_training.calibration.calibrate import (
    LeftOut,
    calibrate_variable,
    change_of,
    fit_left_out_scale,
    leave_out,
    nested_bounds,
    scale_of,
)
from lai_training.calibration.correction import RECIPES, fit_correction
from lai_training.calibration.measurements import GROUNDED, PAIRS, Measurements
from lai_training.calibration.width import (
    effective_rows,
    fit_half_widths,
    group_weights,
    share_of_groups,
    weighted_quantile,
)
from lai_training.metrics import coverage
from lai_udf.predict import BANDS, estimate_field

LEAF = np.array([0.03, 0.06, 0.03, 0.1, 0.3, 0.36, 0.38, 0.4, 0.2, 0.1])
SOIL = np.array([0.12, 0.15, 0.18, 0.2, 0.22, 0.24, 0.25, 0.26, 0.3, 0.26])


@pytest.fixture(autouse=True)
def _fit_in_few_steps(monkeypatch):
    monkeypatch.setattr(correction, "STEPS", 30)
    monkeypatch.setattr(correction, "MIXTURES", 60)


def make_measurements(
    rng: np.random.Generator, *, bias: float = 0.6, groups: int = 15, each: int = 8
) -> Measurements:
    """Field LAI above SL2P's by `bias` on average, with an error that a site-date shares."""
    group = np.repeat(np.arange(groups), each)
    cover = rng.uniform(0, 1, group.size)
    spectra = cover[:, None] * LEAF + (1 - cover[:, None]) * SOIL
    spectra = spectra * (1 + 0.03 * rng.standard_normal(spectra.shape))
    sl2p = 5 * cover
    error = 0.3 * rng.standard_normal(groups)[group] + 0.3 * rng.standard_normal(group.size)
    names = np.array([f"site {number // 3} 2020-06-{number + 1:02d}" for number in group])
    return Measurements(
        measured=np.maximum(sl2p + bias * cover + error, 0),
        sl2p=sl2p,
        sl2p_nominal=sl2p + 0.1,
        reflectance=spectra,
        cosines=np.column_stack([np.ones(group.size), rng.uniform(0.7, 0.9, group.size), cover]),
        outside=np.zeros(group.size, bool),
        group=names,
        fold=names,
        region=np.array([f"region {number % 4}" for number in group]),
        source=np.full(group.size, PAIRS),
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


def test_rows_that_share_their_errors_count_as_fewer():
    alone, together = np.arange(8), np.zeros(8, dtype=np.int64)

    assert effective_rows(alone, 0.5) == 8
    assert effective_rows(together, 0.5) == pytest.approx(8 / 4.5)  # 1 + 7 * 0.5
    assert effective_rows(together, 0.0) == 8


def rmse(error: np.ndarray) -> float:
    return float(np.sqrt(np.mean(error**2)))


@pytest.mark.parametrize("sun", [True, False])
def test_the_correction_removes_a_bias_on_site_dates_left_out(rng, sun):
    rows = make_measurements(rng, bias=1.2, groups=9)

    left_out = leave_out(rows, "LAI", rows.fold, sun=sun)

    assert rmse(left_out.error) < 0.9 * rmse(rows.measured - rows.estimate(sun=sun))


def test_the_correction_never_exceeds_its_limit(rng):
    rows = make_measurements(rng, bias=9.0)

    change = change_of(rows, fit_correction(rows, RECIPES["LAI"], sun=True), sun=True)

    assert np.abs(change).max() == pytest.approx(RECIPES["LAI"].limit)


def test_spectra_far_from_all_field_data_are_hardly_corrected(rng):
    rows = make_measurements(rng, bias=1.5)
    features = correction.gather_inputs(rows, sun=True)
    process = correction.fit_process(
        (features - features.mean(0)) / features.std(0), rows, RECIPES["LAI"], sun=True
    )

    near, far = process(np.zeros((1, 7))), process(np.full((1, 7), 9.0))

    assert near[0] > 0.4
    assert abs(far[0]) < 0.1


def test_spectra_outside_the_domain_are_neither_fitted_on_nor_corrected(rng):
    rows = make_measurements(rng)
    spoilt = Measurements(**vars(rows) | {"outside": rows.sl2p < 2, "measured": rows.measured})
    spoilt.measured[spoilt.outside] += 50

    learnt = fit_correction(spoilt, RECIPES["LAI"], sun=True)

    change = change_of(spoilt, learnt, sun=True)
    assert (change[spoilt.outside] == 0).all()
    assert np.abs(change).max() < 1.4


def test_a_noisy_source_decides_less(rng):
    pairs = make_measurements(rng, bias=0.0)
    others = make_measurements(rng, bias=3.0)
    others = Measurements(**vars(others) | {"source": np.full(others.sl2p.size, GROUNDED)})

    both = fit_correction(Measurements.join([pairs, others]), RECIPES["LAI"], sun=True)

    dense = pairs.take(pairs.sl2p > 3)
    assert change_of(dense, both, sun=True).mean() < 1.0


def test_a_site_date_is_predicted_without_its_own_measurements(rng):
    rows = make_measurements(rng, groups=6)
    own = rows.group == rows.group[0]
    spoilt = Measurements(**vars(rows) | {"measured": rows.measured + 4.0 * own})

    before, after = (leave_out(each, "LAI", each.fold, sun=True) for each in (rows, spoilt))

    np.testing.assert_array_equal(before.change[own], after.change[own])
    assert (before.change[~own] != after.change[~own]).all()


def test_intervals_hold_what_they_promise_on_site_dates_left_out(rng):
    rows = make_measurements(rng, groups=30)
    left_out = LeftOut(rows, np.zeros(rows.sl2p.size), sun=True)

    lower, upper = nested_bounds(left_out, 15.0, (0.5, 0.95))

    assert coverage(rows.measured, lower[0.95], upper[0.95]) == pytest.approx(0.95, abs=0.04)
    assert coverage(rows.measured, lower[0.5], upper[0.5]) == pytest.approx(0.5, abs=0.15)


def test_the_scale_follows_where_errors_are_larger(rng):
    rows = make_measurements(rng, groups=40)
    noise = rng.standard_normal(rows.sl2p.size) * (0.1 + 0.3 * rows.sl2p)
    left_out = LeftOut(
        Measurements(**vars(rows) | {"measured": rows.sl2p + noise}),
        np.zeros(rows.sl2p.size),
        sun=True,
    )

    scale = scale_of(left_out, fit_left_out_scale(left_out, "LAI"))

    assert scale[rows.sl2p > 4].mean() > 2 * scale[rows.sl2p < 1].mean()


def test_the_share_of_a_site_date_is_found_again(rng):
    group = np.repeat(np.arange(400), 5).astype(str)
    shared = np.repeat(rng.normal(0, 0.8, 400), 5)

    assert share_of_groups(shared + rng.normal(0, 0.6, 2000), group) == pytest.approx(
        0.64, abs=0.07
    )


def test_half_widths_rise_with_the_level(rng):
    widths = fit_half_widths(np.abs(rng.standard_normal(300)), np.arange(300).astype(str), 0.5)

    assert widths == sorted(widths)


def test_a_calibrated_variable_is_what_the_udf_reads(rng):
    rows = make_measurements(rng, groups=9)
    entry, _ = calibrate_variable(rows, "LAI")

    image = rows.reflectance.T[:, None].astype("float32")
    cosines = rows.cosines.T[:, None].astype("float32")
    centre, _ = estimate_field(rows.sl2p[None], image, cosines, rows.outside[None], entry)

    assert rmse(centre[0] - rows.measured) < rmse(rows.sl2p - rows.measured)
    assert np.all(np.array(entry["half_widths"]["new"]) >= entry["half_widths"]["known"])
    assert image.shape[0] == len(BANDS)


def test_what_a_calibration_is_worth_is_scored_without_what_is_scored(rng, monkeypatch):
    monkeypatch.setattr(worth, "REPLICATES", 40)
    monkeypatch.setattr(worth, "DRAWS", 20)
    rows = make_measurements(rng, bias=1.2, groups=8, each=6)
    left_out = leave_out(rows, "LAI", rows.fold, sun=True)
    crops = np.full(rows.sl2p.size, "wheat")

    table = describe_worth(rows, left_out, {}, crops, rng).set_index("what")

    own = [float(table.loc[f"LAI, {k} own points, regions left out", "RMSE"][:4]) for k in (0, 3)]
    assert own[1] < own[0]
    mean = table.loc["LAI, crop and site-date means", "width"]
    assert float(mean[:4]) < float(table.loc["LAI, field pairs, site-dates left out", "width"][:4])
    assert table.loc["LAI, field pairs, site-dates left out", "n"] == rows.sl2p.size
