"""A user's own measurements: the shared error that they show, and the interval of a mean.

In: a table of points (place, date, LAI) and results of `lai-udf run` with `target="field"` over
them. Out: a small file that the UDF takes as context `calibration`.

The error of a field LAI is what all pixels of a date share (weather, leaf angles, observer) plus
what each point has for itself. Half of the variance is shared, so a few points of a date show
much of it, and never all. The shared error is a random effect over time: correlated by
exp(-days / `DECAY_DAYS`), predicted by the best linear predictor (BLUP; Robinson 1991, That BLUP is
a good thing), which shrinks a single point by itself. Other dates of a site were uncorrelated in
the data that this was measured on, hence the short memory.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.warp import transform
from rasterio.windows import Window

from lai_udf.atomic import new_files
from lai_udf.bundle import Bundle, open_bundle
from lai_udf.errors import OwnPointsError
from lai_udf.own_points import Point
from lai_udf.predict import (
    INPUT_OUT_OF_DOMAIN,
    UNUSABLE_FLAGS,
    Model,
    OwnPoints,
    identify,
    interpolate_half_width,
)
from lai_udf.results import FLAGS, LaiResult

Floats = NDArray[np.float64]
MAX_DAYS = 5.0  # greatest distance between a measurement and the image that it is compared with
DECAY_DAYS = 15.0  # after which the correlation of the shared error has fallen to 1/e
HIDING_FLAGS = UNUSABLE_FLAGS & ~INPUT_OUT_OF_DOMAIN
"""Of pixels that no point is compared with; out of SL2P's domain the error is much the same."""
FARTHEST = 3.0  # A point counts as at most so many scales away: one mistyped number must not decide
POINT_PX = 9  # pixels of 20 m of a parcel that count as one independent point: 60 m x 60 m


@dataclass(frozen=True)
class Match:
    """A measurement beside the estimate of its pixel."""

    point: Point  # what was measured
    day: float  # of the image, days since 1970
    estimated: float  # field LAI of the pixel, m2 m-2


@dataclass(frozen=True)
class Refused:
    """A row that was not used."""

    row: int  # of the table, from 1
    reason: str  # why


def match_points(
    points: Sequence[Point], results: Sequence[LaiResult]
) -> tuple[list[Match], list[Refused]]:
    """Read the pixel of every point from the nearest image in time.

    Args:
        points: measurements.
        results: LAI with `target="field"`; of another target, or corrected by own points: left out.

    Raises:
        OwnPointsError: there are results, and none of them can be used.
        RasterError: a result cannot be read, or does not state its time.
    """
    usable = [result for result in results if _is_field_lai(result)]
    if results and not usable:
        raise OwnPointsError(
            f"{results[0].path} holds SL2P's LAI, a series, or LAI that own points corrected: run "
            "the scene with the target field, and without a calibration"
        )
    first: dict[tuple[float, ...], int] = {}
    pairs = [(point, _match_once(point, usable, first)) for point in points]
    refused = [Refused(point.row, why) for point, why in pairs if isinstance(why, str)]
    return [match for _, match in pairs if isinstance(match, Match)], refused


def _match_once(
    point: Point, results: Sequence[LaiResult], first: dict[tuple[float, ...], int]
) -> Match | str:
    """Return the match of a point; a measurement of which `first` knows a row does not count."""
    row = first.setdefault((point.longitude, point.latitude, point.day, point.lai), point.row)
    return _match(point, results) if row == point.row else f"repeats row {row}"


def _is_field_lai(result: LaiResult) -> bool:
    target = result.properties.get("laiq:target") or result.tags.get("TARGET")
    is_field = target in (None, "field") and "CALIBRATION" not in result.tags
    return is_field and not result.is_series


