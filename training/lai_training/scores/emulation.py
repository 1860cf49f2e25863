"""How well a bundle emulates SL2P on real scenes.

Input: a bundle (any network) and scenes. Output: scores. The
bundle is run by the UDF's own code, so what is scored is what ships.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from lai_training import sl2p
from lai_training.errors import EvaluationError
from lai_training.restore.degradation import add_measured_noise
from lai_training.restore.scenes import is_clear_vegetation, leave_border
from lai_training.scores.metrics import score
from lai_training.simulation.angles import add_missing_angles
from lai_udf.errors import ProductError
from lai_udf.predict import (
    BANDS,
    HALO_PX,
    LaiInputError,
    apply_datacube,
    load_model,
)

logger = logging.getLogger("lai_training")

Doubles = NDArray[np.float64]


def find_clear_vegetation(scene: xr.DataArray) -> NDArray[np.bool_]:
    """Return (y, x) bool: pixels on which emulation is scored.

    All bands above 0 and below 0.8, B02 < 0.2, NDVI > 0.3; a border of 16 px is left out.
    """
    return leave_border(is_clear_vegetation(scene.sel(bands=list(BANDS)).values), HALO_PX)


def drop_angles(scene: xr.DataArray) -> xr.DataArray:
    """Return the bands and the scene classification: what a cube without angles holds."""
    kept = [band for band in scene["bands"].values if band in (*BANDS, "SCL")]
    return scene.sel(bands=kept)


def add_band_noise(scene: xr.DataArray, level: float, seed: int) -> xr.DataArray:
    """Add noise of the size and band correlation that pairs of real dates show.

    Of (bands, y, x), SCL and angles stay; level 1 is as measured, see `restore.degradation`.
    """
    noisy = scene.copy()
    values = scene.sel(bands=list(BANDS)).values.astype("float32")
    rng = np.random.default_rng(seed)
    noisy.loc[{"bands": list(BANDS)}] = add_measured_noise(values, level, rng)
    return noisy


def compare_with_sl2p(
    scene: xr.DataArray, bundle: Path, *, noise: float = 0.0, angles: bool = False, seed: int = 0
) -> dict[str, NDArray[np.floating[Any]]]:
    """Run SL2P and a bundle on the same pixels of (bands, y, x) reflectance, at the same angles.

    Noise of the level (1 = as measured on real dates) is added first; `seed` is that of the noise
    and of drawn angles. With `angles`, both get those of the scene or of `add_missing_angles`; else
    the angle bands are dropped, and both take the nominal ones.

    Returns `sl2p` of the noise-free scene, `sl2p_noisy` and `network` of the noisy one; (n,) each,
    over the clear vegetated pixels.
    """
    clean = add_missing_angles(scene, seed) if angles else drop_angles(scene)
    noisy = add_band_noise(clean, noise, seed)
    pixels = find_clear_vegetation(clean)
    network = apply_datacube(noisy, {"model": str(bundle), "bands": ["LAI"]}).values[0]
    return {
        "sl2p": sl2p.predict_image(clean)[0][pixels],
        "sl2p_noisy": sl2p.predict_image(noisy)[0][pixels],
        "network": network[pixels],
    }


def find_scenes(folder: Path) -> list[Path]:
    """Return the GeoTIFFs of a folder, sorted; raise `EvaluationError` where it has none."""
    paths = sorted(folder.glob("*.tif"))
    if not paths:
        raise EvaluationError(f"{folder} holds no scene: give a folder of GeoTIFFs (.tif)")
    return paths


def score_scenes(
    paths: Sequence[Path],
    bundle: Path,
    *,
    noise: float = 0.0,
    angles: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Score a bundle against SL2P over many scenes; a scene that cannot be read is skipped.

    GeoTIFFs come in the order that gives each its noise; `noise` and `angles` are as in
    `compare_with_sl2p`; `progress` is called with (scenes done, all).

    Returns scores of `lai_training.scores.metrics.score` over all pixels together and, with noise,
    `rmse_sl2p` and `rmse_ratio`: RMSE against the SL2P of the noise-free scene, of SL2P itself and
    relative to it.

    Raises:
        EvaluationError: no scene has a clear vegetated pixel.
        LaiModelError: the bundle cannot be opened.
    """
    from lai_udf.scenes.read import read_scene  # fits do without GDAL

    load_model(str(bundle))
    parts, skipped = [], []
    for number, path in enumerate(paths):
        try:
            scene = read_scene(path)
            parts.append(compare_with_sl2p(scene, bundle, noise=noise, angles=angles, seed=number))
        except (ProductError, LaiInputError) as error:
            logger.warning("%s skipped: %s", path.name, error)
            skipped.append(path.name)
        if progress:
            progress(number + 1, len(paths))
    columns = {
        key: np.concatenate([part[key] for part in parts] or [np.empty(0)])
        for key in ("sl2p", "sl2p_noisy", "network")
    }
    if columns["sl2p"].size == 0:
        raise EvaluationError(
            f"none of {len(paths)} scenes has clear vegetation {HALO_PX} px from its border: give "
            "larger or greener scenes, and check their scale and offset"
        )
    scores = asdict(score(columns["sl2p"], columns["network"]))
    if noise:
        rmse_sl2p = score(columns["sl2p"], columns["sl2p_noisy"]).rmse
        scores |= {"rmse_sl2p": rmse_sl2p, "rmse_ratio": scores["rmse"] / rmse_sl2p}
    rounded = {
        key: round(value, 5) if isinstance(value, float) else value for key, value in scores.items()
    }
    return {**rounded, "scenes": len(parts), "skipped": skipped}
