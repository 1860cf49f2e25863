"""Statistics of the pixels of an LAI product: the numbers behind the ``laiq:`` fields.

LAI and interval in m2 m-2 with NaN = no data, flags as in `lai_udf.predict`. `ProductCounts` takes
blocks, so that a tile needs no more memory than its rows: LAI and its bounds are stored as
integers, so mean, spread and quantiles follow from some 60,000 counts (`ValueCounts`), exactly.
Which pixels count, and the least share of them that has a mean, are those of `lai_udf.zonal`, for
parcels and items alike:

- *inside*: within the outline of everything observed (`lai_stac.product`), so that shares do
  not depend on how much border a raster carries; the denominator of the first four.
- *valid*: usable, so LAI is a number and no flag excludes it.
- *cloud*: no LAI, and the flags mark cloud, shadow or snow; unknown without a scene classification.
- *water*: no LAI although observed and clear, so water by the scene classification.
- *no data*: no LAI for another reason.

What remains has LAI and a flag that excludes it. The shares of flags are over the pixels
with LAI, the shares that meet GCOS over the usable ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from lai_stac import fields
from lai_stac.fields import Requirement
from lai_udf.cog import ENCODINGS
from lai_udf.predict import (
    CLIPPED_TO_MAX,
    CLIPPED_TO_MIN,
    CLOUD_NEAR,
    INPUT_OUT_OF_DOMAIN,
    NO_DATA_NEAR,
    OUTPUT_TOO_HIGH,
    OUTPUT_TOO_LOW,
)
from lai_udf.zonal import MIN_VALID_SHARE, usable_pixels
from lai_udf.zones import SLIVER

Array = npt.NDArray[Any]

OUT_OF_RANGE = CLIPPED_TO_MIN | CLIPPED_TO_MAX | OUTPUT_TOO_LOW | OUTPUT_TOO_HIGH

INTERVAL_LEVEL = 0.95  # level of LAI_LOWER..LAI_UPPER where a result states no other

SIGMA_FIELDS = (
    fields.UNCERTAINTY_MEAN,
    fields.UNCERTAINTY_MEDIAN,
    fields.UNCERTAINTY_P95,
    fields.RELATIVE_UNCERTAINTY_MEDIAN,
    fields.GCOS_GOAL_FRACTION,
    fields.GCOS_THRESHOLD_FRACTION,
)
"""Fields that follow from the width of the interval and its level."""

QUANTILES = (0.05, 0.5, 0.95)
LAI_DECIMALS = 6
FRACTION_DECIMALS = 6
RELATIVE_STEP = 0.0001  # to which relative uncertainties are counted
RELATIVE_FROM_LAI = 0.5
"""m2 m-2; below it a relative uncertainty means nothing (the switch of GCOS-2022)."""

# GCOS-244 (2022), ECV leaf area index: required measurement uncertainty, two sigma.
GCOS_2022 = {
    "GCOS-2022-goal": {"relative": 0.10, "absolute": 0.05},
    "GCOS-2022-threshold": {"relative": 0.20, "absolute": 0.10},
}
GCOS_COVERAGE_FACTOR = 2.0


def half_width_in_sigma(level: float) -> float:
    """Return the half-width of a central normal interval, in standard deviations: 1.96 for 0.95.

    An interval that is skewed, or cut at LAI = 0, counts as a symmetric one of the same width.
    """
    return round(NormalDist().inv_cdf((1 + level) / 2), 6)


_LOWEST, _SIZE = -(2**15), 2**17  # differences of two int16 too


class ValueCounts:
    """Counts of values that are whole multiples of a step.

    Args:
        step: distance of neighbouring values, in their unit.
    """

    def __init__(self, step: float) -> None:
        self._step = step
        self._counts = np.zeros(_SIZE, np.int64)

    def add(self, values: Array) -> None:
        """Count finite values, any shape; others are rounded to the nearest multiple."""
        place = np.rint(values.ravel() / self._step).astype(np.int64) - _LOWEST
        self._counts += np.bincount(np.clip(place, 0, _SIZE - 1), minlength=_SIZE)

    @property
    def total(self) -> int:
        """Number of values."""
        return int(self._counts.sum())

    @property
    def mean(self) -> float:
        """Mean; NaN where there is no value."""
        values, counts = self._occurring()
        return float(np.average(values, weights=counts)) if values.size else float("nan")

    @property
    def spread(self) -> float:
        """Standard deviation; NaN where there is no value."""
        values, counts = self._occurring()
        if not values.size:
            return float("nan")
        return float(np.sqrt(np.average((values - self.mean) ** 2, weights=counts)))

    @property
    def ends(self) -> tuple[float, float]:
        """Least and greatest value; at least one is there."""
        values, _ = self._occurring()
        return float(values[0]), float(values[-1])

    def quantile(self, share: float) -> float:
        """Return a quantile, between two values by a line, as `numpy.quantile`; NaN of nothing."""
        values, counts = self._occurring()
        if not values.size:
            return float("nan")
        last = np.cumsum(counts)
        place = share * (last[-1] - 1)
        low, high = (values[np.searchsorted(last, at, side="right")] for at in _around(place))
        return float(low + (high - low) * (place - np.floor(place)))

    def histogram(self, limits: tuple[float, float], buckets: int) -> list[int]:
        """Count values in equal buckets; those beyond the limits fall into the outer ones."""
        values, counts = self._occurring()
        found, _ = np.histogram(np.clip(values, *limits), buckets, limits, weights=counts)
        return [int(count) for count in found]

    def _occurring(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        place = np.flatnonzero(self._counts)
        values = (place + _LOWEST).astype(np.float64) * self._step
        return values, self._counts[place].astype(np.int64)


def _around(place: float) -> tuple[int, int]:
    return int(np.floor(place)), int(np.ceil(place))


@dataclass(frozen=True)
class ProductStatistics:
    """Statistics of an item."""

    values: dict[str, float | int | None]
    """Flat ``laiq:`` fields. Those of LAI are absent where too little is usable; None: unknown."""

    requirements: list[Requirement]
    """Predicted conformity with GCOS-2022, empty where no pixel is valid."""

    def without(self, names: Sequence[str]) -> ProductStatistics:
        """Return the statistics without some fields."""
        kept = {name: value for name, value in self.values.items() if name not in names}
        return ProductStatistics(kept, self.requirements)


def observed_pixels(lai: Array, flags: Array) -> npt.NDArray[np.bool_]:
    """Return where the satellite saw something, (y, x): LAI, cloud or water, but not no data."""
    seen = np.isfinite(lai) | ((flags & CLOUD_NEAR) > 0) | ((flags & NO_DATA_NEAR) == 0)
    return np.asarray(seen, dtype=bool)


def _conforms(lai: Array, sigma: Array, relative: float, absolute: float) -> Array:
    """Return which pixels meet a requirement by the uncertainty that the product states, (n,)."""
    limit = np.where(lai >= RELATIVE_FROM_LAI, relative * lai, absolute)
    return np.asarray(GCOS_COVERAGE_FACTOR * sigma <= limit)


def _requirement(name: str, share: float) -> Requirement:
    return Requirement(
        id=name,
        **GCOS_2022[name],
        switch_lai=RELATIVE_FROM_LAI,
        coverage_factor=GCOS_COVERAGE_FACTOR,
        fraction=round(share, FRACTION_DECIMALS),
        basis="predicted",
    )


class ProductCounts:
    """What is counted of a product, block by block.

    Args:
        bands: its output bands.
        level: of the interval from LAI_LOWER to LAI_UPPER, 0 to 1.
    """

    def __init__(self, bands: Sequence[str], level: float = INTERVAL_LEVEL) -> None:
        self._sigma_per_width = 1 / (2 * half_width_in_sigma(level))
        self._values = {
            band: ValueCounts(ENCODINGS[band].scale)
            for band in bands
            if not band.endswith("_FLAGS")
        }
        self._width = ValueCounts(ENCODINGS["LAI"].scale)
        self._pixels: Counter[str] = Counter()
        self._conform: Counter[str] = Counter()
        self._relative = ValueCounts(RELATIVE_STEP)
        self.filled: set[str] = set()
        """Bands with a value anywhere."""

    def add(self, layers: Mapping[str, Array], inside: Array) -> None:
        """Count a block.

        Args:
            layers: by output band, (y, x); LAI and bounds in m2 m-2 with NaN = no data, LAI_FLAGS.
            inside: bool, same shape: pixels within the footprint.
        """
        lai, flags = layers["LAI"], layers["LAI_FLAGS"].astype("uint8")
        usable = usable_pixels(lai, flags) & inside
        self._count_pixels(lai, flags, inside, usable)
        for band, counts in self._values.items():
            known = np.isfinite(layers[band])
            if known.any():
                self.filled.add(band)
                counts.add(layers[band][known & usable])
        if "LAI_LOWER" in layers and "LAI_UPPER" in layers:
            self._count_uncertainty(lai, layers["LAI_UPPER"] - layers["LAI_LOWER"], usable)

    def _count_pixels(self, lai: Array, flags: Array, inside: Array, usable: Array) -> None:
        gone = ~np.isfinite(lai) & inside
        cloud = gone & ((flags & CLOUD_NEAR) > 0)
        water = gone & ((flags & (CLOUD_NEAR | NO_DATA_NEAR)) == 0)
        seen = flags[np.isfinite(lai) & inside]
        found = {
            "inside": inside,
            "usable": usable,
            "gone": gone,
            "cloud": cloud,
            "water": water,
            "domain": (seen & INPUT_OUT_OF_DOMAIN) > 0,
            "range": (seen & OUT_OF_RANGE) > 0,
        }
        self._pixels.update({name: int(pixels.sum()) for name, pixels in found.items()})
        self._pixels["seen"] += seen.size

    def _count_uncertainty(self, lai: Array, width: Array, usable: Array) -> None:
        known = usable & np.isfinite(width)
        lai, width = lai[known], width[known]
        sigma = (width * self._sigma_per_width).astype("float32")
        self._width.add(width)
        self._conform.update(
            {name: int(_conforms(lai, sigma, **limits).sum()) for name, limits in GCOS_2022.items()}
        )
        leafy = lai >= RELATIVE_FROM_LAI
        self._relative.add(sigma[leafy] / lai[leafy])

    def describe(self, *, cloud_known: bool = True) -> ProductStatistics:
        """Return every ``laiq:`` number; at least one pixel lies inside.

        Args:
            cloud_known: whether a scene classification went in; else cloud and water are unknown.
        """
        pixels = self._pixels
        inside, seen = pixels["inside"], pixels["seen"]
        nodata = pixels["gone"] - pixels["cloud"] - pixels["water"]
        values: dict[str, float | int | None] = {
            fields.PIXEL_COUNT: inside,
            fields.VALID_FRACTION: _ratio(pixels["usable"], inside),
            fields.CLOUD_FRACTION: _ratio(pixels["cloud"], inside) if cloud_known else None,
            fields.WATER_FRACTION: _ratio(pixels["water"], inside),
            fields.NODATA_FRACTION: _ratio(nodata, inside),
        }
        if not cloud_known:
            del values[fields.WATER_FRACTION]
        if seen:
            values[fields.INPUT_OUT_OF_DOMAIN_FRACTION] = _ratio(pixels["domain"], seen)
            values[fields.OUTPUT_OUT_OF_RANGE_FRACTION] = _ratio(pixels["range"], seen)
        enough = pixels["usable"] >= (MIN_VALID_SHARE - SLIVER) * inside and pixels["usable"] > 0
        if not enough:
            return ProductStatistics(values, [])
        values |= self._lai_values()
        if not self._width.total:
            return ProductStatistics(values, [])
        requirements = [
            _requirement(name, self._conform[name] / self._width.total) for name in GCOS_2022
        ]
        values |= self._uncertainty_values()
        values[fields.GCOS_GOAL_FRACTION] = requirements[0].fraction
        values[fields.GCOS_THRESHOLD_FRACTION] = requirements[1].fraction
        return ProductStatistics(values, requirements)

    def _lai_values(self) -> dict[str, float]:
        lai = self._values["LAI"]
        low, middle, high = (lai.quantile(share) for share in QUANTILES)
        return {
            fields.LAI_MEAN: _lai(lai.mean),
            fields.LAI_MEDIAN: _lai(middle),
            fields.LAI_P05: _lai(low),
            fields.LAI_P95: _lai(high),
        }

    def _uncertainty_values(self) -> dict[str, float]:
        per_width = self._sigma_per_width
        values = {
            fields.UNCERTAINTY_MEAN: _lai(self._width.mean * per_width),
            fields.UNCERTAINTY_MEDIAN: _lai(self._width.quantile(0.5) * per_width),
            fields.UNCERTAINTY_P95: _lai(self._width.quantile(0.95) * per_width),
        }
        if self._relative.total:
            values[fields.RELATIVE_UNCERTAINTY_MEDIAN] = _lai(self._relative.quantile(0.5))
        return values

    def band_statistics(self, band: str) -> dict[str, float | int] | None:
        """Return the STAC `statistics` of the usable pixels of a band; None of nothing."""
        counts = self._values[band]
        if not counts.total:
            return None
        low, high = counts.ends
        share = counts.total / self._pixels["inside"]
        return {
            "minimum": _lai(low),
            "maximum": _lai(high),
            "mean": _lai(counts.mean),
            "stddev": _lai(counts.spread),
            "count": counts.total,
            "valid_percent": round(100 * share, FRACTION_DECIMALS - 2),
        }

    def histogram(
        self, limits: tuple[float, float] = (0.0, 8.0), buckets: int = 32
    ) -> dict[str, Any]:
        """Return usable LAI in equal buckets, the outer ones with what lies beyond the limits."""
        counted = self._values["LAI"].histogram(limits, buckets)
        return {"count": buckets, "min": limits[0], "max": limits[1], "buckets": counted}


def _ratio(part: int, whole: int) -> float:
    return round(part / whole, FRACTION_DECIMALS)


def _lai(value: Any) -> float:  # noqa: ANN401  (a NumPy scalar of either width)
    return round(float(value), LAI_DECIMALS)
