"""The season on which means of parcels and their intervals are judged."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from experiments.seasons.benchmark import cover_truth, run_benchmark
from experiments.seasons.fields import season_dates
from experiments.seasons.files import measure_correlation, read_season, write_season
from experiments.seasons.fit import fit_calibration
from experiments.spectra.library import spectral_library
from lai_training.cli import app
from lai_training.errors import LaiTrainingError
from lai_training.parcels.report import write_report
from lai_training.reporting import read_paper
from lai_training.simulation.spectral_library import SpectralLibrary


@pytest.fixture(scope="module")
def library() -> SpectralLibrary:
    return spectral_library(1_500, np.random.default_rng(7))


def test_correlation_is_found_again(rng: np.random.Generator) -> None:
    shared, own = rng.normal(0, 0.6, (4000, 1)), rng.normal(0, 0.8, (4000, 16))
    error = shared + own  # rho = 0.36 / (0.36 + 0.64)

    rho = measure_correlation(float(error.std()), float(error.mean(axis=1).std()), 16)

    assert rho == pytest.approx(0.36, abs=0.03)


def test_the_calibrated_interval_covers_parcels_it_has_not_seen(rng: np.random.Generator) -> None:
    lai = rng.uniform(0.2, 6, 4000)
    truth = np.maximum(lai + 0.4 + rng.normal(0, 0.2 + 0.1 * lai), 0)
    table = pd.DataFrame({"parcel": np.arange(4000), "lai": lai, "truth": truth})

    calibration = fit_calibration(table[:2000], "test")
    lower, upper = calibration.interval(lai[2000:])

    inside = (lower <= truth[2000:]) & (truth[2000:] <= upper)
    assert 0.93 < inside.mean() < 0.97


def test_a_calibration_needs_parcels_enough() -> None:
    few = pd.DataFrame({"parcel": range(10), "lai": 1.0, "truth": 1.0})
    with pytest.raises(LaiTrainingError):
        fit_calibration(few, "test")


def test_coverage_has_limits_that_know_of_dates_sharing_their_errors() -> None:
    rows = pd.DataFrame({"lai": 2.0, "truth": 2.0, "parcel_lower": 1.0, "parcel_upper": 3.0},
                        index=range(200))  # fmt: skip
    rows.loc[:19, "truth"] = 5.0  # a tenth is outside: one parcel of ten, or one date of ten
    by_parcel = rows.assign(parcel=np.arange(200) // 20)
    by_date = rows.assign(parcel=np.arange(200) % 20)

    clustered, spread = (cover_truth(table) for table in (by_parcel, by_date))

    assert clustered["coverage"] == spread["coverage"] == pytest.approx(0.9)
    assert clustered["coverage_low"] < 0.8
    assert spread["coverage_low"] == pytest.approx(0.9)


def test_the_seventeen_crops_of_the_paper_are_known_in_their_four_seasons() -> None:
    paper = read_paper("parcels").query("crop != 'all'")
    assert len(paper) == 17
    seasons = read_paper("crops").set_index("crop")["season"]
    assert (paper["crop"].map(seasons) == paper["season"]).all()
    assert set(paper["season"]) == set(seasons)
    assert seasons["MIS"] == "summer"


@pytest.fixture(scope="module")
def season(tmp_path_factory: pytest.TempPathFactory, library: SpectralLibrary) -> Path:
    folder = tmp_path_factory.mktemp("season")
    write_season(folder, library, size_px=96, dates=season_dates(3), seed=4, cloudy_share=0.0)
    return folder


def test_a_simulated_season_is_read_as_a_user_would(season: Path) -> None:
    table = read_season(season)

    assert {"parcel", "crop", "season", "lai", "sl2p", "truth"} <= set(table.columns)
    assert table["truth"].notna().all()
    assert table["truth"].between(0, 9).all()
    known = table.dropna(subset=["lai"])
    assert len(known) > 10
    assert known["lai"].corr(known["truth"]) > 0.6
    assert known["lai"].corr(known["sl2p"]) > 0.98


def test_the_command_writes_tables_and_figures(season: Path, tmp_path: Path) -> None:
    arguments = ["parcels", str(season), "--parcels", str(season / "parcels.gpkg")]

    options = ["--smooth", "10", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, [*arguments, *options])

    assert result.exit_code == 0, result.output
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"curves.csv", "seasons.csv"} <= names
    assert {"parcels.csv", "table7_parcels.csv", "table9_agreement.csv"} <= names
    written = gpd.read_parquet(tmp_path / "out" / "parcels.parquet")
    assert written.crs == "EPSG:4326"
    assert {"parcel", "datetime", "lai", "parcel_lower", "valid_fraction"} <= set(written.columns)
    assert any(name.startswith("figure") for name in names)
    agreement = pd.read_csv(tmp_path / "out" / "table9_agreement.csv")
    assert len(agreement) > 0


def test_the_command_fails_in_one_sentence(season: Path, tmp_path: Path) -> None:
    arguments = ["parcels", str(tmp_path), "--parcels", str(season / "parcels.gpkg")]

    result = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "out")])

    assert result.exit_code == 1
    assert not (tmp_path / "out").exists()


def test_the_benchmark_judges_other_fields_than_it_calibrates_on(
    tmp_path: Path, library: SpectralLibrary
) -> None:
    result = run_benchmark(tmp_path, library, size_px=112, dates=3, seed=1)

    calibrated, judged = (read_season(tmp_path / name) for name in ("calibration0", "judged"))
    assert not calibrated["truth"].equals(judged["truth"])
    assert 0 < result.correlation <= 1
    total = cover_truth(result.observations)
    assert 0.75 < total["coverage"] <= 1
    files = write_report(result.observations, tmp_path / "report")
    assert all(file.stat().st_size > 0 for file in files)
