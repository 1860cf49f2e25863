"""What is a calibration worth to a user? `python -m experiments.worth PAIRS.csv --further FOLDER`.

Input: measurements of LAI and of other variables. Output: one table, of `target="field"` with SL2P
beside it. Everything is fitted without what it is scored on: site-dates, folds, parcels, or whole
regions; folds of GROUNDED EO are random, since it names no site: optimistic. Own points are drawn
from a site-date, of which the rest is scored. Intervals in brackets are bootstraps by group.
Half-widths for new regions are those of the other regions' site-dates left out, times `NEW_REGION`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from numpy.typing import NDArray

from lai_training import metrics
from lai_training.calibration.calibrate import (
    CEILINGS,
    FADE_BELOW,
    NEW_REGION,
    LeftOut,
    change_of,
    fit_left_out_scale,
    leave_out,
    nested_bounds,
    scale_of,
)
from lai_training.calibration.correction import RECIPES, fit_correction
from lai_training.calibration.measurements import (
    GROUNDED,
    PAIRS,
    Floats,
    Measurements,
    Table,
    Texts,
    gather_measurements,
    read_pairs,
)
from lai_training.calibration.validate import score_draws
from lai_training.calibration.width import fit_half_widths, share_of_groups
from lai_training.cli.frame import FurtherOption, one_sentence
from lai_training.reporting import format_markdown
from lai_udf.calibration import FARTHEST, Errors, fit_effect, interval_of_mean
from lai_udf.predict import OwnPoints

OWN_POINTS = (0, 1, 3, 5)
"""Numbers of own points that are tried."""
FEWEST_ROWS = 4
"""Of a site-date from which own points are drawn."""
FEWEST_OF_A_MEAN = 3
POINT_ROWS = 9
"""Pixels that stand for a field point in `interval_of_mean`."""
DRAWS = 50
REPLICATES = 1000


@dataclass(frozen=True, eq=False)
class Scored(Table):
    """Estimates and their interval beside the truth, (n,) each."""

    truth: Floats
    sl2p: Floats
    estimate: Floats
    lower: Floats
    upper: Floats
    group: Texts


def describe_worth(
    lai: Measurements,
    left_out: LeftOut,
    others: Mapping[str, Measurements],
    crops: Texts,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Return the table.

    `lai` are measurements of LAI, field pairs first, `left_out` is `leave_out` of them by fold,
    `others` are measurements of FAPAR and FCOVER, `crops` the crop of every field pair; `rng` draws
    own points and bootstraps.
    """
    pairs = lai.source == PAIRS
    lower, upper = nested_bounds(left_out, CEILINGS["LAI"], (0.95,))
    known = _scored(left_out.take(pairs), lower[0.95], upper[0.95])
    new, spread = leave_regions_out(lai, left_out)
    rows = [
        _row("LAI, field pairs, site-dates left out", known, rng),
        _row("LAI, field pairs, regions left out", new, rng),
    ]
    rest = left_out.take(~pairs)
    everything = Scored.join([known, _scored(rest, *_plain_bounds(left_out, rest))])
    sources = lai.source[np.argsort(~pairs, kind="stable")]
    sparse = (everything.truth < 1) & np.isin(sources, [PAIRS, GROUNDED])
    rows.append(_row("LAI below 1, field pairs and GROUNDED EO", everything.take(sparse), rng))
    for source in np.unique(sources[sources != PAIRS]):
        rows.append(_row(f"LAI, {source}, folds left out", everything.take(sources == source), rng))
    for variable, measurements in others.items():
        own = leave_out(measurements, variable, measurements.fold, sun=True)
        ends = nested_bounds(own, CEILINGS[variable], (0.95,))
        scored = _scored(own, ends[0][0.95], ends[1][0.95])
        rows.append(_row(f"{variable}, folds left out", scored, rng))
    rows.append(_row("LAI, crop and site-date means", average(known, crops), rng))
    given = {f"LAI, {n} own points, regions left out": (new, n) for n in OWN_POINTS}
    known_width = (new.upper - new.estimate) / NEW_REGION
    narrow = _around(new, new.estimate, known_width)
    given["LAI, 3 own points, widths of known regions"] = (narrow, 3)
    for what, (scored, count) in given.items():
        held = give(scored, spread, count, rng)
        if held is not None:  # else no site-date has enough rows
            rows.append(_row(what, held, rng))
    return pd.DataFrame(rows)