def _match(point: Point, results: Sequence[LaiResult]) -> Match | str:
    """Return the match of a point, or why there is none."""
    inside = [(result, window) for result in results if (window := _pixel(point, result))]
    if not inside:
        return "lies outside the images"
    days = [result.datetime.timestamp() / 86_400 for result, _ in inside]
    apart = [abs(day - point.day) for day in days]
    near = [number for number in np.argsort(apart) if apart[number] <= MAX_DAYS + 0.5]
    if not near:
        return f"no image within {MAX_DAYS:g} days; the nearest is {min(apart):.0f} days away"
    for number in near:
        result, window = inside[number]
        layers = result.read(["LAI", FLAGS], window)
        lai = float(layers["LAI"][0, 0])
        flags = float(layers.get(FLAGS, np.zeros((1, 1)))[0, 0])
        if np.isfinite(lai) and not int(np.nan_to_num(flags)) & HIDING_FLAGS:
            return Match(point, days[number], lai)
    return "no clear pixel in the images of these days"


def _pixel(point: Point, result: LaiResult) -> Window | None:
    """Return the pixel of a point in a result, None outside."""
    crs = result.grid.crs
    (x,), (y,) = transform("EPSG:4326", crs, [point.longitude], [point.latitude])[:2]
    column, row = ~result.grid.transform @ (x, y)
    height, width = result.grid.shape
    if not (0 <= row < height and 0 <= column < width):
        return None
    return Window(int(column), int(row), 1, 1)


@dataclass(frozen=True, eq=False)
class Errors:
    """Errors of the estimate at own points, in units of the typical scale of the bundle."""

    value: Floats  # (n,) measured minus estimated, bounded by `FARTHEST`
    variance: Floats  # (n,) of the part that is the point's own: field, pixel and instrument
    days: Floats  # (n,) of the images, days since 1970

    def take(self, rows: NDArray[np.bool_]) -> "Errors":
        """Return some points."""
        return Errors(self.value[rows], self.variance[rows], self.days[rows])


def errors_of(matches: Sequence[Match], calibration: Mapping[str, Any]) -> Errors:
    """Return the errors of points; `calibration`: that of LAI in the contract of a bundle."""
    scale, shared = float(calibration["typical_scale"]), float(calibration["shared"])
    value = np.array([match.point.lai - match.estimated for match in matches]) / scale
    own = np.array([match.point.sd for match in matches]) / scale
    return Errors(
        np.clip(value, -FARTHEST, FARTHEST),
        (1 - shared) + own**2,
        np.array([match.day for match in matches]),
    )


def fit_effect(errors: Errors, shared: float) -> OwnPoints:
    """Fit the shared error of the dates that were measured; `shared`: share of the variance.

    Points of one date are averaged, each by its weight.
    """
    days, number = np.unique(errors.days, return_inverse=True)
    precision = np.bincount(number, 1 / errors.variance)
    mean = np.bincount(number, errors.value / errors.variance) / precision
    covariance = shared * np.exp(-np.abs(days[:, None] - days) / DECAY_DAYS)
    inverse = np.linalg.inv(covariance + np.diag(1 / precision))
    return OwnPoints(days, inverse @ mean, inverse, shared, DECAY_DAYS)


def leave_points_out(
    matches: Sequence[Match], calibration: Mapping[str, Any]
) -> dict[str, float | int | None]:
    """Return what own points are worth: every point is estimated by the others of the table.

    Returns:
        `points`, `rmse_before`, `rmse_after`, `width_before`, `width_after` (of the 95 % interval,
        not cut at 0), `inside_after`; None where a single point leaves nothing to judge by.
    """
    errors, scale = errors_of(matches, calibration), float(calibration["typical_scale"])
    shared = float(calibration["shared"])
    before = np.array([match.point.lai - match.estimated for match in matches])
    half = interpolate_half_width(dict(calibration), "known", 0.95) * scale
    report: dict[str, float | int | None] = {"points": len(matches), "rmse_before": _rmse(before)}
    report |= dict.fromkeys(("rmse_after", "width_before", "width_after", "inside_after"))
    report["width_before"] = round(2 * half, 3)
    if len(matches) < 2:
        return report
    after, widths = np.empty(len(matches)), np.empty(len(matches))
    for number, match in enumerate(matches):
        others = np.arange(len(matches)) != number
        effect = fit_effect(errors.take(others), shared)
        mean, variance = effect.predict(match.day)
        fade = np.clip(match.estimated / calibration["fade_below"], 0, 1)  # bare soil stays
        after[number] = before[number] - mean * scale * fade
        widths[number] = 2 * half * np.sqrt(variance + 1 - shared)
    report |= {
        "rmse_after": _rmse(after),
        "width_after": round(float(widths.mean()), 3),
        "inside_after": round(float((np.abs(after) <= widths / 2).mean()), 3),
    }
    return report


