"""Edges: does a network smear them? Scores where the contrast of a scene is strongest."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy import ndimage

from lai_training.evaluation.networks import SL2P
from lai_training.evaluation.scores import Pixels
from lai_training.metrics import score

Mask = NDArray[np.bool_]


def find_contrasts(image: xr.DataArray, scored: Mask) -> Mask:
    """Return (y, x) bool: the tenth of the scored pixels with the strongest contrast around.

    Contrast is the standard deviation of B8A within 3x3 px: edges that no map of parcels contains.
    """
    infrared = image.sel(bands="B8A").values.astype("float64")
    mean = ndimage.uniform_filter(infrared, 3)
    contrast = ndimage.uniform_filter(infrared**2, 3) - mean**2
    least = max(np.quantile(contrast[scored], 0.9), 1e-10)  # less is rounding
    found: Mask = contrast > least
    return found


def tabulate_borders(results: Sequence[Pixels]) -> pd.DataFrame:
    """Score at edges (`find_contrasts`) and away from them, against noise-free SL2P.

    Returns:
        Columns kind, case, where (`border`, `inside`), network, n, rmse, ratio (of the RMSE to
        that of SL2P given the same input; NaN where SL2P is the reference itself).
    """
    rows = []
    for kind, case in dict.fromkeys((result.scene.kind, result.case) for result in results):
        members = [r for r in results if r.case is case and r.scene.kind == kind]
        border = np.concatenate(
            [find_contrasts(r.scene.image, r.scene.scored)[r.scene.scored] for r in members]
        )
        reference = np.concatenate([member.reference for member in members])
        for where, chosen in (("border", border), ("inside", ~border)):
            scores = {
                name: score(
                    reference[chosen],
                    np.concatenate([member.estimates[name] for member in members])[chosen],
                )
                for name in members[0].estimates
            }
            base = scores[SL2P].rmse
            for name, own in scores.items():
                row = {"kind": kind, "case": case.key, "where": where, "network": name}
                ratio = own.rmse / base if base > 0 else math.nan
                rows.append({**row, "n": own.n, "rmse": own.rmse, "ratio": ratio})
    return pd.DataFrame(rows)
