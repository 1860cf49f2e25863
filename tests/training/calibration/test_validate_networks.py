"""Networks beside SL2P: left out where they learnt from the pairs, as they ship elsewhere."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lai_training.errors import PairsError
from lai_training.calibration.calibrate import Pairs, calibrate
from lai_training.calibration.networks import (
    LEFT_OUT_NOTE,
    find_taught,
    list_networks,
    pair_with_field,
    predict_left_out,
    predict_shipped,
)
from lai_training.calibration.pairs import fingerprint, read_pairs
from lai_training.calibration.uncertainty import central_interval, score_uncertainty
from lai_training.scores.emulation import predict_spectra
from lai_udf.bundle import default_bundle_path
from lai_udf.predict import load_model


@pytest.fixture
def field_table(tmp_path, field_pairs: pd.DataFrame) -> pd.DataFrame:
    path = tmp_path / "pairs.csv"
    field_pairs.to_csv(path, index=False)
    return read_pairs(path)


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


def calibrated_on(site_dates: Iterable[str]) -> dict[str, Any]:
    contract = load_model(str(default_bundle_path())).contract
    return contract["calibration"] | {"site_dates": [fingerprint(name) for name in site_dates]}


def test_site_dates_that_taught_a_bundle_are_known_again(field_table) -> None:
    own = field_table["site_date"].unique()[:3]

    taught = find_taught(field_table, calibrated_on(own))

    assert set(field_table["site_date"][taught]) == set(own)
    assert not find_taught(field_table, {"intervals": {}}).any()


def test_only_site_dates_that_taught_a_bundle_are_left_out(field_table, monkeypatch) -> None:
    own = field_table["site_date"].unique()[:4]
    calibration = calibrated_on(own)
    contract = load_model(str(default_bundle_path())).contract
    monkeypatch.setitem(contract, "calibration", calibration)
    taught = find_taught(field_table, calibration)

    found = list_networks(default_bundle_path(), field_table)

    (name,) = [name for name in found if " field" in name]
    assert name.endswith("field, 4 site-dates left out")
    prediction = found[name](field_table)
    shipped = predict_shipped(field_table, default_bundle_path(), "field", calibration)
    alone = predict_left_out(pair_with_field(field_table[taught], default_bundle_path()), "field")
    np.testing.assert_array_equal(prediction.lai[~taught], shipped.lai[~taught])
    np.testing.assert_array_equal(prediction.lai[taught], alone.lai)
    np.testing.assert_array_equal(prediction.quantiles[0.025][taught], alone.quantiles[0.025])
    assert central_interval(prediction, 0.68) is not None


def test_one_site_date_of_its_own_cannot_be_left_out(field_table, monkeypatch) -> None:
    contract = load_model(str(default_bundle_path())).contract
    own = calibrated_on(field_table["site_date"].unique()[:1])
    monkeypatch.setitem(contract, "calibration", own)

    with pytest.raises(PairsError, match="calibrated on 1 of the site-dates of the table"):
        list_networks(default_bundle_path(), field_table)


def test_on_other_pairs_a_bundle_is_scored_as_it_ships(field_table) -> None:
    table, bundle = field_table, default_bundle_path()

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


def test_a_bundle_of_one_level_is_two_half_normals(field_table) -> None:
    table, bundle = field_table, default_bundle_path()

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
