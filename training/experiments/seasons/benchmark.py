"""Calibrate the interval of parcel means on some simulated seasons, and judge it on another.

Seasons have different fields, so that no field that is scored took part in the calibration.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.seasons.fields import season_dates
from experiments.seasons.files import read_season, write_season
from experiments.seasons.fit import ParcelCalibration, fit_calibration
from lai_training.parcels.interval import shrink
from lai_training.scores.metrics import coverage
from lai_training.simulation.spectral_library import SpectralLibrary
from lai_udf.run import RunOptions

CALIBRATION_SEASONS = 2
"""One season holds some hundred canopies, too few for the tails of the error."""
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


def _coverage_of_shrunk(judged: pd.DataFrame, correlation: float) -> float:
    """Return the share of the truth inside the pixels' intervals, shrunk to the parcel's."""
    seen = judged.dropna(subset=["lai"])
    return coverage(seen["truth"], *shrink(seen, correlation))


def _shift(progress: Progress | None, before: int, total: int) -> Progress | None:
    if progress is None:
        return None
    return lambda done, _: progress(before + done, total)
