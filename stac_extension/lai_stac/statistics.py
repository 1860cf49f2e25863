"""What the pixels of an LAI product say: the numbers behind the ``laiq:`` fields.

Pure functions on arrays (y, x): LAI and interval in m2 m-2 with NaN = no data, flags as in
`lai_udf.predict`. Nothing is read and nothing is remembered. Which pixels count, and the least
share of them that has a mean, are those of `lai_udf.zonal`, for parcels and items alike:

- *inside*: within the outline of everything observed (`lai_stac.footprint`), so that shares do
  not depend on how much border a raster carries; the denominator of the first four.
- *valid*: usable, so LAI is a number and no flag speaks against it.
- *cloud*: no LAI, and the flags say cloud, shadow or snow; unknown without a scene classification.
- *water*: no LAI although observed and clear, so water by the scene classification.
- *no data*: no LAI for another reason.

What remains has LAI and a flag that speaks against it. The shares of flags are over the pixels
with LAI, the shares that meet GCOS over the usable ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lai_stac import fields
from lai_stac.objects import Requirement
from lai_udf.predict import (
    CLIPPED_TO_MAX,
    CLIPPED_TO_MIN,
    CLOUD_NEAR,
    INPUT_OUT_OF_DOMAIN,
    NO_DATA_NEAR,
    OUTPUT_TOO_HIGH,
    OUTPUT_TOO_LOW,
)
from lai_udf.zonal import ZonalStatistics, describe_raster, usable_pixels

Array = npt.NDArray[Any]

OUT_OF_RANGE = CLIPPED_TO_MIN | CLIPPED_TO_MAX | OUTPUT_TOO_LOW | OUTPUT_TOO_HIGH

INTERVAL_LEVEL = 0.95
"""Level of LAI_LOWER..LAI_UPPER, a contract of the output bands."""

HALF_WIDTH_IN_SIGMA = 1.959964
"""Half-width of a central 95 % interval of a normal distribution, in standard deviations."""

QUANTILES = (0.05, 0.5, 0.95)
LAI_DECIMALS = 6
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

    values: dict[str, float | int | None]
    """Flat ``laiq:`` fields. Those of LAI are absent where too little is usable; None: unknown."""

    requirements: list[Requirement]
    """Predicted conformity with GCOS-2022, empty where no pixel is valid."""


def observed_pixels(lai: Array, flags: Array) -> npt.NDArray[np.bool_]:
    """Return where the satellite saw something, (y, x): LAI, cloud or water, but not no data."""
    seen = np.isfinite(lai) | ((flags & CLOUD_NEAR) > 0) | ((flags & NO_DATA_NEAR) == 0)
    return np.asarray(seen, dtype=bool)


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
    lai: Array,
    lower: Array | None,
    upper: Array | None,
    flags: Array,
    inside: Array,
    *,
    cloud_known: bool = True,
) -> ProductStatistics:
    """Compute every ``laiq:`` number of a product.

    Args:
        lai: m2 m-2, (y, x), NaN = no data.
        lower: lower bound of the 95 % interval, same shape and unit; None where there is none.
        upper: upper bound.
        flags: uint8 bit field, same shape.
        inside: bool, same shape: pixels within the footprint, at least one.
        cloud_known: whether a scene classification went in; else cloud and water are unknown.
    """
    layers = {"lai": lai}
    if lower is not None and upper is not None:
        layers["sigma"] = one_sigma(lower, upper)
    found = describe_raster(layers, flags, inside, quantiles=QUANTILES)
    values: dict[str, float | int | None] = {
        fields.PIXEL_COUNT: int(inside.sum()),
        fields.VALID_FRACTION: round(float(found.valid_share[0]), FRACTION_DECIMALS),
        **_observation_shares(lai, flags, inside, cloud_known),
        **_flag_shares(lai, flags, inside),
        **_lai_values(found),
    }
    usable = usable_pixels(lai, flags) & inside
    if "sigma" not in layers or np.isnan(found.mean["sigma"][0]):
        return ProductStatistics(values, [])
    usable &= np.isfinite(layers["sigma"])
    seen, sigma = lai[usable], layers["sigma"][usable]
    values |= _uncertainty_values(found, seen, sigma)
    requirements = gcos_conformity(seen, sigma)
    values[fields.GCOS_GOAL_FRACTION] = requirements[0].fraction
    values[fields.GCOS_THRESHOLD_FRACTION] = requirements[1].fraction
    return ProductStatistics(values, requirements)


def band_statistics(values: Array, inside: Array) -> dict[str, float | int] | None:
    """Describe one band in physical units: the STAC `statistics` object.

    Args:
        values: (y, x), physical units (not digital numbers), NaN = no data or not usable.
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


def _observation_shares(
    lai: Array, flags: Array, inside: Array, cloud_known: bool
) -> dict[str, float | int | None]:
    """Return the shares of cloud, water and no data, of the pixels inside."""
    gone = ~np.isfinite(lai) & inside
    cloud = gone & ((flags & CLOUD_NEAR) > 0)
    water = gone & ((flags & (CLOUD_NEAR | NO_DATA_NEAR)) == 0)
    nodata = gone & ~cloud & ~water
    counts = {
        fields.CLOUD_FRACTION: cloud,
        fields.WATER_FRACTION: water,
        fields.NODATA_FRACTION: nodata,
    }
    shares: dict[str, float | int | None] = {
        name: _share(pixels[inside]) for name, pixels in counts.items()
    }
    if not cloud_known:
        shares[fields.CLOUD_FRACTION] = None
        del shares[fields.WATER_FRACTION]
    return shares


def _flag_shares(lai: Array, flags: Array, inside: Array) -> dict[str, float]:
    """Return the shares of flags, of the pixels with LAI; nothing where there is none."""
    seen = flags[np.isfinite(lai) & inside]
    if not seen.size:
        return {}
    return {
        fields.INPUT_OUT_OF_DOMAIN_FRACTION: _share((seen & INPUT_OUT_OF_DOMAIN) > 0),
        fields.OUTPUT_OUT_OF_RANGE_FRACTION: _share((seen & OUT_OF_RANGE) > 0),
    }


def _lai_values(found: ZonalStatistics) -> dict[str, float]:
    if np.isnan(found.mean["lai"][0]):
        return {}
    low, middle, high = found.quantiles["lai"][0]
    return {
        fields.LAI_MEAN: _lai(found.mean["lai"][0]),
        fields.LAI_MEDIAN: _lai(middle),
        fields.LAI_P05: _lai(low),
        fields.LAI_P95: _lai(high),
    }


def _uncertainty_values(found: ZonalStatistics, lai: Array, sigma: Array) -> dict[str, float]:
    _, middle, high = found.quantiles["sigma"][0]
    values = {
        fields.UNCERTAINTY_MEAN: _lai(found.mean["sigma"][0]),
        fields.UNCERTAINTY_MEDIAN: _lai(middle),
        fields.UNCERTAINTY_P95: _lai(high),
    }
    leafy = lai >= RELATIVE_FROM_LAI
    if leafy.any():
        values[fields.RELATIVE_UNCERTAINTY_MEDIAN] = _lai(np.median(sigma[leafy] / lai[leafy]))
    return values


def _share(pixels: Array) -> float:
    return round(float(np.mean(pixels)), FRACTION_DECIMALS)


def _lai(value: Any) -> float:  # noqa: ANN401  (a NumPy scalar of either width)
    return round(float(value), LAI_DECIMALS)
