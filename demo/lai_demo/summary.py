"""What came out, in numbers: LAI, its interval, and how far it is from SL2P on the same pixels."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from lai_training import sl2p
from lai_training.scores.emulation import find_clear_vegetation
from lai_training.scores.metrics import Scores, score
from lai_udf.predict import INPUT_OUT_OF_DOMAIN


@dataclass(frozen=True)
class Agreement:
    """The network against SL2P (set 2_1) over clear vegetated pixels of one scene."""

    scores: Scores
    """Scores with SL2P as the reference."""
    with_angles: bool
    """Whether both were given the angles of the scene; else both had the nominal ones."""


def compare(scene: xr.DataArray, lai: xr.DataArray) -> Agreement:
    """Score LAI against SL2P of the same scene; NaN where there is no clear vegetation."""
    labels = {str(label) for label in scene["bands"].values}
    reference, _ = sl2p.predict_image(scene)
    pixels = find_clear_vegetation(scene)
    estimate = lai.sel(bands="LAI").values
    pixels &= np.isfinite(estimate)
    return Agreement(score(reference[pixels], estimate[pixels]), "sunZenithAngles" in labels)


def format_summary(
    lai: xr.DataArray, agreement: Agreement, files: list[Path], addresses: dict[str, str]
) -> str:
    """Return the last words of the demo, plain text."""
    values = {str(band): lai.sel(bands=band).values for band in lai["bands"].values}
    valid = np.isfinite(values["LAI"])
    median, low, high = np.nanpercentile(values["LAI"], [50, 5, 95])
    width = np.nanmean(values["LAI_UPPER"] - values["LAI_LOWER"])
    strange = values["LAI_FLAGS"][valid].astype("uint8") & INPUT_OUT_OF_DOMAIN > 0
    lines = [
        "",
        f"LAI            median {median:.2f}, 5-95 % {low:.2f} to {high:.2f} m2 m-2",
        f"uncertainty    mean spread {np.nanmean(values['LAI_SD']):.3f}, "
        f"mean 95 % interval {width:.2f} m2 m-2 wide",
        f"pixels         {valid.mean():.1%} valid of {valid.size}, of these {strange.mean():.1%} "
        "out of SL2P's domain",
        *_format_agreement(agreement),
        "",
        *[f"{_name(path):<14} {path}" for path in sorted(files, key=_rank)],
        "",
        *[f"{name:<14} {address}" for name, address in addresses.items()],
    ]
    return "\n".join(lines)


def _format_agreement(agreement: Agreement) -> list[str]:
    scores = agreement.scores
    if scores.n == 0:
        return ["against SL2P   no clear vegetated pixel to compare"]
    angles = "angles of the scene" if agreement.with_angles else "nominal angles"
    return [
        f"against SL2P   r {scores.correlation:.4f}, mean |difference| {scores.distance:.3f}, "
        f"R2 {scores.r_squared:.4f}",
        f"               over {scores.n} clear vegetated pixels, {angles}",
    ]


def _name(path: Path) -> str:
    return "STAC item" if path.stem == path.parent.name else path.stem


def _rank(path: Path) -> tuple[int, str]:
    """Return what puts the item first, then pictures, then rasters."""
    return (".json", ".png", ".tif").index(path.suffix), path.name