def _around(scored: Scored, centre: Floats, margin: Floats) -> Scored:
    """Return the rows with another estimate, and its interval."""
    return Scored(scored.truth, scored.sl2p, centre, *_ends(centre, margin), scored.group)


def _scored(left_out: LeftOut, lower: Floats, upper: Floats) -> Scored:
    rows = left_out.measurements
    return Scored(rows.measured, rows.sl2p, left_out.centre, lower, upper, rows.group)


def _plain_bounds(left_out: LeftOut, rows: LeftOut) -> tuple[Floats, Floats]:
    """Return the interval fitted on field pairs, for rows of other sources."""
    scale = fit_left_out_scale(left_out, "LAI")
    own = left_out.take(left_out.measurements.deciding)
    return _ends(rows.centre, _half(own, scale, few=True) * scale_of(rows, scale))


def _ends(centre: Floats, margin: Floats) -> tuple[Floats, Floats]:
    return np.maximum(centre - margin, 0), centre + margin


def _half(own: LeftOut, scale: Mapping[str, Any], *, few: bool) -> float:
    ratio = own.error / scale_of(own, scale)
    group = own.measurements.group
    shared = share_of_groups(ratio, group)
    return fit_half_widths(np.abs(ratio), group, shared, (0.95,), few=few)[0]


def leave_regions_out(lai: Measurements, left_out: LeftOut) -> tuple[Scored, Floats]:
    """Return field pairs whose region took no part in any fit, and their scale."""
    pairs = lai.source == PAIRS
    regions = np.where(pairs | np.isin(lai.region, lai.region[pairs]), lai.region, "")
    only = lai.take(pairs)
    change, margins, scales = (np.zeros(only.sl2p.size) for _ in range(3))
    for region in np.unique(only.region):
        held, rest = only.region == region, regions != region
        correction = fit_correction(lai.take(rest), RECIPES["LAI"], sun=True)
        change[held] = change_of(only.take(held), correction, sun=True)
        fitted = left_out.take(rest)
        scale = fit_left_out_scale(fitted, "LAI")
        half = NEW_REGION * _half(fitted.take(fitted.measurements.deciding), scale, few=False)
        own = LeftOut(only, change, sun=True).take(held)
        scales[held] = scale_of(own, scale)
        margins[held] = half * scales[held]
    corrected = LeftOut(only, change, sun=True)
    return _scored(corrected, *_ends(corrected.centre, margins)), scales


def average(scored: Scored, crops: Texts) -> Scored:
    """Return the means over the points of a crop and site-date, with the interval of a mean."""
    names = np.char.add(np.char.add(scored.group, "|"), crops)
    kept = [name for name in np.unique(names) if (names == name).sum() >= FEWEST_OF_A_MEAN]
    parts = [scored.take(names == name) for name in kept]
    ratio = scored.truth - scored.estimate
    shared = share_of_groups(ratio, scored.group)
    means = {
        key: np.array([vars(part)[key].mean() for part in parts])
        for key in ("truth", "sl2p", "estimate", "lower", "upper")
    }
    pixels = POINT_ROWS * np.array([part.truth.size for part in parts], dtype="float64")
    lower, upper = interval_of_mean(
        means["estimate"], means["lower"], means["upper"], pixels, shared
    )
    group = np.array([part.group[0] for part in parts])
    return Scored(means["truth"], means["sl2p"], means["estimate"], lower, upper, group)