def _rmse(error: Floats) -> float:
    return round(float(np.sqrt(np.mean(error**2))), 3)


def write_calibration(
    path: Path, model: Model, matches: Sequence[Match], refused: Sequence[Refused]
) -> dict[str, Any]:
    """Fit own points and write the file that the UDF reads; return the scores in it.

    Raises:
        OwnPointsError: no point can be used, or the bundle is not calibrated to field LAI.
    """
    calibration = model.contract["calibration"].get("variables", {}).get("LAI")
    if calibration is None:
        raise OwnPointsError("the bundle is not calibrated to field LAI")
    if not matches:
        reasons = "; ".join(f"row {each.row}: {each.reason}" for each in refused[:5])
        raise OwnPointsError(f"no point can be used: {reasons or 'the table is empty'}")
    effect = fit_effect(errors_of(matches, calibration), float(calibration["shared"]))
    scores = leave_points_out(matches, calibration)
    report = {**scores, "refused": [asdict(each) for each in refused]}
    document = {
        "type": "lai-own-points",
        "model": identify(model),
        "effect": {
            name: values.tolist() if isinstance(values, np.ndarray) else values
            for name, values in vars(effect).items()
        },
        "report": report,
        "bbox": [
            f([getattr(match.point, name) for match in matches])
            for f in (min, max)
            for name in ("longitude", "latitude")
        ],
    }
    with new_files(path.parent) as work:
        (work / path.name).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return report


def interval_of_mean(
    lai: Floats, lower: Floats, upper: Floats, pixels: Floats, shared: float
) -> tuple[Floats, Floats]:
    """Return the ends of the interval of means over pixels, (n,) each, m2 m-2.

    The shared part of the error stays, however many pixels there are; the point's own part falls
    with the root of the number of independent points, one for every `POINT_PX` pixels.

    Args:
        lai: (n,) means of field LAI.
        lower: (n,) means of the pixels' lower ends.
        upper: (n,) means of their upper ends.
        pixels: (n,) number of usable pixels of 20 m, or their area in such pixels.
        shared: of LAI in `calibration.variables` of the bundle.
    """
    factor = np.sqrt(shared + (1 - shared) / np.maximum(pixels / POINT_PX, 1.0))
    # The lower end is cut at 0, the upper one is not: it gives the margin of both.
    margin = np.maximum(upper - lai, lai - lower) * factor
    return np.minimum(np.maximum(lai - margin, 0.0), lai), lai + margin


def shared_error(results: Sequence[LaiResult], bundles: Sequence[Bundle] = ()) -> float | None:
    """Return the shared part of the error, 0-1, of the bundle that made results, where it is known.

    None where no known bundle made all of them, or it does not state it, and where they aim at
    SL2P, whose bounds lie about field LAI, not about the mean shown.

    Args:
        results: of one series.
        bundles: that are known; none = the shipped one.
    """
    targets = {item.properties.get("laiq:target") or item.tags.get("TARGET") for item in results}
    if targets != {"field"}:
        return None
    made_by = {
        str(item.properties.get("laiq:model_checksum") or item.tags.get("MODEL_CHECKSUM"))
        for item in results
    }
    for bundle in bundles or (open_bundle(),):
        variables = bundle.contract.get("calibration", {}).get("variables", {})
        shared = variables.get("LAI", {}).get("shared")
        if made_by == {bundle.checksum} and shared is not None:
            return float(shared)
    return None
