"""How far the LAI of a parcel may be from its mean over pixels.

A parcel's mean errs by what its pixels have in common (leaf angles, soil, haze: all of them off to
the same side) and by what they have not (noise). With a correlation rho between the errors of any
two pixels of a parcel, and weights that amount to n pixels, the error of the mean is

    sd(mean) = sd(pixel) * sqrt(rho + (1 - rho) / n)

Three intervals follow:

* `lai_udf.calibration.interval_of_mean`, the default: the same with the shared part of the error
  that the bundle was measured to have on field data, one independent point for some pixels.
* `shrink`: the pixels' own intervals, averaged and shrunk by that factor, for a rho of one's own.
  rho = 1 shrinks nothing.
* `ParcelCalibration`: conformal at the level of the parcel, from parcels with known LAI. It needs
  no rho, and holds for parcels like those it was fitted on.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lai_training.errors import LaiTrainingError
from lai_training.reporting import write_files
from lai_udf.calibration import interval_of_mean

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ParcelCalibration:
    """Offsets of the 95 % interval of a parcel mean, tabulated over LAI."""

    level: float
    """Nominal coverage."""
    lai: list[float]
    """Knots, m2 m-2."""
    lower: list[float]
    """Offset of the lower end at each knot, not above 0, m2 m-2."""
    upper: list[float]
    """Offset of the upper end at each knot, not below 0, m2 m-2."""
    parcels: int
    """Parcels it was fitted on."""
    data: str
    """Where their LAI is known from."""

    def interval(self, lai: Floats) -> tuple[Floats, Floats]:
        """Return (lower, upper) for parcel means (n,), m2 m-2; NaN where LAI is NaN."""
        lower, upper = (np.interp(lai, self.lai, offsets) for offsets in (self.lower, self.upper))
        return np.maximum(lai + lower, 0.0), lai + upper

    def write(self, path: Path) -> Path:
        """Write it as JSON, whole or not at all."""
        write_files(path.parent, {}, {path.name: json.dumps(asdict(self), indent=1) + "\n"})
        return path


def read_calibration(path: Path) -> ParcelCalibration:
    """Read a calibration.

    Raises:
        LaiTrainingError: it cannot be read or is no such table.
    """
    try:
        return ParcelCalibration(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise LaiTrainingError(f"{path} is no parcel calibration: {error}") from error


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
    calibration: ParcelCalibration | None = None,
    *,
    shared: float | None = None,
) -> pd.DataFrame:
    """Return the observations with `parcel_lower` and `parcel_upper`, m2 m-2.

    `correlation` is the rho of `shrink` and goes before `shared`, the part of the error variance
    that all pixels of a parcel have in common (`lai_udf.calibration.shared_error`; None: all of
    it); the interval of a calibration of parcel means replaces the pixels'. Raises
    `LaiTrainingError` where the items hold no intervals, and there is no calibration.
    """
    if calibration is None and not {"lower", "upper"} <= set(observations.columns):
        raise LaiTrainingError(
            "the items hold no lai_lower.tif and lai_upper.tif: give a parcel calibration"
        )
    if calibration is not None:
        lower, upper = calibration.interval(observations["lai"].to_numpy())
    elif correlation is not None or shared is None:
        lower, upper = shrink(observations, 1.0 if correlation is None else correlation)
    else:
        columns = ("lai", "lower", "upper", "area_px")
        lai, low, high, pixels = (observations[name].to_numpy(np.float64) for name in columns)
        lower, upper = interval_of_mean(lai, low, high, pixels, shared)
    return observations.assign(parcel_lower=lower, parcel_upper=upper)
