"""Networks beside SL2P: left out where they learnt from the pairs, as they ship elsewhere."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lai_training.calibration import correction
from lai_training.calibration.measurements import fingerprint, read_pairs
from lai_training.calibration.predictors import (
    LEFT_OUT_NOTE,
    find_calibration_rows,
    predict_by_bundle,
    predict_left_out,
    predict_shipped,
    predict_spectra,
)
from lai_training.calibration.validate import central_interval, score_uncertainty
from lai_training.errors import PairsError
from lai_udf.bundle import default_bundle_path
from lai_udf.predict import load_model


@pytest.fixture(autouse=True)
def _fit_in_few_steps(monkeypatch) -> None:
    monkeypatch.setattr(correction, "STEPS", 30)
    monkeypatch.setattr(correction, "MIXTURES", 50)


@pytest.fixture
def field_table(tmp_path, field_pairs: pd.DataFrame) -> pd.DataFrame:
    path = tmp_path / "pairs.csv"
    field_pairs.to_csv(path, index=False)
    return read_pairs(path)


def calibrated_on(site_dates: Iterable[str]) -> dict[str, Any]:
    contract = load_model(str(default_bundle_path())).contract
    return contract["calibration"] | {"site_dates": [fingerprint(name) for name in site_dates]}


def test_site_dates_that_a_bundle_was_calibrated_on_are_found(field_table) -> None:
    own = field_table["site_date"].unique()[:3]

    calibrated = find_calibration_rows(field_table, calibrated_on(own))

    assert set(field_table["site_date"][calibrated]) == set(own)
    assert not find_calibration_rows(field_table, {}).any()


def test_only_site_dates_that_a_bundle_was_calibrated_on_are_left_out(
    field_table, monkeypatch
) -> None:
    own = field_table["site_date"].unique()[:4]
    calibration = calibrated_on(own)
    contract = load_model(str(default_bundle_path())).contract
    monkeypatch.setitem(contract, "calibration", calibration)
    calibrated = find_calibration_rows(field_table, calibration)

    found = predict_by_bundle(default_bundle_path(), field_table)

    (name,) = [name for name in found if " field" in name]
    assert name.endswith("field, 4 site-dates left out")
    prediction = found[name]
    shipped = predict_shipped(field_table, default_bundle_path())["field"]
    alone = predict_left_out(field_table[calibrated], default_bundle_path())["field"]
    np.testing.assert_array_equal(prediction.lai[~calibrated], shipped.lai[~calibrated])
    np.testing.assert_array_equal(prediction.lai[calibrated], alone.lai)
    np.testing.assert_array_equal(prediction.quantiles[0.025][calibrated], alone.quantiles[0.025])
    assert central_interval(prediction, 0.68) is not None


def test_one_site_date_of_its_own_cannot_be_left_out(field_table, monkeypatch) -> None:
    contract = load_model(str(default_bundle_path())).contract
    own = calibrated_on(field_table["site_date"].unique()[:1])
    monkeypatch.setitem(contract, "calibration", own)

    with pytest.raises(PairsError):
        predict_by_bundle(default_bundle_path(), field_table)


def test_on_other_pairs_a_bundle_is_scored_as_it_ships(field_table) -> None:
    table, bundle = field_table, default_bundle_path()

    found = predict_by_bundle(bundle, table)

    (name,) = [name for name in found if name.endswith("field")]
    prediction = found[name]
    bands = predict_spectra(table, bundle, target="field")
    np.testing.assert_allclose(prediction.lai, bands["LAI"])
    np.testing.assert_allclose(prediction.quantiles[0.025], bands["LAI_LOWER"], atol=1e-6)
    np.testing.assert_allclose(prediction.quantiles[0.975], bands["LAI_UPPER"], atol=1e-6)
    np.testing.assert_allclose(prediction.quantiles[0.5], bands["LAI"])
    stacked = np.stack([prediction.quantiles[p] for p in sorted(prediction.quantiles)])
    assert (np.diff(stacked, axis=0) >= -1e-6).all()


@pytest.mark.shared
def test_the_shipped_network_is_left_out_on_the_development_pairs(shared_data) -> None:
    table = read_pairs(shared_data / "insitu" / "insitu_dev.csv")

    found = predict_by_bundle(default_bundle_path(), table)

    assert all(name.endswith("left out") for name in found)
    prediction = next(iter(found.values()))
    assert prediction.note == LEFT_OUT_NOTE
    assert score_uncertainty(table["lai"].to_numpy(), prediction)["coverage_95%"] > 0.86  # LEAF's
