"""Measure the series on a real cube and on simulated fields; print Markdown tables.

```sh
cd training && python -m experiments.series.evaluate CUBE.nc --seeds 11,12 --fields 150
```

CUBE.nc: reflectance of the ten bands and SCL, (t, y, x), many dates. Dates are left out one by one
and in blocks, of all dates and of every second one; fields are simulated on its dates. Left-out
values are those of clear pixels; once more those of them that SL2P does not flag, as flagged ones
(haze among them) are no reference.
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from experiments.series.methods import METHODS, Floats, Method
from experiments.series.simulators import (
    BANDS,
    EVIDENCE,
    Fields,
    Kind,
    RealSeries,
    Simulator,
    simulate,
)
from lai_udf.bundle import default_bundle_path
from lai_udf.predict import apply_datacube
from lai_udf.series import OBSERVED, OUTPUT_BANDS, SeriesOptions, smooth_arrays

CLEAR = (4, 5)
MIN_CLEAR_SHARE = 0.9
MAX_GAP_DAYS = 25  # of the linear interpolation that errors are divided by
BLOCKS_DAYS = (15, 20, 30)
MAX_BLOCK_GAP_DAYS = 75
FLAGS_OF_SL2P = 31
MIN_VISIBLE_FALL, MAX_FALL_GAP_DAYS = 0.6, 20  # what a date can show of a cut
SIMULATORS: tuple[Simulator, ...] = ("prosail", "mixed")
KINDS: tuple[Kind, ...] = ("crop", "harvest", "grass")
Bools = NDArray[np.bool_]


def rms(values: Floats) -> float:
    """Return the root mean square of what is finite."""
    return float(np.sqrt(np.nanmean(np.square(values))))


def read_cube(path: Path) -> tuple[RealSeries, dict[str, Floats]]:
    """Return a series, and what `predict` makes of it, (t, y * x) each."""
    data = xr.open_dataset(path).load()
    cube = xr.concat([data[name].astype("float32") for name in (*BANDS, "SCL")], "bands")
    cube = cube.assign_coords(bands=[*BANDS, "SCL"]).rename(time="t")
    cube = cube.transpose("t", "bands", "y", "x")
    context = {"model": str(default_bundle_path()), "reflectance_offset": 0.0}
    lai = apply_datacube(cube, context)
    days = cube["t"].values.astype("datetime64[D]").astype(float)
    real = RealSeries(days, cube.values[:, :10], cube.sel(bands="SCL").values.astype(int))
    flat = {name: lai.sel(bands=name).values for name in ("LAI", "LAI_FLAGS")}
    flat |= {name: cube.sel(bands=name).values for name in (*EVIDENCE, "SCL")}
    return real, {k: v.reshape(len(days), -1).astype(float) for k, v in flat.items()}


def interpolate(days: Floats, lai: Floats, seen: Bools, date: int, max_gap: float) -> Floats:
    """Interpolate linearly between the clear neighbours of a date, (n,); NaN beyond `max_gap`."""
    order = np.arange(len(days))[:, None]
    before = np.where(seen & (order < date), order, -1).max(axis=0)
    after = np.where(seen & (order > date), order, len(days)).min(axis=0)
    both = (before >= 0) & (after < len(days))
    low, high = np.maximum(before, 0), np.minimum(after, len(days) - 1)
    gap = days[high] - days[low]
    share = (days[date] - days[low]) / np.maximum(gap, 1)
    pixels = np.arange(lai.shape[1])
    line = (1 - share) * lai[low, pixels] + share * lai[high, pixels]
    return np.where(both & (gap <= max_gap), line, np.nan)


def leave_out(
    days: Floats, bands: dict[str, Floats], given: Bools, blocks: bool
) -> Iterator[tuple[Bools, list[int], float]]:
    """Yield (dates that are kept, dates to predict, longest gap): single dates, or blocks."""
    clear = np.isin(bands["SCL"], CLEAR).mean(axis=1) > MIN_CLEAR_SHARE
    targets = np.flatnonzero(clear & given)
    if not blocks:
        for date in targets[1:-1]:
            yield given & (np.arange(len(days)) != date), [int(date)], MAX_GAP_DAYS
        return
    for length in BLOCKS_DAYS:
        for start in np.arange(days[0] + 20, days[-1] - 20 - length, length):
            inside = (days > start) & (days <= start + length)
            if len(found := [int(date) for date in targets if inside[date]]):
                yield given & ~inside, found, MAX_BLOCK_GAP_DAYS


def predict(
    method: Method,
    days: Floats,
    bands: dict[str, Floats],
    given: Bools,
    blocks: bool,
    unflagged: bool = False,
) -> tuple[float, float]:
    """Return RMSE relative to linear interpolation, and coverage of the 95 % series interval."""
    errors, lines, covered = [], [], []
    seen = np.isin(bands["SCL"], CLEAR) & np.isfinite(bands["LAI"])
    wanted = seen & (bands["LAI_FLAGS"].astype(int) & FLAGS_OF_SL2P == 0) if unflagged else seen
    for kept, dates, max_gap in leave_out(days, bands, given, blocks):
        lines_of = [
            interpolate(days, bands["LAI"], seen & kept[:, None], date, max_gap) for date in dates
        ]
        known = np.isfinite(lines_of) & wanted[dates]
        pixels = np.flatnonzero(known.any(axis=0))[:: 5 if blocks else 3]
        if not len(pixels):
            continue
        some = {name: band[kept][:, pixels] for name, band in bands.items()}
        if method not in (METHODS["lai_udf.series"], METHODS["the same without spectra"]):
            some["LAI"] = np.where(seen[kept][:, pixels], some["LAI"], np.nan)
        result = method(days[kept], some, days[dates])
        truth, mask = bands["LAI"][dates][:, pixels], known[:, pixels]
        mask &= np.isfinite(result["LAI"])
        errors.append((result["LAI"] - truth)[mask])
        lines.append((np.array(lines_of)[:, pixels] - truth)[mask])
        if "LAI_SD" in result:
            inside = np.abs(result["LAI"] - truth) < 1.96 * result["LAI_SD"]
            covered.append(inside[mask])
    coverage = float(np.concatenate(covered).mean()) if covered else float("nan")
    return rms(np.concatenate(errors)) / rms(np.concatenate(lines)), coverage


def match_falls(fields: Fields, found: Bools) -> tuple[int, int, int]:
    """Return (falls dated within one acquisition, visible falls, falls where there was none)."""
    hits = visible = false = 0
    for number, falls in enumerate(fields.falls):
        dates = fields.days[fields.usable[:, number]]
        guesses = list(fields.days[found[:, number]])
        for fall in falls:
            after = int(np.searchsorted(dates, fall))
            if not 0 < after < len(dates):
                continue
            near = [day for day in guesses if dates[after - 1] <= day]
            near = [day for day in near if day <= dates[min(after + 1, len(dates) - 1)]]
            guesses = [day for day in guesses if day not in near]
            first, last = (int(dates[k] - fields.days[0]) for k in (after - 1, after))
            drop = fields.daily[first, number] - fields.daily[last, number]
            if drop >= MIN_VISIBLE_FALL and last - first <= MAX_FALL_GAP_DAYS:
                visible += 1
                hits += bool(near)
        false += len(guesses)
    return hits, visible, false


def cover(fields: Fields, method: Method) -> dict[str, float]:
    """Return how often another acquisition lies in the 95 % series interval, by length of gap."""
    targets = fields.days[0] + np.arange(0, len(fields.daily), 3.0)
    result = method(fields.days, fields.bands, targets)
    truth = fields.again[::3]
    inside = np.abs(result["LAI"] - truth) < 1.96 * result["LAI_SD"]
    good = fields.usable & ~fields.touched
    gaps = np.full(truth.shape, np.nan)
    for number in range(truth.shape[1]):
        dates = fields.days[good[:, number]]
        after = np.searchsorted(dates, targets, "right")
        between = (after > 0) & (after < len(dates))
        gaps[between, number] = np.diff(dates)[after[between] - 1]
    parts = {"to 10 d": (0, 10), "10-60 d": (10, 60)}
    return {
        name: float(inside[(gaps > low) & (gaps <= high) & np.isfinite(result["LAI"])].mean())
        for name, (low, high) in parts.items()
    }


def report_real(real: RealSeries, bands: dict[str, Floats]) -> None:
    """Print how well left-out dates are predicted."""
    every = np.ones(len(real.days), dtype=bool)
    halves = [np.arange(len(every)) % 2 == part for part in (0, 1)]
    for unflagged in (False, True):
        print(f"\n{'not flagged by SL2P' if unflagged else 'all clear pixels'}\n")
        print("| method | single | blocks | every 2nd: single | blocks | 95 % (single, blocks) |")
        print("|---|---|---|---|---|---|")
        for name, method in METHODS.items():
            scores = [
                [predict(method, real.days, bands, part, b, unflagged) for b in (False, True)]
                for part in (every, *halves)
            ]
            (single, blocks), *thin = scores
            sparse = " | ".join(f"{thin[0][b][0]:.2f}, {thin[1][b][0]:.2f}" for b in (0, 1))
            print(
                f"| {name} | {single[0]:.3f} | {blocks[0]:.3f} | {sparse} "
                f"| {single[1]:.3f}, {blocks[1]:.3f} |",
                flush=True,
            )


def report_cost(real: RealSeries, bands: dict[str, Floats]) -> None:
    """Print processor time a pixel and date, 8,192 px, as many dates out as in."""
    many = {name: np.tile(band, (1, 8)).astype("float32") for name, band in bands.items()}
    cube = {name: band.reshape(len(real.days), 64, -1) for name, band in many.items()}
    days = real.days.astype(int)
    begin = time.process_time()
    smooth_arrays(days, cube, days, SeriesOptions(dates=OBSERVED), OUTPUT_BANDS)
    spent = time.process_time() - begin
    print(f"\n{1e6 * spent / many['LAI'].size:.2f} microseconds a pixel and date\n")


def report_simulated(
    real: RealSeries, lai: Floats, seeds: list[int], count: int, peers: bool
) -> None:
    """Print errors, rejections, falls and coverage on simulated fields."""
    print("| fields | clouds | method | raw | smoothed | outliers, good rejected | falls | cover |")
    print("|---|---|---|---|---|---|---|---|")
    seasons = (real.days[-1] - real.days[0]) / 365.25
    for simulator in SIMULATORS:
        for kind in KINDS:
            for share in (0.1, 0.0):
                drawn = [simulate(kind, count, seed, simulator, real, lai, share) for seed in seeds]
                for name, method in METHODS.items():
                    if name != "lai_udf.series" and not peers:
                        continue
                    line = f"| {simulator} {kind} | {share:.0%} | {name} | "
                    print(line + _describe(drawn, method, seasons))


def _describe(drawn: list[Fields], method: Method, seasons: float) -> str:
    raw, smooth, outliers, good, falls, coverage = [], [], [], [], [], []
    for fields in drawn:
        result = method(fields.days, fields.bands, fields.days)
        raw.append((fields.bands["LAI"] - fields.truth)[fields.usable])
        smooth.append((result["LAI"] - fields.truth)[fields.usable])
        if "REJECTED" in result:
            rejected = result["REJECTED"] == 1
            outliers.append(rejected[fields.outlier])
            good.append(rejected[fields.usable & ~fields.touched])
            falls.append(match_falls(fields, result["FALL"]))
            coverage.append(cover(fields, method))
    before, after = rms(np.concatenate(raw)), rms(np.concatenate(smooth))
    text = f"{before:.3f} | {after:.3f} ({after / before:.2f}) | "
    if not falls:
        return text + " | | |"
    bad = np.concatenate(outliers)
    text += f"{bad.mean():.1%}, " if bad.size else "-, "
    text += f"{np.concatenate(good).mean():.2%} | "
    hits, visible, false = (sum(each) for each in zip(*falls, strict=True))
    fields_years = seasons * sum(len(fields.falls) for fields in drawn)
    text += f"{hits}/{visible}, false {false / fields_years:.2f} a year | "
    return (
        text
        + ", ".join(
            f"{name} {np.nanmean([part[name] for part in coverage]):.3f}" for name in coverage[0]
        )
        + " |"
    )


def main() -> None:
    """Read the command line and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cube", type=Path)
    parser.add_argument("--seeds", default="11,12", help="of the simulated fields")
    parser.add_argument("--fields", type=int, default=150, help="of each kind and seed")
    parser.add_argument("--peers", action="store_true", help="other methods on simulated fields")
    options = parser.parse_args()
    real, bands = read_cube(options.cube)
    report_real(real, bands)
    report_cost(real, bands)
    lai = bands["LAI"].reshape(real.classes.shape)
    seeds = [int(seed) for seed in options.seeds.split(",")]
    report_simulated(real, lai, seeds, options.fields, options.peers)


if __name__ == "__main__":
    main()
