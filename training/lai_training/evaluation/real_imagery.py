"""Scores on real imagery, as chapters of the report: 10 m, pairs of dates, residual cloud.

Series are cubes (t, bands, y, x) with SCL and angles (`lai_udf.read_cube`). Definitions:

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
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from lai_training import sl2p
from lai_training.errors import EvaluationError
from lai_training.evaluation.networks import Network
from lai_training.evaluation.ten_metres import (
    CUBIC,
    DETAIL,
    SNAP_10M,
    draw_ten_metres,
    score_native,
    score_wald,
)
from lai_training.metrics import rank_correlation
from lai_training.reporting import Chapter, format_markdown, read_words
from lai_training.restore.scenes import leave_border, read_folder, read_scenes
from lai_udf.predict import BANDS, INPUT_OUT_OF_DOMAIN, RESIDUAL_CLOUD, apply_datacube
from lai_udf.scenes.cubes import read_cube

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


def score_real_imagery(
    networks: Sequence[Network],
    *,
    scenes: Path | None = None,
    ten_metres: Path | None = None,
    series: Path | None = None,
) -> list[Chapter]:
    """Return a chapter for each kind of imagery that is given.

    Folders hold real scenes at 20 m and at 10 m; the series is a cube (t, bands, y, x) with SCL.
    Raises `EvaluationError` where scenes or series hold nothing to score.
    """
    tables, figures = {}, {}
    if scenes is not None:
        tables["wald"] = score_wald(read_scenes(scenes), networks)
    if ten_metres is not None:
        images = {
            path.stem: image.sel(bands=list(BANDS)).values
            for path, image in read_folder(ten_metres, resolution=10)
        }
        tables["ten_metres"], shown = score_native(images, networks)
        figures["ten_metres"] = {"ten_metres.png": partial(draw_ten_metres, shown)}
    if series is not None:
        cube = read_cube(series).load()
        tables["dates"] = score_date_prediction(cube, networks)
        tables["residual_cloud"] = score_residual_cloud(cube, networks)
    chapters = []
    for name, table in tables.items():
        title, words = read_words()[name].split("\n\n")
        pictures = figures.get(name, {})
        text = [
            words,
            format_markdown(table.round(4)),
            *(f"![{title}]({file})" for file in pictures),
        ]
        chapters.append(Chapter(f"## {title}", text, {name: table}, pictures))
    return chapters


def summarise(chapters: Sequence[Chapter], network: str) -> dict[str, Any]:
    """Return the scores of one network in the chapters, as a bundle records them.

    Returns:
        Of the chapters that there are: `wald_ratio` by variable, of this network, of regression of
        detail and of SNAP's 10 m network; `ten_metres_distance` of this network and of cubic
        interpolation, m2 m-2; `pairs_ratio`, and `pairs_rank` of LAI_SD and of LAI;
        `residual_cloud`: share caught and lost by flag 128 and by SL2P's flag 1. Numbers have four
        digits.
    """
    tables: dict[str, pd.DataFrame] = {k: v for each in chapters for k, v in each.tables.items()}
    worth: dict[str, Any] = {}
    methods = {"network": network, "regression": DETAIL, "snap_10m": SNAP_10M, "cubic": CUBIC}
    if "wald" in tables:
        ratio = tables["wald"].set_index(["method", "variable"])["ratio"].round(4)
        worth["wald_ratio"] = {
            key: ratio[name].to_dict() for key, name in methods.items() if key != "cubic"
        }
    if "ten_metres" in tables:
        distance = tables["ten_metres"].query("variable == 'LAI'").set_index("method")["distance"]
        worth["ten_metres_distance"] = {
            key: round(float(distance[methods[key]]), 4) for key in ("network", "cubic")
        }
    if "dates" in tables:
        pairs = tables["dates"].set_index("network").round(4)
        worth["pairs_ratio"] = float(pairs["ratio"][network])
        worth["pairs_rank"] = {key: float(pairs[f"{key}_rank"][network]) for key in ("sd", "lai")}
    if "residual_cloud" in tables:
        rules = tables["residual_cloud"].set_index("rule")[["caught", "lost"]].round(4)
        names = {"flag_128": f"flag 128 of {network}", "flag_1": "SL2P's flag 1"}
        worth["residual_cloud"] = {key: rules.loc[name].to_dict() for key, name in names.items()}
    return worth
