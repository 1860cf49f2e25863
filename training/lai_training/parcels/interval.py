"""How far the LAI of a parcel may be from its mean over pixels.

A parcel's mean errs by what its pixels have in common (leaf angles, soil, haze: all of them off to
the same side) and by what they have not (noise). With a correlation rho between the errors of any
two pixels of a parcel, and weights that amount to n pixels, the error of the mean is

    sd(mean) = sd(pixel) * sqrt(rho + (1 - rho) / n)

Two intervals follow:

* `lai_udf.calibration.interval_of_mean`, the default: the same with the shared part of the error
  that the bundle was measured to have on field data, one independent point for some pixels.
* `shrink`: the pixels' own intervals, averaged and shrunk by that factor, for a rho of one's own.
  rho = 1 shrinks nothing.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lai_training.errors import ParcelsError
from lai_udf.calibration import interval_of_mean

Floats = NDArray[np.float64]


def shrink(observations: pd.DataFrame, correlation: float) -> tuple[Floats, Floats]:
    """Return (lower, upper) of parcel means from their pixels' mean interval ends.

    Args:
        observations: columns `lai`, `lower`, `upper`, `n_effective`.
        correlation: rho, 0-1, see the module.
    """
    n = np.maximum(observations["n_effective"].to_numpy(np.float64), 1.0)
    factor = np.sqrt(correlation + (1 - correlation) / n)
    lai, lower, upper = (observations[name].to_numpy() for name in ("lai", "lower", "upper"))
    return np.maximum(lai - factor * (lai - lower), 0.0), lai + factor * (upper - lai)


def add_interval(
    observations: pd.DataFrame,
    correlation: float | None = None,
    *,
    shared: float | None = None,
) -> pd.DataFrame:
    """Return the observations with `parcel_lower` and `parcel_upper`, m2 m-2.

    `correlation` is the rho of `shrink` and goes before `shared`, the part of the error variance
    that all pixels of a parcel have in common (`lai_udf.calibration.shared_error`; None: all of
    it). Raises `ParcelsError` where the items hold no intervals.
    """
    if not {"lower", "upper"} <= set(observations.columns):
        raise ParcelsError("the items hold no lai_lower.tif and lai_upper.tif")
    if correlation is not None or shared is None:
        lower, upper = shrink(observations, 1.0 if correlation is None else correlation)
    else:
        columns = ("lai", "lower", "upper", "area_px")
        lai, low, high, pixels = (observations[name].to_numpy(np.float64) for name in columns)
        lower, upper = interval_of_mean(lai, low, high, pixels, shared)
    return observations.assign(parcel_lower=lower, parcel_upper=upper)
