"""Calibrate the interval of parcel means on some simulated seasons, and judge it on another.

Seasons have different fields, so that no field that is scored took part in the calibration.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.seasons.fields import season_dates
from experiments.seasons.files import read_season, write_season
from experiments.seasons.fit import ParcelCalibration, fit_calibration
from lai_training.metrics import coverage, score
from lai_training.parcels.means import shrink
from lai_training.simulation.spectral_library import SpectralLibrary
from lai_udf.identity import RunOptions

CALIBRATION_SEASONS = 2
"""One season holds some hundred canopies, too few for the tails of the error."""
REPLICATES = 1000
"""Draws of the bootstrap."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Benchmark:
    """Result of a benchmark."""

    observations: pd.DataFrame
    """Of the season that was judged, with `truth`, `parcel_lower`, `parcel_upper`."""
    calibration: ParcelCalibration
    """Fitted on the other seasons."""
    correlation: float
    """Between the errors of two pixels of a parcel on one date, mean of the other seasons."""
    pixel_coverage: float
    """Share of the truth inside the pixels' intervals, averaged (correlation 1)."""
    shrunk_coverage: float
    """The same, of those intervals shrunk by the measured correlation."""


def run_benchmark(
    folder: Path,
    library: SpectralLibrary,
    *,
    size_px: int = 320,
    dates: int = 14,
    seed: int = 0,
    options: RunOptions | None = None,
    progress: Progress | None = None,
) -> Benchmark:
    """Calibrate on two simulated seasons and judge on a third.

    Args:
        folder: gets `calibration0/`, `calibration1/` and `judged/`, see `write_season`.
        library: the spectra.
        size_px: side of each landscape, pixels.
        dates: overpasses from February to November.
        seed: of the first season; the others have the next ones.
        options: model and target.
        progress: called after each date of all seasons.

    Returns:
        The benchmark.
    """
    when = season_dates(dates)
    names = [*(f"calibration{number}" for number in range(CALIBRATION_SEASONS)), "judged"]
    correlations = []
    for part, name in enumerate(names):
        correlations.append(
            write_season(
                folder / name,
                library,
                size_px=size_px,
                dates=when,
                seed=seed + part,
                options=options,
                progress=_shift(progress, part * dates, len(names) * dates),
            )
        )
    correlation = float(np.mean(correlations[:-1]))
    source = f"{CALIBRATION_SEASONS} simulated seasons, {size_px} px, {dates} dates, seed {seed}"
    known = [
        season.assign(parcel=name + season["parcel"])
        for name, season in ((name, read_season(folder / name)) for name in names[:-1])
    ]
    calibration = fit_calibration(pd.concat(known, ignore_index=True), source)
    judged = read_season(folder / "judged")
    judged["parcel_lower"], judged["parcel_upper"] = calibration.interval(judged["lai"].to_numpy())
    return Benchmark(
        judged,
        calibration,
        correlation,
        pixel_coverage=_coverage_of_shrunk(judged, 1.0),
        shrunk_coverage=_coverage_of_shrunk(judged, correlation),
    )


def cover_truth(observations: pd.DataFrame) -> dict[str, float]:
    """Return the share of true means inside their intervals, and its limits over parcels.

    `coverage_low` and `coverage_high` are the 95 % limits of a bootstrap by parcel: its dates share
    their errors.
    """
    group = observations.dropna(subset=["lai", "truth"])
    inside = group["truth"].between(group["parcel_lower"], group["parcel_upper"])
    parcels = inside.groupby(group["parcel"]).agg(["sum", "count"]).to_numpy(float)
    if not len(parcels):
        return dict.fromkeys(("coverage", "coverage_low", "coverage_high"), math.nan)
    rng = np.random.default_rng(0)
    draws = rng.multinomial(len(parcels), np.full(len(parcels), 1 / len(parcels)), REPLICATES)
    held, seen = (draws @ parcels).T
    low, high = np.percentile(held / seen, [2.5, 97.5])
    return {"coverage": inside.mean(), "coverage_low": low, "coverage_high": high}


def score_truth(observations: pd.DataFrame) -> pd.DataFrame:
    """Return RMSE and bias of network and SL2P against the truth, and its coverage, by season."""
    rows = []
    for name, own in [*observations.groupby("season", sort=False), ("all", observations)]:
        row: dict[str, object] = {"season": name, "n": int(own["lai"].count())}
        for column in ("lai", "sl2p"):
            found = score(own["truth"].where(own["lai"].notna()), own[column])
            row |= {f"rmse_{column}": found.rmse, f"bias_{column}": found.bias}
        rows.append({**row, **cover_truth(own)})
    return pd.DataFrame(rows)


def _coverage_of_shrunk(judged: pd.DataFrame, correlation: float) -> float:
    """Return the share of the truth inside the pixels' intervals, shrunk to the parcel's."""
    seen = judged.dropna(subset=["lai"])
    return coverage(seen["truth"], *shrink(seen, correlation))


def _shift(progress: Progress | None, before: int, total: int) -> Progress | None:
    if progress is None:
        return None
    return lambda done, _: progress(before + done, total)
