"""The series of a real cube: left-out dates, a haze peak that goes, a cut that stays."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from lai_udf import predict
from lai_udf.bundle import default_bundle_path
from lai_udf.series import EVIDENCE_BANDS, smooth_pixels

pytestmark = pytest.mark.shared
CLEAR = (4, 5)


@pytest.fixture(scope="module")
def bands(shared_data: Path) -> dict[str, np.ndarray]:
    """Return days (t,), and LAI with evidence, (t, 1024) each."""
    (path,) = (shared_data / "timeseries").glob("0000280663*.nc")
    data = xr.open_dataset(path).load()
    names = [*predict.BANDS, "SCL"]
    cube = xr.concat([data[name].astype("float32") for name in names], "bands")
    cube = cube.assign_coords(bands=names).rename(time="t").transpose("t", "bands", "y", "x")
    context = {"model": str(default_bundle_path()), "reflectance_offset": 0.0}
    lai = predict.apply_datacube(cube, context)
    found = {name: lai.sel(bands=name).values for name in ("LAI", "LAI_FLAGS")}
    found |= {name: cube.sel(bands=name).values for name in (*EVIDENCE_BANDS, "SCL")}
    flat = {name: band.reshape(len(band), -1) for name, band in found.items()}
    return flat | {"days": cube["t"].values.astype("datetime64[D]").astype(float)}


def take(bands: dict[str, np.ndarray], dates: np.ndarray | slice) -> dict[str, np.ndarray]:
    return {name: band[dates] for name, band in bands.items() if name != "days"}


def find(bands: dict[str, np.ndarray], day: str) -> int:
    wanted = np.datetime64(day).astype(float)
    return int(np.flatnonzero(bands["days"] == wanted)[0])


def between_neighbours(bands: dict[str, np.ndarray], date: int) -> np.ndarray:
    """Interpolate each pixel between its clear neighbours in time, at most 25 days apart."""
    seen = np.isin(bands["SCL"], CLEAR) & np.isfinite(bands["LAI"])
    days, line = bands["days"], np.full(seen.shape[1], np.nan)
    for pixel in np.flatnonzero(seen[date]):
        known = np.flatnonzero(seen[:, pixel])
        before, after = known[known < date], known[known > date]
        if len(before) and len(after) and days[after[0]] - days[before[-1]] <= 25:
            two = [before[-1], after[0]]
            line[pixel] = np.interp(days[date], days[two], bands["LAI"][two, pixel])
    return line


def test_left_out_dates_are_predicted_better_than_by_their_neighbours(
    bands: dict[str, np.ndarray],
) -> None:
    clear = np.flatnonzero(np.isin(bands["SCL"], CLEAR).mean(axis=1) > 0.9)[1:-1][::3]
    errors, lines = [], []
    for date in clear:
        others = np.arange(len(bands["days"])) != date
        line = between_neighbours(bands, date)
        known = np.flatnonzero(np.isfinite(line))[::3]
        some = {name: band[:, known] for name, band in take(bands, others).items()}
        found = smooth_pixels(bands["days"][others], some, bands["days"][[date]])["LAI"][0]
        errors.append(found - bands["LAI"][date, known])
        lines.append(line[known] - bands["LAI"][date, known])

    error, line = (np.sqrt(np.mean(np.concatenate(each) ** 2)) for each in (errors, lines))
    assert error / line <= 0.9


def test_the_haze_peak_of_18_july_is_gone(bands: dict[str, np.ndarray]) -> None:
    date = find(bands, "2018-07-18")
    line = between_neighbours(bands, date)
    jumped = bands["LAI"][date] - line > 1
    found = smooth_pixels(bands["days"], take(bands, slice(None)), bands["days"])

    assert jumped.sum() > 200
    assert (np.abs(found["LAI"][date] - line)[jumped] < 0.5).mean() > 0.95


def test_the_cut_of_early_may_stays(bands: dict[str, np.ndarray]) -> None:
    rows, columns = np.mgrid[13:18, 14:19]  # 5 x 5 px about row 15, column 16
    field = (32 * rows + columns).ravel()
    some = {name: band[:, field] for name, band in take(bands, slice(None)).items()}
    found = smooth_pixels(bands["days"], some, bands["days"])
    dates = [find(bands, f"2018-{day}") for day in ("04-26", "05-04", "05-06", "05-11")]

    assert (found["REJECTED"][dates] == 1).mean() < 0.02
    assert np.abs(found["LAI"][dates] - some["LAI"][dates]).mean() < 0.3
    assert found["FALL"][dates[1:3]].any(axis=0).all()