def give(scored: Scored, scale: Floats, count: int, rng: np.random.Generator) -> Scored | None:
    """Return the rows that are left when some of their site-date are a user's own points.

    None where no site-date has so many rows.
    """
    shared = share_of_groups((scored.truth - scored.estimate) / scale, scored.group)
    typical = float(np.exp(np.mean(np.log(scale))))
    parts = []
    for _ in range(DRAWS):
        for name in np.unique(scored.group):
            rows = np.flatnonzero(scored.group == name)
            if rows.size < max(FEWEST_ROWS, count + 1):
                continue
            own = rng.choice(rows, count, replace=False)
            held = scored.take(np.isin(np.arange(scored.truth.size), np.setdiff1d(rows, own)))
            mean, variance = _effect((scored.truth - scored.estimate)[own] / typical, shared)
            parts.append(_shift(held, mean * typical, np.sqrt(variance + 1 - shared)))
    return Scored.join(parts) if parts else None


def _effect(errors: Floats, shared: float) -> tuple[float, float]:
    """Return mean and variance of the shared error of one date, by the UDF's own code."""
    if not errors.size:
        return 0.0, shared
    bounded = np.clip(errors, -FARTHEST, FARTHEST)
    effect: OwnPoints = fit_effect(
        Errors(bounded, np.full(errors.size, 1 - shared), np.zeros(errors.size)), shared
    )
    return effect.predict(0.0)


def _shift(scored: Scored, shift: float, factor: float) -> Scored:
    fade = np.clip(scored.estimate / FADE_BELOW, 0, 1)
    centre = np.maximum(scored.estimate + shift * fade, 0)
    return _around(scored, centre, factor * (scored.upper - scored.estimate))


def _row(what: str, scored: Scored, rng: np.random.Generator) -> dict[str, object]:
    """Score one line of the table."""
    error, width = scored.estimate - scored.truth, scored.upper - scored.lower
    of_sl2p = scored.sl2p - scored.truth
    inside = (scored.lower <= scored.truth) & (scored.truth <= scored.upper)

    def score(rows: NDArray[np.intp]) -> dict[str, float]:
        return {
            "RMSE": float(np.sqrt(np.mean(error[rows] ** 2))),
            "RMSE of SL2P": float(np.sqrt(np.mean(of_sl2p[rows] ** 2))),
            "bias": float(error[rows].mean()),
            "bias of SL2P": float(of_sl2p[rows].mean()),
            "inside 95 %": float(inside[rows].mean()),
            "width": float(width[rows].mean()),
            "Spearman": metrics.rank_correlation(width[rows], np.abs(error[rows])),
        }

    places = [np.flatnonzero(scored.group == name) for name in np.unique(scored.group)]
    all_rows = np.arange(scored.truth.size)
    many = all_rows.size > 2000  # own points drawn again and again: the groups are what counts
    draws = [
        np.concatenate([places[k] for k in rng.integers(0, len(places), len(places))])
        for _ in range(REPLICATES // (20 if many else 1))
    ]
    limits = score_draws(score, draws)
    row: dict[str, object] = {"what": what, "n": all_rows.size, "groups": len(places)}
    for name, value in score(all_rows).items():
        low, high = (limits.get(f"{name}_{end}", np.nan) for end in ("low", "high"))
        row[name] = f"{value:.2f} [{low:.2f}, {high:.2f}]"
    return row


def main(
    pairs: Annotated[Path, typer.Argument(metavar="PAIRS.csv", help="Field pairs.")],
    further: FurtherOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Of own points and bootstrap.")] = 0,
) -> None:
    """Print what a calibration on field pairs is worth where it was not fitted."""
    with one_sentence():
        measured = gather_measurements(pairs, further)
        lai = measured.pop("LAI")
        crops = read_pairs(pairs)["crop"].fillna("unknown").str.casefold().to_numpy(str)
        left_out = leave_out(lai, "LAI", lai.fold, sun=True)
        table = describe_worth(lai, left_out, measured, crops, np.random.default_rng(seed))
    typer.echo(format_markdown(table))


if __name__ == "__main__":
    typer.run(main)
