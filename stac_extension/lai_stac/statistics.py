"""What the pixels of an LAI product say: the numbers behind the ``laiq:`` fields.

Pure functions on arrays (y, x): LAI and interval in m2 m-2 with NaN = no data, flags as in
`lai_udf.predict`. Nothing is read and nothing is remembered.

Which pixels count:

- *valid*: LAI is a number.
- *cloud*: no LAI, and the flag says cloud, shadow or snow within the network's reach.
- *no data*: no LAI for another reason.
- *inside*: within the outline of everything observed (`lai_stac.footprint`), so that the
  three shares add up to one and do not depend on how much border a raster carries.

Shares of the observation (valid, cloud, no data) are over the pixels inside; shares of the
result (out of domain, out of range, GCOS) are over the valid pixels, because a pixel without LAI
neither meets nor misses a requirement.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lai_stac import fields
from lai_stac.objects import Requirement

Array = npt.NDArray[Any]

INPUT_OUT_OF_DOMAIN = 1
OUT_OF_RANGE = 2 | 4 | 8 | 16  # clipped to min, clipped to max, too low, too high
CLOUD_NEAR = 32

INTERVAL_LEVEL = 0.95
"""Level of LAI_LOWER..LAI_UPPER, a contract of the output bands."""

HALF_WIDTH_IN_SIGMA = 1.959964
"""Half-width of a central 95 % interval of a normal distribution, in standard deviations."""

LAI_DECIMALS = 4
FRACTION_DECIMALS = 6
RELATIVE_FROM_LAI = 0.5
"""m2 m-2; below it a relative uncertainty says nothing (the switch of GCOS-2022)."""

# GCOS-244 (2022), ECV leaf area index: required measurement uncertainty, two sigma.
GCOS_2022 = {
    "GCOS-2022-goal": {"relative": 0.10, "absolute": 0.05},
    "GCOS-2022-threshold": {"relative": 0.20, "absolute": 0.10},
}
GCOS_COVERAGE_FACTOR = 2.0


@dataclass(frozen=True)
class ProductStatistics:
    """What an item says about its pixels."""

    values: dict[str, float | int]
    """Flat ``laiq:`` fields; those that need a valid pixel are absent where there is none."""

    requirements: list[Requirement]
    """Predicted conformity with GCOS-2022, empty where no pixel is valid."""


def valid_pixels(lai: Array) -> npt.NDArray[np.bool_]:
    """Return where LAI is a number, (y, x)."""
    return np.isfinite(lai)


def cloudy_pixels(lai: Array, flags: Array) -> npt.NDArray[np.bool_]:
    """Return where there is no LAI and the flags name cloud, shadow or snow, (y, x)."""
    return ~np.isfinite(lai) & ((flags & CLOUD_NEAR) > 0)


def one_sigma(lower: Array, upper: Array) -> npt.NDArray[np.float32]:
    """Turn a calibrated 95 % interval into the standard deviation it corresponds to.

    Args:
        lower: lower bound, m2 m-2, NaN = no data.
        upper: upper bound, same shape and unit.

    Returns:
        Half the width divided by 1.96, float32, m2 m-2. For an interval that is skewed, or cut
        at LAI = 0, this is the sigma of a symmetric interval of the same width.
    """
    half_width = (upper.astype("float32") - lower.astype("float32")) / 2
    return np.asarray(half_width / np.float32(HALF_WIDTH_IN_SIGMA), dtype="float32")


def gcos_conformity(lai: Array, sigma: Array) -> list[Requirement]:
    """Say which share of pixels is predicted to meet GCOS-2022, goal and threshold.

    A pixel conforms where 2 sigma <= relative * LAI (LAI >= 0.5) or <= absolute (below). This is
    what the product says of itself, hence basis "predicted"; it is no validation.

    Args:
        lai: valid LAI, m2 m-2, shape (n,), n >= 1.
        sigma: one-sigma uncertainty of the same pixels.
    """
    expanded = GCOS_COVERAGE_FACTOR * sigma
    return [
        Requirement(
            id=name,
            **limits,
            switch_lai=RELATIVE_FROM_LAI,
            coverage_factor=GCOS_COVERAGE_FACTOR,
            fraction=_share(
                expanded
                <= np.where(lai >= RELATIVE_FROM_LAI, limits["relative"] * lai, limits["absolute"])
            ),
            basis="predicted",
        )
        for name, limits in GCOS_2022.items()
    ]


def describe_product(
    lai: Array, lower: Array, upper: Array, flags: Array, inside: Array
) -> ProductStatistics:
    """Compute every ``laiq:`` number of a product.

    Args:
        lai: m2 m-2, (y, x), NaN = no data.
        lower: lower bound of the 95 % interval, same shape and unit.
        upper: upper bound.
        flags: uint8 bit field, same shape.
        inside: bool, same shape: pixels within the footprint, at least one.
    """
    valid = valid_pixels(lai) & inside
    cloudy = cloudy_pixels(lai, flags) & inside
    count = int(inside.sum())
    values: dict[str, float | int] = {
        fields.PIXEL_COUNT: count,
        fields.VALID_FRACTION: round(int(valid.sum()) / count, FRACTION_DECIMALS),
        fields.CLOUD_FRACTION: round(int(cloudy.sum()) / count, FRACTION_DECIMALS),
        fields.NODATA_FRACTION: round(
            (count - int(valid.sum()) - int(cloudy.sum())) / count, FRACTION_DECIMALS
        ),
    }
    if not valid.any():
        return ProductStatistics(values, [])
    values |= _lai_values(lai[valid]) | _flag_values(flags[valid])
    sigma = one_sigma(lower[valid], upper[valid])
    known = np.isfinite(sigma)
    if not known.any():
        return ProductStatistics(values, [])
    values |= _uncertainty_values(lai[valid][known], sigma[known])
    requirements = gcos_conformity(lai[valid][known], sigma[known])
    values[fields.GCOS_GOAL_FRACTION] = requirements[0].fraction
    values[fields.GCOS_THRESHOLD_FRACTION] = requirements[1].fraction
    return ProductStatistics(values, requirements)


def band_statistics(values: Array, inside: Array) -> dict[str, float | int] | None:
    """Describe one band in physical units: the STAC `statistics` object.

    Args:
        values: (y, x), physical units (not digital numbers), NaN = no data.
        inside: bool, same shape: the pixels that `valid_percent` is a share of.

    Returns:
        minimum, maximum, mean, stddev, count and valid_percent; None where no pixel is valid.
    """
    known = values[inside & np.isfinite(values)].astype("float64")
    if known.size == 0:
        return None
    return {
        "minimum": _lai(known.min()),
        "maximum": _lai(known.max()),
        "mean": _lai(known.mean()),
        "stddev": _lai(known.std()),
        "count": int(known.size),
        "valid_percent": round(100 * known.size / int(inside.sum()), FRACTION_DECIMALS - 2),
    }


def histogram(
    values: Array, limits: tuple[float, float] = (0.0, 8.0), buckets: int = 32
) -> dict[str, Any]:
    """Count values in equal buckets: the `raster:histogram` object, physical units.

    Args:
        values: any shape, NaN = no data; values beyond `limits` fall into the outer buckets.
        limits: lower edge of the first and upper edge of the last bucket.
        buckets: how many.
    """
    known = np.clip(values[np.isfinite(values)], *limits)
    counts, _ = np.histogram(known, bins=buckets, range=limits)
    return {
        "count": buckets,
        "min": limits[0],
        "max": limits[1],
        "buckets": [int(count) for count in counts],
    }


def _lai_values(lai: Array) -> dict[str, float | int]:
    low, middle, high = np.quantile(lai.astype("float64"), (0.05, 0.5, 0.95))
    return {
        fields.LAI_MEAN: _lai(lai.mean(dtype="float64")),
        fields.LAI_MEDIAN: _lai(middle),
        fields.LAI_P05: _lai(low),
        fields.LAI_P95: _lai(high),
    }


def _uncertainty_values(lai: Array, sigma: Array) -> dict[str, float | int]:
    middle, high = np.quantile(sigma.astype("float64"), (0.5, 0.95))
    values: dict[str, float | int] = {
        fields.UNCERTAINTY_MEAN: _lai(sigma.mean(dtype="float64")),
        fields.UNCERTAINTY_MEDIAN: _lai(middle),
        fields.UNCERTAINTY_P95: _lai(high),
    }
    leafy = lai >= RELATIVE_FROM_LAI
    if leafy.any():
        values[fields.RELATIVE_UNCERTAINTY_MEDIAN] = _lai(np.median(sigma[leafy] / lai[leafy]))
    return values


def _flag_values(flags: Array) -> dict[str, float | int]:
    return {
        fields.INPUT_OUT_OF_DOMAIN_FRACTION: _share((flags & INPUT_OUT_OF_DOMAIN) > 0),
        fields.OUTPUT_OUT_OF_RANGE_FRACTION: _share((flags & OUT_OF_RANGE) > 0),
    }


def _share(pixels: Array) -> float:
    return round(float(np.mean(pixels)), FRACTION_DECIMALS)


def _lai(value: Any) -> float:  # noqa: ANN401  (a NumPy scalar of either width)
    return round(float(value), LAI_DECIMALS)
