"""Calibrate a bundle against field measurements: correction, scale and quantiles of the interval.

Input: `Measurements` of LAI, FAPAR and FCOVER. Output: the `calibration` block of
`model.json`, by which `lai_udf.predict.estimate_field` and `relate_to_field` work. It depends on
SL2P and the field data alone, so it is the same for every network that emulates SL2P.

`variables` holds for each variable: `with_sun` and `without_sun` (correction and scale; the latter
for cubes without angles), `levels` and `half_widths` for regions like those of the field data
(`known`) and for others (`new`), the `shared` part of the error's variance, by which a user's own
points and parcel means are treated.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lai_training import metrics
from lai_training.calibration.correction import RECIPES, fit_correction
from lai_training.calibration.measurements import PAIRS, Floats, Measurements, Texts, fingerprint
from lai_training.calibration.width import LEVELS, fit_half_widths, fit_scale, share_of_groups
from lai_udf.predict import BANDS, work_out_change, work_out_scale

Rows = NDArray[np.bool_] | NDArray[np.intp]
SUN = {"with_sun": True, "without_sun": False}
TERMS = ("centre", "change", "edge", "sun")
"""Features of the scale of LAI; fractions have the first two."""
CEILINGS = {"LAI": 15.0, "FAPAR": 1.0, "FCOVER": 1.0}
"""No measurement lies above."""
FADE_BELOW = 0.25
"""Value below which a shift by own points shrinks in proportion: bare soil has no leaves."""
NEW_REGION = 1.2
"""Widening for new regions, of the quantile of the sample: with it 94.8 % of the field pairs lie in
their interval when their whole country took no part (92.5 % with 1.1, 90.2 % with 1)."""
METHOD = (
    "split-conformal: absolute errors of site-dates left out, over a scale fitted to a few "
    "features; rows of a site-date count as fewer"
)


@dataclass(frozen=True, eq=False)
class LeftOut:
    """Corrected values of rows whose group took no part in fitting them."""

    measurements: Measurements
    """What was measured."""
    change: Floats
    """(n,) what the correction adds."""
    sun: bool
    """Whether angles were given."""

    @property
    def centre(self) -> Floats:
        """Return the corrected value, (n,), as `lai_udf.predict.estimate_field` does."""
        return np.maximum(self.measurements.estimate(sun=self.sun) + self.change, 0.0)

    @property
    def error(self) -> Floats:
        """Return measured minus corrected, (n,)."""
        return self.measurements.measured - self.centre

    def take(self, rows: Rows) -> "LeftOut":
        """Return some rows."""
        return LeftOut(self.measurements.take(rows), self.change[rows], self.sun)

    def features(self, names: tuple[str, ...]) -> dict[str, Floats]:
        """Return the features of the scale, (n,) each; the sun's only where it is known."""
        reflectance = self.measurements.reflectance
        infrared, edge = (reflectance[:, BANDS.index(band)] for band in ("B8A", "B07"))
        features = {
            "centre": self.centre,
            "change": np.abs(self.change),
            "edge": (infrared - edge) / (infrared + edge),
            "sun": self.measurements.cosines[:, 1],
        }
        return {name: features[name] for name in names if self.sun or name != "sun"}


def change_of(measurements: Measurements, correction: Mapping[str, Any], *, sun: bool) -> Floats:
    """Return what a correction adds, (n,), by the UDF's own code; 0 out of the domain."""
    image = measurements.reflectance.T[:, None].astype("float32")
    cosines = measurements.cosines[None, :, 1].astype("float32") if sun else None
    change = work_out_change(image, cosines, dict(correction))[0].astype("float64")
    return np.where(measurements.outside, 0.0, change)


def scale_of(left_out: LeftOut, scale: Mapping[str, Any]) -> Floats:
    """Return the scale of the error, (n,), by the UDF's own code."""
    measurements = left_out.measurements
    lai, change, cosines = (
        values[None].astype("float32")
        for values in (left_out.centre, left_out.change, measurements.cosines[:, 1])
    )
    image = measurements.reflectance.T[:, None].astype("float32")
    sun = cosines if left_out.sun else None
    scales = work_out_scale(lai, change, image, sun, {"scale": dict(scale)})
    return np.asarray(scales[0], dtype="float64")


def leave_out(measurements: Measurements, variable: str, labels: Texts, *, sun: bool) -> LeftOut:
    """Correct every row by a fit without the rows of its label.

    `labels`, (n,), are groups or regions; `variable` is a name of `RECIPES`; `sun`: whether angles
    are given.
    """
    change = np.zeros(labels.size)
    for label in np.unique(labels):
        held = labels == label
        if not measurements.outside[held].all():
            correction = fit_correction(measurements.take(~held), RECIPES[variable], sun=sun)
            change[held] = change_of(measurements.take(held), correction, sun=sun)
    return LeftOut(measurements, change, sun)


def fit_left_out_scale(left_out: LeftOut, variable: str) -> dict[str, Any]:
    """Fit the scale to errors of rows left out; the deciding source sets its level."""
    order = np.argsort(~left_out.measurements.deciding, kind="stable")  # its rows come first
    rows = left_out.take(order)
    features = rows.features(TERMS if variable == "LAI" else TERMS[:2])
    return fit_scale(features, rows.error, rows.measurements.group, rows.measurements.source)


