"""Score a network on real series: prediction of another date, and cloud that SCL missed.

Input: a cube (t, bands, y, x) with SCL and angles (`lai_udf.read_cube`) and bundles. Output:
tables. Definitions:

* *Prediction of another date*: pairs of dates at most 5.1 days apart, each more than 95 % of SCL 4
  and 5; pixels of these classes without SL2P flags on both dates, 3 px off the border. What changed
  over more than 9 px between the dates is taken out; RMSE of (estimate of one date - SL2P of the
  other), relative to SL2P's own.
* *Residual cloud*: LAI above 1 is expected from the clear dates within 10 days before and after
  (SCL 4 and 5, no SL2P flag, dates more than 98 % clear), and SL2P falls short of it by more than
  0.5; good pixels fall short by less than 0.2. Where the neighbours themselves disagree (mowing,
  or haze on one of them), falling short proves nothing: pixels whose neighbours agree to 0.5 or a
  fifth are counted once more by themselves, as `agreeing`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from lai_training import sl2p
from lai_training.errors import EvaluationError
from lai_training.evaluation.networks import Network
from lai_training.metrics import rank_correlation
from lai_training.restore.scenes import leave_border
from lai_udf.predict import INPUT_OUT_OF_DOMAIN, RESIDUAL_CLOUD, apply_datacube

Doubles = NDArray[np.float64]
Mask = NDArray[np.bool_]

PAIR_DAYS, CLEAR_PAIR, BORDER_PX, SMOOTH_PX = 5.1, 0.95, 3, 9
NEIGHBOUR_DAYS, CLEAR_NEIGHBOUR = 10.1, 0.98
AGREEING, AGREEING_SHARE = 0.5, 0.2
VEGETATED, BARE = 4, 5
SEEN_CLASSES = (2, 4, 5, 6, 7)


def score_date_prediction(cube: xr.DataArray, networks: Sequence[Network]) -> pd.DataFrame:
    """Return a row per network.

    Returns:
        `network`, `pairs`, `n`, `rmse`; `sd_rank` and `lai_rank`: rank correlation of the absolute
        error with `LAI_SD`, and with LAI itself; `ratio` of the RMSE to SL2P's own.

    Raises:
        EvaluationError: the cube has no pair of clear dates.
    """
    lai, flags, clear, days = _read_series(cube)
    good = np.flatnonzero(clear.mean(axis=(1, 2)) > CLEAR_PAIR)
    pairs = [
        (one, other, clear[one] & clear[other] & (flags[one] == 0) & (flags[other] == 0))
        for one in good
        for other in good
        if one != other and 0.5 < abs(days[one] - days[other]) <= PAIR_DAYS
    ]
    pairs = [pair for pair in pairs if pair[2].mean() >= 0.2]
    if not pairs:
        raise EvaluationError("the cube has no two clear dates within five days")
    estimates = {"SL2P": np.stack([lai, np.full_like(lai, np.nan)])}
    clear_dates = cube.isel(t=good).sel(bands=cube["bands"] != "SCL")
    for network in networks:
        bands = ["LAI", "LAI_SD"]
        context = {"model": str(network.bundle), "bands": bands, "reflectance_offset": 0.0}
        estimates[network.name] = np.full((2, *lai.shape), np.nan)
        predicted = apply_datacube(clear_dates, context).values
        estimates[network.name][:, good] = predicted.transpose(1, 0, 2, 3)
    rows: list[dict[str, Any]] = []
    for name, (estimate, sd) in estimates.items():
        errors = np.concatenate([_predict(estimate[a], lai[b], m) for a, b, m in pairs])
        spread, level = (
            np.concatenate([part[a][leave_border(m, BORDER_PX)] for a, _, m in pairs])
            for part in (sd, estimate)
        )
        row = {"network": name, "pairs": len(pairs), "n": len(errors)}
        row["rmse"] = float(np.sqrt(np.nanmean(errors**2)))
        row["sd_rank"] = rank_correlation(spread, np.abs(errors))
        row["lai_rank"] = rank_correlation(level, np.abs(errors))
        rows.append(row)
    table = pd.DataFrame(rows)
    return table.assign(ratio=table["rmse"] / table["rmse"].iloc[0])


def score_residual_cloud(cube: xr.DataArray, networks: Sequence[Network]) -> pd.DataFrame:
    """Return a row per rule: `rule`, share `caught` of bad and `lost` of good pixels, and counts.

    The same with the ending `_agreeing` of pixels whose neighbours in time agree.

    Raises:
        EvaluationError: the cube has no such pixels.
    """
    lai, flags, clear, days = _read_series(cube)
    whole = clear.mean(axis=(1, 2)) > CLEAR_NEIGHBOUR
    expected, agreeing = _expect(lai, clear & (flags == 0) & whole[:, None, None], days)
    scene_class = cube.sel(bands="SCL").values
    with np.errstate(invalid="ignore"):
        judged = np.isin(scene_class, SEEN_CLASSES) & np.isfinite(lai) & (expected > 1)
        bad, good = judged & (lai - expected < -0.5), judged & (lai - expected > -0.2)
    if not (bad.any() and good.any()):
        raise EvaluationError("the cube has no residual cloud between clear dates")
    rules: dict[str, Mask] = {"SL2P's flag 1": (flags & INPUT_OUT_OF_DOMAIN) > 0}
    for network in networks:
        context = {"model": str(network.bundle), "bands": ["LAI_FLAGS"], "reflectance_offset": 0.0}
        predicted_flags = apply_datacube(cube, context).values[:, 0].astype("uint8")
        rules[f"flag 128 of {network.name}"] = (predicted_flags & RESIDUAL_CLOUD) > 0
    blue, short_wave = (cube.sel(bands=band).values for band in ("B02", "B11"))
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = blue / short_wave
    rules["B02/B11 above its 95 % of good pixels"] = ratio > np.nanquantile(ratio[good], 0.95)
    pixels = {"": (bad, good), "_agreeing": (bad & agreeing, good & agreeing)}
    columns: dict[str, Any] = {"rule": list(rules)}
    for what, of in (("caught", 0), ("lost", 1)):
        for ending, chosen in pixels.items():
            columns[what + ending] = [_share(rule, chosen[of]) for rule in rules.values()]
    for what, of in (("bad", 0), ("good", 1)):
        for ending, chosen in pixels.items():
            columns[what + ending] = int(chosen[of].sum())
    return pd.DataFrame(columns)


def _share(rule: Mask, pixels: Mask) -> float:
    return float(rule[pixels].mean()) if pixels.any() else float("nan")


def _read_series(cube: xr.DataArray) -> tuple[Doubles, NDArray[np.uint8], Mask, Doubles]:
    """Return SL2P's LAI and flags, where SCL is 4 or 5, (t, y, x) each, and days (t,)."""
    labels = [sl2p.predict_image(date) for date in cube]
    lai = np.stack([np.asarray(value, "float64") for value, _ in labels])
    flags = np.stack([flag for _, flag in labels])
    clear = np.isin(cube.sel(bands="SCL").values, (VEGETATED, BARE)) & np.isfinite(lai)
    days = cube["t"].values.astype("datetime64[s]").astype("float64") / 86_400
    return lai, flags, clear, days


