"""The interval of a parcel's mean: narrower than those of its pixels, by what they do not share.

The error of field LAI has a part that all pixels share and one of each point. The first stays in a
mean, the second averages out (`lai_udf.calibration`). How large each is, the model's bundle says.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from lai_service.files.observations import Observation, ResultGroup

__all__ = ["narrowed", "shared_error"]


@lru_cache(maxsize=8)
def _shared_by_model(bundles: tuple[Path, ...]) -> dict[tuple[str, str], float]:
    """Return the shared part of the error by id and version of the models."""
    from lai_udf.bundle import open_bundle  # only who has field LAI needs the models

    found = [open_bundle(path) for path in bundles] or [open_bundle()]
    shared = {}
    for bundle in found:
        variables = (bundle.contract.get("calibration") or {}).get("variables") or {}
        if "shared" in (variables.get("LAI") or {}):
            shared[bundle.model_id, bundle.version] = float(variables["LAI"]["shared"])
    return shared


def shared_error(settings: ResultGroup, bundles: tuple[Path, ...]) -> float | None:
    """Return the share of the error variance that all pixels have in common.

    Args:
        settings: of the series.
        bundles: models known here; none = the shipped one.

    Returns:
        0 to 1; None where LAI does not aim at field LAI, or the model is not known.
    """
    if settings.target != "field":
        return None
    return _shared_by_model(bundles).get((settings.model, settings.model_version))


def narrowed(
    series: Sequence[Observation], shared: float, resolution_m: float
) -> list[Observation]:
    """Return observations whose bounds are those of the mean, not the mean of those of its pixels.

    Args:
        series: of one place.
        shared: see `shared_error`.
        resolution_m: pixel size, metres.
    """
    from lai_udf.calibration import interval_of_mean

    place = [
        number
        for number, row in enumerate(series)
        if None not in (row.lai, row.lower, row.upper) and row.pixels > 0
    ]
    if not place:
        return list(series)
    lai, low, high, pixels = (
        np.array([getattr(series[number], name) for number in place], np.float64)
        for name in ("lai", "lower", "upper", "pixels")
    )
    area = pixels * (resolution_m / 20) ** 2
    lower, upper = interval_of_mean(lai, low, high, area, shared)
    result = list(series)
    for number, ends in zip(place, zip(lower, upper, strict=True), strict=True):
        result[number] = replace(result[number], lower=float(ends[0]), upper=float(ends[1]))
    return result
