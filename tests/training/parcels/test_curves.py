"""Curves and seasons of parcels from means whose truth is known."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake_series import crop_lai

from lai_training.parcels.report import describe_seasons, smooth_parcels, write_curves
from lai_udf.series import OUTPUT_BANDS


@pytest.fixture
def observations(rng: np.random.Generator) -> pd.DataFrame:
    """Two parcels seen every six days for a year, one of them hardly ever."""
    days = np.arange(10, 350, 6)
    tables = []
    for parcel, count in (("a", len(days)), ("b", 1)):
        lai = crop_lai(days[:count].astype(float)) + rng.normal(0, 0.05, count)
        tables.append(
            pd.DataFrame(
                {
                    "parcel": parcel,
                    "crop": "MIS",
                    "season": "summer",
                    "datetime": pd.Timestamp("2023-12-31T10:30:00Z")
                    + pd.to_timedelta(days[:count], unit="D"),
                    "lai": lai,
                    "lower": lai - 1.2,
                    "upper": lai + 1.4,
                }
            )
        )
    table = pd.concat(tables, ignore_index=True)
    table.loc[5, "lai"] = np.nan
    return table


def test_a_parcel_gets_a_curve_and_one_seen_once_gets_none(observations: pd.DataFrame) -> None:
    curves = smooth_parcels(observations, 5)

    assert set(curves["parcel"]) == {"a"}
    assert (curves["date"].diff().dropna() == pd.Timedelta(days=5)).all()
    truth = crop_lai(curves["date"].dt.dayofyear.to_numpy(float))
    assert np.abs(curves["lai"] - truth).max() < 0.4
    assert {band.lower() for band in OUTPUT_BANDS} < set(curves.columns)


def test_the_season_of_a_summer_crop_is_found(observations: pd.DataFrame) -> None:
    (row,) = describe_seasons(smooth_parcels(observations, 5)).to_dict("records")

    assert (row["parcel"], row["year"]) == ("a", 2024)
    assert pd.Timestamp("2024-04-25") < pd.Timestamp(row["start"]) < pd.Timestamp("2024-05-20")
    assert pd.Timestamp("2024-08-20") < pd.Timestamp(row["end"]) < pd.Timestamp("2024-09-15")
    assert 90 < row["length"] < 145
    assert row["integral"] > 200


def test_files_are_written_even_for_nothing(observations: pd.DataFrame, tmp_path: Path) -> None:
    files = write_curves(observations, 5, tmp_path)
    assert sorted(path.name for path in files) == ["curves.csv", "seasons.csv"]
    assert len(pd.read_csv(tmp_path / "seasons.csv")) == 1
    write_curves(observations[observations["parcel"] == "b"], 5, tmp_path / "none")
    assert (tmp_path / "none" / "curves.csv").is_file()
