"""Networks beside SL2P: left out where they learnt from the pairs, as they ship elsewhere."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lai_training.calibrate import Pairs, calibrate
from lai_training.emulation import predict_spectra
from lai_training.pairs import read_pairs
from lai_training.validate_networks import (
    LEFT_OUT_NOTE,
    list_networks,
    predict_left_out,
    predict_shipped,
    was_calibrated_on,
)
from lai_training.validate_uncertainty import score_uncertainty
from lai_udf.bundle import default_bundle_path


def make_estimates(rng: np.random.Generator, n: int = 400, groups: int = 40) -> Pairs:
    estimated = rng.uniform(0, 6, n)
    group = rng.integers(0, groups, n)
    error = rng.normal(0.5, 0.7, n) + rng.normal(0, 0.3, groups)[group]
    return Pairs(
        measured_lai=np.maximum(estimated + error, 0),
        estimated_lai=estimated,
        group=group,
        outside=np.zeros(n, bool),
    )


@pytest.mark.parametrize("target", ["sl2p", "field"])
def test_left_out_predictions_score_as_the_model_card_says(rng, target) -> None:
    pairs = make_estimates(rng)
    card = calibrate(pairs)["scores_left_out_site_dates"][target]

    prediction = predict_left_out(pairs, target)

    scores = score_uncertainty(pairs.measured_lai, prediction)
    error = prediction.lai - pairs.measured_lai
    assert np.sqrt(np.mean(error**2)) == pytest.approx(card["rmse"], abs=1e-3)
    assert scores["coverage_95%"] == pytest.approx(card["coverage"], abs=1e-3)
    assert scores["width_95%"] == pytest.approx(card["mean_width"], abs=1e-3)
    assert scores["coverage_68%"] == pytest.approx(0.68, abs=0.08)
    assert 0 < scores["crps"] < 1


def test_a_site_date_does_not_teach_its_own_prediction(rng) -> None:
    pairs = make_estimates(rng)
    spoilt = Pairs(**vars(pairs) | {"measured_lai": pairs.measured_lai.copy()})
    spoilt.measured_lai[pairs.group == 3] += 4

    before, after = predict_left_out(pairs, "field"), predict_left_out(spoilt, "field")

    own = pairs.group == 3
    np.testing.assert_array_equal(before.lai[own], after.lai[own])
    assert (before.lai[~own] != after.lai[~own]).all()


def test_pairs_are_known_again_by_number_clusters_and_rmse(rng) -> None:
    pairs = make_estimates(rng)
    calibration = calibrate(pairs)
    others = make_estimates(rng)

    assert was_calibrated_on(calibration, pairs)
    assert not was_calibrated_on(calibration, others)
    assert not was_calibrated_on(calibration, pairs.take(pairs.group > 0))
    assert not was_calibrated_on({"intervals": {}}, pairs)


def test_on_other_pairs_a_bundle_is_scored_as_it_ships(tmp_path, field_pairs: pd.DataFrame) -> None:
    path = tmp_path / "pairs.csv"
    field_pairs.to_csv(path, index=False)
    table = read_pairs(path)
    bundle = default_bundle_path()

    found = list_networks(bundle, table)

    (name,) = [name for name in found if name.endswith("field")]
    prediction = found[name](table)
    bands = predict_spectra(table, bundle, target="field")
    np.testing.assert_allclose(prediction.lai, bands["LAI"])
    np.testing.assert_allclose(prediction.quantiles[0.025], bands["LAI_LOWER"], atol=1e-6)
    np.testing.assert_allclose(prediction.quantiles[0.975], bands["LAI_UPPER"], atol=1e-6)
    np.testing.assert_allclose(prediction.quantiles[0.5], bands["LAI"])
    assert "95%" in prediction.note
    stacked = np.stack([prediction.quantiles[p] for p in sorted(prediction.quantiles)])
    assert (np.diff(stacked, axis=0) >= -1e-6).all()


def test_a_bundle_of_one_level_is_two_half_normals(tmp_path, field_pairs: pd.DataFrame) -> None:
    path = tmp_path / "pairs.csv"
    field_pairs.to_csv(path, index=False)
    table, bundle = read_pairs(path), default_bundle_path()

    one = predict_shipped(table, bundle, "field", {"level": 0.95})
    wide = {"lai": [0.0, 8.0], "lower": [-0.1, -0.1], "upper": [0.2, 0.2]}
    two = predict_shipped(
        table, bundle, "field", {"level": 0.95, "quantiles": {"field": {"0.5": wide}}}
    )

    above = one.quantiles[0.975] - one.lai
    np.testing.assert_allclose(
        one.quantiles[0.75], one.lai + above * stats.norm.ppf(0.75) / stats.norm.ppf(0.975)
    )
    np.testing.assert_allclose(two.quantiles[0.75], two.lai + 0.2)
    np.testing.assert_allclose(two.quantiles[0.25], np.maximum(two.lai - 0.1, 0))
    np.testing.assert_allclose(two.quantiles[0.975], one.quantiles[0.975])


@pytest.mark.shared
def test_the_shipped_network_is_left_out_on_the_development_pairs(shared_data) -> None:
    table = read_pairs(shared_data / "insitu" / "insitu_dev.csv")

    found = list_networks(default_bundle_path(), table)

    assert all(name.endswith("left out") for name in found)
    prediction = next(iter(found.values()))(table)
    assert prediction.note == LEFT_OUT_NOTE
    assert score_uncertainty(table["lai"].to_numpy(), prediction)["coverage_95%"] > 0.86  # LEAF's