def _predict(estimate: Doubles, other: Doubles, pixels: Mask) -> Doubles:
    """Return the errors of an estimate of one date as SL2P of the other, slow change taken out."""
    change = other - estimate
    share = uniform_filter(pixels.astype("float64"), SMOOTH_PX, mode="nearest")
    smooth = uniform_filter(np.where(pixels, change, 0), SMOOTH_PX, mode="nearest")
    errors: Doubles = (smooth / np.maximum(share, 1e-6) - change)[leave_border(pixels, BORDER_PX)]
    return errors


def _expect(lai: Doubles, usable: Mask, days: Doubles) -> tuple[Doubles, Mask]:
    """Return LAI (t, y, x) between the nearest usable dates on both sides, and whether they agree.

    NaN where one of them is too far.
    """
    expected, agreeing = np.full_like(lai, np.nan), np.zeros(lai.shape, dtype=bool)
    for number, day in enumerate(days):
        sides: list[Any] = []
        for order in (range(number - 1, -1, -1), range(number + 1, len(days))):
            value, distance = (np.full(lai.shape[1:], np.nan) for _ in range(2))
            for other in order:
                away = abs(days[other] - day)
                if away > NEIGHBOUR_DAYS:
                    break
                fresh = usable[other] & np.isnan(value) & (away > 0.5)
                value[fresh], distance[fresh] = lai[other][fresh], away
            sides.append((value, distance))
        (before, since), (after, until) = sides
        expected[number] = (before * until + after * since) / (since + until)
        with np.errstate(invalid="ignore"):
            apart = np.abs(after - before)
            agreeing[number] = apart < np.maximum(AGREEING, AGREEING_SHARE * expected[number])
    return expected, agreeing