def calibrate_variable(measurements: Measurements, variable: str) -> tuple[dict[str, Any], LeftOut]:
    """Fit correction, scale and half-widths of a variable on all its measurements.

    Returns:
        The entry of the variable in `model.json`, and the rows left out, angles given.
    """
    entry: dict[str, Any] = {}
    kept: dict[str, LeftOut] = {}
    for name, sun in SUN.items():
        kept[name] = leave_out(measurements, variable, measurements.fold, sun=sun)
        entry[name] = {
            "correction": fit_correction(measurements, RECIPES[variable], sun=sun),
            "scale": fit_left_out_scale(kept[name], variable),
        }
    deciding = measurements.deciding
    with_sun = kept["with_sun"]
    scale = entry["with_sun"]["scale"]
    ratio = (with_sun.error / scale_of(with_sun, scale))[deciding]
    group = measurements.group[deciding]
    entry["shared"] = round(share_of_groups(ratio, group), 3)
    entry["levels"] = list(LEVELS)
    half = fit_half_widths(np.abs(ratio), group, entry["shared"])
    # Without angles the error is larger: its scale is brought to the same half-widths.
    without = kept["without_sun"]
    other = np.abs(without.error / scale_of(without, entry["without_sun"]["scale"]))[deciding]
    wider = fit_half_widths(other, group, entry["shared"])[-1] / half[-1]
    entry["without_sun"]["scale"]["constant"] += round(float(np.log(max(wider, 1.0))), 5)
    plain = fit_half_widths(np.abs(ratio), group, entry["shared"], few=False)
    new = [round(max(old, NEW_REGION * width), 4) for old, width in zip(half, plain, strict=True)]
    entry["half_widths"] = {"known": half, "new": new}
    logarithm = np.log(scale_of(with_sun, scale)[deciding])
    entry["typical_scale"] = round(float(np.exp(np.mean(logarithm))), 4)
    entry |= {"ceiling": CEILINGS[variable], "fade_below": FADE_BELOW}
    entry |= {"rows": int(deciding.sum()), "groups": int(np.unique(group).size)}
    return entry, with_sun


def calibrate(parts: Mapping[str, Measurements]) -> dict[str, Any]:
    """Return the `calibration` block of `model.json` of measurements by variable; LAI is needed."""
    variables, scores = {}, {}
    for variable, measurements in parts.items():
        variables[variable], left_out = calibrate_variable(measurements, variable)
        if variable == "LAI":
            scores = score_targets(left_out, variables[variable])
    pairs = parts["LAI"].source == PAIRS
    site_dates = np.unique(parts["LAI"].group[pairs])
    return {
        "version": 2,
        "level": 0.95,
        "method": METHOD,
        "n_pairs": int(pairs.sum()),
        "n_site_dates": int(site_dates.size),
        "site_dates": sorted(map(fingerprint, site_dates)),
        "rows_by_source": pd.Series(parts["LAI"].source).value_counts().to_dict(),
        "variables": variables,
        "scores_left_out_site_dates": scores,
    }


def score_targets(left_out: LeftOut, entry: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Score either target on field pairs left out; half-widths and scale, too, are refitted."""
    rows = left_out.take(left_out.measurements.deciding)
    lower, upper = nested_bounds(left_out, entry["ceiling"])
    truth = rows.measurements.measured
    targets = {"sl2p": rows.measurements.estimate(sun=rows.sun), "field": rows.centre}
    scores = {}
    for target, value in targets.items():
        low, high = (
            {level: limit(ends[level], value) for level in lower}
            for limit, ends in ((np.minimum, lower), (np.maximum, upper))
        )
        covered = {level: metrics.coverage(truth, low[level], high[level]) for level in lower}
        width, agreement = high[0.95] - low[0.95], metrics.score(truth, value)
        row = {
            "rmse": agreement.rmse,
            "bias": agreement.bias,
            "coverage": covered[0.95],
            "mean_width": float(width.mean()),
            **{f"coverage_{round(100 * level)}": covered[level] for level in (0.5, 0.68, 0.9)},
            "rank_width_error": metrics.rank_correlation(width, np.abs(value - truth)),
        }
        scores[target] = {name: round(score, 4) for name, score in row.items()}
    return scores


def nested_bounds(
    left_out: LeftOut, ceiling: float, levels: tuple[float, ...] = LEVELS
) -> tuple[dict[float, Floats], dict[float, Floats]]:
    """Return the ends of the deciding source's intervals by level, (m,) each.

    Scale and half-widths of a group, too, are fitted without it.
    """
    judged = left_out.measurements.deciding
    group = left_out.measurements.group
    names = group[judged]
    ends = {level: np.empty((2, names.size)) for level in levels}
    for name in np.unique(names):
        rest = left_out.take(group != name)
        scale = fit_left_out_scale(rest, "LAI" if ceiling > 1 else "FAPAR")
        deciding = rest.take(rest.measurements.deciding)
        ratio = deciding.error / scale_of(deciding, scale)
        shared = share_of_groups(ratio, deciding.measurements.group)
        halves = fit_half_widths(np.abs(ratio), deciding.measurements.group, shared, levels)
        held = left_out.take(judged & (group == name))
        for level, half in zip(levels, halves, strict=True):  # as `predict.relate_to_field`
            margin = half * scale_of(held, scale)
            ends[level][0, names == name] = np.maximum(held.centre - margin, 0.0)
            ends[level][1, names == name] = np.minimum(held.centre + margin, ceiling)
    return {k: v[0] for k, v in ends.items()}, {k: v[1] for k, v in ends.items()}
