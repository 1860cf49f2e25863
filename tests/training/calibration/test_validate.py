"""Validation on field pairs: the filter, the published scores of SL2P, and refusals."""

import csv
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lai_training.calibration.measurements import read_pairs
from lai_training.calibration.predictors import Prediction, predict_baselines, predict_normal
from lai_training.calibration.report import describe
from lai_training.calibration.validate import (
    central_interval,
    draw_rows,
    limit_accuracy,
    limit_uncertainty,
    score_uncertainty,
    validate,
)
from lai_training.errors import PairsError
from lai_training.reporting import format_chapters, write_report
from lai_training.sl2p.processor import predict
from lai_udf.predict import BANDS


def make_pairs(rng: np.random.Generator, n: int = 40) -> pd.DataFrame:
    """Field pairs of four site-dates with plausible reflectance; all rows pass the filter."""
    level = np.linspace(0.2, 0.9, n)
    table = pd.DataFrame({band: rng.uniform(0.02, 0.06, n) for band in BANDS})
    for band in ("B06", "B07", "B08", "B8A"):
        table[band] = 0.1 + 0.3 * level + rng.uniform(0, 0.02, n)
    return table.assign(
        source="simulated",
        site=np.where(np.arange(n) % 2, "north", "south"),
        date=np.where(np.arange(n) < n // 2, "2018-05-01", "2018-06-01"),
        dt_days=rng.integers(-5, 6, n),
        crop=["Wheat"] * (n - 2) + ["rye", "oats"],
        lai=6 * level,
        green_brown=np.nan,
        sensor=np.where(np.arange(n) % 3, "S2A", "S2B"),
        sun_zenith=35.0,
        view_zenith=3.0,
        rel_azimuth=120.0,
    )


def write_pairs(folder: Path, table: pd.DataFrame) -> Path:
    path = folder / "pairs.csv"
    table.to_csv(path, index=False)
    return path


def test_impossible_angles_are_missing_angles(rng, tmp_path):
    table = make_pairs(rng, 6)
    table["sun_zenith"] = [-9999, np.deg2rad(35), 0, 35, 35, 35]
    table.loc[3, "view_zenith"] = -9999
    table.loc[4, "rel_azimuth"] = -9999

    scored = read_pairs(write_pairs(tmp_path, table))

    assert scored["sun_zenith"].tolist() == [40, 40, 40, 35, 35, 35]
    assert scored["view_zenith"].tolist() == [0, 0, 0, 0, 3, 3]
    assert scored["rel_azimuth"].tolist() == [90, 90, 90, 120, 90, 120]


def test_late_brown_and_unmeasured_rows_are_not_scored(rng, tmp_path):
    table = make_pairs(rng, 10)
    table["green_brown"] = table["green_brown"].astype(object)
    table.loc[0, "dt_days"] = 6
    table.loc[1, "dt_days"] = -6
    table.loc[2, "green_brown"] = "b"
    table.loc[3, "green_brown"] = "g"
    table.loc[4, "lai"] = np.nan

    scored = read_pairs(write_pairs(tmp_path, table))

    np.testing.assert_allclose(scored["lai"], table["lai"].drop([0, 1, 2, 4]))


def test_missing_angles_become_nominal(rng, tmp_path):
    table = make_pairs(rng, 6).drop(columns=["view_zenith"])
    table.loc[0, "rel_azimuth"] = np.nan

    scored = read_pairs(write_pairs(tmp_path, table))

    assert scored["rel_azimuth"].tolist() == [90, 120, 120, 120, 120, 120]
    assert (scored["view_zenith"] == 0).all()


def test_sl2p_3_0_takes_the_network_of_each_row(rng, tmp_path):
    table = read_pairs(write_pairs(tmp_path, make_pairs(rng)))
    bands = ["B03", "B04", "B05", "B06", "B07", "B8A", "B11", "B12"]
    cosines = np.cos(np.deg2rad([[3.0, 35.0, 120.0]] * len(table)))
    x = np.column_stack([table[bands], cosines])

    lai = predict_baselines(table)["SL2P 3_0"].lai

    for sensor in ("S2A", "S2B"):
        rows = (table["sensor"] == sensor).to_numpy()
        np.testing.assert_allclose(lai[rows], predict(x[rows], network="3_0", sensor=sensor)[0])


@pytest.mark.shared
def test_published_scores_of_sl2p_and_peers_are_reproduced(shared_data: Path):
    table = read_pairs(shared_data / "insitu" / "insitu_dev.csv")

    result = validate(table, predict_baselines(table), rng=np.random.default_rng(0), replicates=100)

    scores = result.accuracy.set_index("predictor")
    assert len(table) == 173
    assert table["site_date"].nunique() == 21
    # facts: README of the field pairs, and section 4 of the facts on LAI
    assert scores.loc["SL2P 2_1", "rmse"] == pytest.approx(1.087, abs=5e-4)
    assert scores.loc["SL2P 2_1", "bias"] == pytest.approx(-0.376, abs=5e-4)
    assert scores.loc["SL2P 2_1", "r2"] == pytest.approx(0.618, abs=5e-4)
    assert scores.loc["SL2P 3_0", "rmse"] == pytest.approx(1.11, abs=5e-3)
    assert scores.loc["LEAF SL2P", "rmse"] == pytest.approx(1.08, abs=5e-3)
    assert scores.loc["s2biophys", "rmse"] == pytest.approx(1.20, abs=5e-3)
    # coverage of LEAF's own uncertainty: 54, 78 and 83 % where 68, 90 and 95 are meant
    leaf = result.uncertainty.set_index("predictor").loc["LEAF SL2P"]
    assert [round(leaf[f"coverage_{p}%"], 2) for p in (68, 90, 95)] == [0.54, 0.78, 0.83]


def test_a_predictor_joins_sl2p_by_name(rng, tmp_path):
    table = read_pairs(write_pairs(tmp_path, make_pairs(rng)))
    truth = table["lai"].to_numpy()
    perfect = predict_normal(truth, np.full(len(table), 0.1))
    predictions = predict_baselines(table) | {"perfect": perfect}

    result = validate(table, predictions, rng=rng, replicates=50)

    perfect = result.accuracy.set_index("predictor").loc["perfect"]
    assert perfect["rmse"] == 0
    assert perfect["R2"] == 1
    assert result.uncertainty["predictor"].tolist() == ["perfect"]
    assert result.uncertainty["coverage_50%"].tolist() == [1.0]
    np.testing.assert_allclose(result.predictions["perfect"], truth)


def test_subsets_partition_the_pairs_and_rare_crops_are_pooled(rng, tmp_path):
    table = read_pairs(write_pairs(tmp_path, make_pairs(rng)))

    sl2p = {"SL2P": predict_baselines(table)["SL2P 2_1"]}
    subsets = validate(table, sl2p, rng=rng, replicates=10).subsets

    assert subsets.groupby("by")["n"].sum().to_dict() == dict.fromkeys(
        ["LAI", "source", "region", "site", "crop", "predicted LAI"], 40
    )
    assert subsets[subsets["by"] == "crop"]["subset"].tolist() == ["others", "wheat"]
    assert subsets[subsets["by"] == "LAI"]["subset"].iloc[-1] == ">= 5"


def test_bootstrap_draws_whole_site_dates(rng):
    names = pd.Series(np.repeat(["a", "b", "c"], 50))

    draws = draw_rows(names, rng, 20)

    assert {rows.size for rows in draws} == {150}
    for rows in draws:
        times = np.bincount(rows, minlength=150).reshape(3, 50)
        assert (times == times[:, :1]).all()


def test_bootstrap_limits_are_percentiles_over_the_draws():
    truth = np.repeat([1.0, 2.0, 3.0], 50)
    lai = truth + np.repeat([-1.0, 0.0, 1.0], 50)  # one error per site-date
    dates = np.arange(150).reshape(3, 50)
    draws = [np.concatenate(dates[list(of)]) for of in ((0, 0, 0), (2, 2, 2), (0, 1, 2), (1, 1, 1))]

    limits = limit_accuracy(truth, lai, draws)

    bias = [-1, 1, 0, 0]  # of each draw by hand
    assert limits["bias_low"] == pytest.approx(np.percentile(bias, 2.5))
    assert limits["bias_high"] == pytest.approx(np.percentile(bias, 97.5))
    rmse = [1, 1, math.sqrt(2 / 3), 0]
    assert limits["rmse_high"] == pytest.approx(np.percentile(rmse, 97.5))


def test_coverage_of_a_true_normal_is_nominal(rng):
    mean, sd = rng.uniform(0, 5, 20_000), rng.uniform(0.5, 1.5, 20_000)
    truth = rng.normal(mean, sd)

    scores = score_uncertainty(truth, predict_normal(mean, sd))

    for level in (0.50, 0.68, 0.90, 0.95):
        assert scores[f"coverage_{level:.0%}"] == pytest.approx(level, abs=0.012)
    assert scores["width_95%"] == pytest.approx(2 * 1.96, abs=0.05)
    assert scores["rank_correlation"] > 0.2


def test_an_interval_that_the_quantiles_do_not_give_is_not_invented():
    only_68 = Prediction(np.zeros(3), {0.16: np.full(3, -1.0), 0.84: np.full(3, 1.0)})

    assert central_interval(only_68, 0.95) is None  # farther out
    assert central_interval(only_68, 0.50) is None  # between quantiles that are far apart
    lower, upper = central_interval(only_68, 0.68)
    np.testing.assert_allclose(lower, -1)
    np.testing.assert_allclose(upper, 1)


def test_two_quantiles_have_a_coverage_and_no_crps():
    only_95 = Prediction(np.zeros(3), {0.025: np.full(3, -1.0), 0.975: np.full(3, 1.0)})

    scores = score_uncertainty(np.array([0.0, 0.5, 3.0]), only_95)

    assert scores["coverage_95%"] == pytest.approx(2 / 3)
    assert "coverage_90%" not in scores
    assert math.isnan(scores["crps"])


def test_limits_of_coverage_and_crps_are_percentiles_over_the_draws(rng):
    truth, mean = rng.uniform(0, 6, 40), rng.uniform(0, 6, 40)
    prediction = predict_normal(mean, np.full(40, 1.5))
    draws = draw_rows(pd.Series(np.arange(40) % 5), rng, 100)

    limits = limit_uncertainty(truth, prediction, draws)

    copies = [score_uncertainty(truth[r], predict_normal(mean[r], 1.5)) for r in draws]
    for name in ("coverage_95%", "crps"):
        low, high = np.percentile([copy[name] for copy in copies], [2.5, 97.5])
        assert (limits[f"{name}_low"], limits[f"{name}_high"]) == pytest.approx((low, high))


def test_uncertainty_is_scored_by_subset_where_it_is_stated(rng, tmp_path):
    table = read_pairs(write_pairs(tmp_path, make_pairs(rng)))
    wide = predict_normal(table["lai"].to_numpy() + 1, np.full(len(table), 1.0))
    predictions = {"SL2P": predict_baselines(table)["SL2P 2_1"], "wide": wide}

    result = validate(table, predictions, rng=rng, replicates=20)

    subsets = result.subsets.set_index("predictor")
    assert subsets.loc["SL2P", "crps"].isna().all()
    assert (subsets.loc["wide", "coverage_95%"] == 1).all()
    np.testing.assert_allclose(subsets.loc["wide", "width_95%"], 2 * 1.959964)
    text = format_chapters(describe(result))
    assert "| wide |" in text
    assert "100%, 3.92, " in text
    files = {path.name for path in write_report(describe(result), tmp_path / "report")}
    assert {"uncertainty.csv", "reliability.csv", "uncertainty.png"} <= files


def test_report_and_tables_are_written_together(rng, tmp_path):
    table = read_pairs(write_pairs(tmp_path, make_pairs(rng)))
    sl2p = {"SL2P 2_1": predict_baselines(table)["SL2P 2_1"]}
    result = validate(table, sl2p, rng=rng, replicates=20)

    files = write_report(describe(result), tmp_path / "report")

    names = ["accuracy.csv", "predictions.csv", "report.md", "scatter.png", "subsets.csv"]
    assert sorted(path.name for path in files) == names
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == names
    with (tmp_path / "report" / "accuracy.csv").open(encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert float(row["rmse"]) == pytest.approx(result.accuracy["rmse"][0], rel=1e-5)
    assert f"| SL2P 2_1 | 40 | {result.accuracy['rmse'][0]:.2f} [" in format_chapters(
        describe(result)
    )


@pytest.mark.parametrize(
    "spoil",
    [
        lambda t: t.drop(columns=["B11", "lai"]),
        lambda t: t.assign(dt_days=9),
        lambda t: t.assign(**{b: 10_000 * t[b] for b in BANDS}),
        lambda t: t.assign(B05=np.nan),
        lambda t: t.assign(lai="high"),
        lambda t: t.assign(lai=[*t["lai"][1:], -9999]),
        lambda t: t.assign(lai=[*t["lai"][1:], np.inf]),
        lambda t: t.assign(lai=100 * t["lai"]),
        lambda t: t.assign(B05=[*t["B05"][1:], -9999]),
        lambda t: t.assign(sun_zenith="high"),
    ],
)
def test_a_table_that_cannot_be_scored_is_one_clear_error(rng, tmp_path, spoil):
    path = write_pairs(tmp_path, spoil(make_pairs(rng, 8)))
    with pytest.raises(PairsError):
        read_pairs(path)


def test_rows_with_more_cells_than_columns_are_not_shifted(rng, tmp_path):
    path = write_pairs(tmp_path, make_pairs(rng, 8).assign(place="field"))
    header, rows = path.read_text().split("\n", 1)
    path.write_text(f"{header.removesuffix(',place')}\n{rows}")
    with pytest.raises(PairsError, match="more cells"):
        read_pairs(path)


@pytest.mark.parametrize("content", ["", "\x00\xff not a table"])
def test_a_file_that_is_no_table_is_one_clear_error(tmp_path, content):
    path = tmp_path / "pairs.csv"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(PairsError):
        read_pairs(path)
