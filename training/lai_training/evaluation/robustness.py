"""Robustness: what noise, missing angles, a wrong offset and near clouds do to LAI.

The reference is always SL2P of the noise-free, cloudless scene with its angles. Beside the RMSE
stands the share of true LAI inside the calibrated 95 % interval, for calibrated networks.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy import ndimage

from lai_training.evaluation.networks import TEACHER, Network, predict_sl2p
from lai_training.evaluation.scenes import Scene, simulate_one
from lai_training.evaluation.scores import INTERVAL
from lai_training.scores.emulation import add_band_noise
from lai_training.scores.metrics import coverage, score
from lai_training.simulation.spectral_library import SpectralLibrary
from lai_udf.predict import ANGLES, BANDS, MASKED_SCENE_CLASSES, find_wrong_scaling

Float32 = NDArray[np.float32]
Step = Callable[[], None]

NOISE_LEVELS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0)
OFFSETS = (-0.1, -0.05, -0.02, -0.01, 0.0, 0.01, 0.02, 0.05, 0.1)
"""Added to all bands, unit of reflectance; 0.1 is the offset of baseline 04.00 forgotten."""
WITHHELD: dict[str, tuple[str, ...]] = {
    "none": (),
    "sun zenith": ("sunZenithAngles",),
    "view zenith": ("viewZenithMean",),
    "azimuths": ("sunAzimuthAngles", "viewAzimuthMean"),
    "all": ANGLES,
}
DISTANCES_PX = (1, 2, 3, 4, 6, 8, 12, 16, 24)
"""Upper ends of the bins of distance to the nearest masked pixel; beyond them is one more bin."""
CLOUD_COVER = 0.12


def vary_noise(
    scenes: Sequence[Scene], networks: Sequence[Network], step: Step = lambda: None
) -> pd.DataFrame:
    """Score at several levels of band noise.

    Returns:
        Columns x (level; 1 = as measured), network, n, rmse, bias, coverage.
    """
    rows = []
    for level in NOISE_LEVELS:
        given = [(s, add_band_noise(s.image, level, s.seed)) for s in scenes]
        rows += [{"x": level, **row} for row in _score(given, networks)]
        step()
    return pd.DataFrame(rows)


def withhold_angles(
    scenes: Sequence[Scene], networks: Sequence[Network], step: Step = lambda: None
) -> pd.DataFrame:
    """Score with angle bands withheld, against SL2P with all of them.

    Returns:
        Columns as in `vary_noise`; x names what is withheld.
    """
    rows = []
    for title, bands in WITHHELD.items():
        given = []
        for scene in scenes:
            kept = [band for band in scene.image["bands"].values if band not in bands]
            given.append((scene, scene.image.sel(bands=kept)))
        rows += [{"x": title, **row} for row in _score(given, networks)]
        step()
    return pd.DataFrame(rows)


def shift_offset(
    scenes: Sequence[Scene], networks: Sequence[Network], step: Step = lambda: None
) -> pd.DataFrame:
    """Score with an offset left in the reflectance.

    Returns:
        Columns as in `vary_noise`, and `refused`: share of the scenes that the guard of whole
        scenes refuses; `says`: the first sentence of its refusal, or nothing.
    """
    rows = []
    for offset in OFFSETS:
        given = []
        for scene in scenes:
            image = scene.image.copy()
            image.loc[{"bands": list(BANDS)}] = image.sel(bands=list(BANDS)) + np.float32(offset)
            given.append((scene, image))
        refusals = [_refusal(image) for _, image in given]
        told = [text for text in refusals if text]
        guard = {"refused": len(told) / len(given), "says": told[0] if told else ""}
        scored = _score(given, networks)
        rows += [{"x": offset, **row, **guard} for row in scored]
        step()
    return pd.DataFrame(rows)


def approach_clouds(
    library: SpectralLibrary,
    networks: Sequence[Network],
    *,
    scenes: int,
    size_px: int,
    seed: int,
    step: Step = lambda: None,
) -> pd.DataFrame:
    """Score by distance to the nearest pixel that the scene classification masks.

    Twice: `clouds`, the scene as seen, with thin cloud beyond the mask; and `holes`, the same
    mask over land without clouds, where all that is missing is neighbours.

    Returns:
        Columns view (`clouds`, `holes`), x (upper end of the bin, px; inf: beyond), network, n,
        rmse, bias.
    """
    parts: dict[tuple[str, str], list[Float32]] = {}
    references, distances = [], []
    for number in range(scenes):
        scene, cloudless = simulate_one(
            number, size_px, library, seed=seed + 1, cloud_cover=CLOUD_COVER
        )
        masked = np.isin(scene.image.sel(bands="SCL").values, MASKED_SCENE_CLASSES)
        chosen = scene.scored & ~masked
        # Chessboard distance: the reach of a network is a square.
        distances.append(ndimage.distance_transform_cdt(~masked, "chessboard")[chosen])
        references.append(predict_sl2p(cloudless)[chosen])
        for view, image in (("clouds", scene.image), ("holes", cloudless)):
            for network in (*networks, TEACHER):
                lai = network.predict(image)["LAI"][chosen]
                parts.setdefault((view, network.name), []).append(lai)
        step()
    reference, distance = np.concatenate(references), np.concatenate(distances)
    rows = []
    nearer = 0.0
    for upper in (*DISTANCES_PX, np.inf):
        bin_ = (distance > nearer) & (distance <= upper)
        nearer = upper
        for (view, name), estimates in parts.items():
            found = score(reference[bin_], np.concatenate(estimates)[bin_])
            row = {"view": view, "x": upper, "network": name}
            rows.append({**row, "n": found.n, "rmse": found.rmse, "bias": found.bias})
    return pd.DataFrame(rows)


def _score(
    given: Sequence[tuple[Scene, xr.DataArray]], networks: Sequence[Network]
) -> list[dict[str, Any]]:
    """Score networks and SL2P on images that were tampered with."""
    reference = np.concatenate([predict_sl2p(scene.image)[scene.scored] for scene, _ in given])
    truth = [scene.true_lai[scene.scored] for scene, _ in given if scene.true_lai is not None]
    rows = []
    for network in (*networks, TEACHER):
        parts = [
            [band[scene.scored] for band in network.predict(image, ("LAI", *INTERVAL)).values()]
            for scene, image in given
        ]
        lai, lower, upper = (np.concatenate(values) for values in zip(*parts, strict=True))
        known = network.calibrated and len(truth) == len(given)
        covered = coverage(np.concatenate(truth), lower, upper) if known else np.nan
        found = score(reference, lai)
        row = {"network": network.name, "n": found.n, "rmse": found.rmse, "bias": found.bias}
        rows.append({**row, "coverage": covered})
    return rows


def _refusal(image: xr.DataArray) -> str:
    """Return what the guard of a whole scene says against an image, or nothing."""
    wrong = find_wrong_scaling(image.sel(bands=list(BANDS)).values)
    return str(wrong) if wrong else ""
