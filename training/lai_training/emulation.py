"""How well a bundle emulates SL2P on real scenes, and what it says of field spectra.

Comes in: a bundle (any network) and scenes or field pairs. Goes out: scores and predictions. The
bundle is run by the UDF's own code, so what is scored is what ships.
"""

import logging
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from lai_training import sl2p
from lai_training.calibrate import CORRECTION_BANDS, Pairs
from lai_training.metrics import score
from lai_udf.errors import ProductError
from lai_udf.predict import (
    BANDS,
    FEATURES,
    HALO_PX,
    Inputs,
    LaiInputError,
    apply_datacube,
    build_features,
    load_model,
)
from lai_udf.products import read_scene

logger = logging.getLogger("lai_training")

UNIFORM_PX = 32
"""Side of the uniform patch that stands for a single measured spectrum; twice the reach fits."""


def find_clear_vegetation(scene: xr.DataArray) -> NDArray[np.bool_]:
    """Return (y, x) bool: pixels on which emulation is scored.

    All bands above 0 and below 0.8, B02 < 0.2, NDVI > 0.3; a border of 16 px is left out.
    """
    reflectance = scene.sel(bands=list(BANDS)).values
    blue, red, infrared = (reflectance[BANDS.index(band)] for band in ("B02", "B04", "B08"))
    clear: NDArray[np.bool_] = (
        np.isfinite(reflectance).all(axis=0)
        & (reflectance > 0).all(axis=0)
        & (reflectance < 0.8).all(axis=0)
        & (blue < 0.2)
        & (infrared - red > 0.3 * (infrared + red))
    )
    inner = np.zeros_like(clear)
    inner[HALO_PX:-HALO_PX, HALO_PX:-HALO_PX] = True
    return clear & inner


def compare_with_sl2p(
    scene: xr.DataArray, bundle: Path, *, noise: float = 0.0, seed: int = 0
) -> dict[str, NDArray[np.floating[Any]]]:
    """Run SL2P and a bundle on the same pixels, at nominal angles.

    Args:
        scene: (bands, y, x) reflectance; angle bands are dropped.
        bundle: model bundle.
        noise: level of band noise added first; 1 = 3 % + 0.005, independent per band and pixel.
        seed: of the noise.

    Returns:
        `sl2p` of the noise-free scene, `sl2p_noisy` and `network` of the noisy one; (n,) each,
        over the clear vegetated pixels.
    """
    kept = [band for band in scene["bands"].values if band in (*BANDS, "SCL")]
    clean = scene.sel(bands=kept)
    noisy = clean.copy()
    rng = np.random.default_rng(seed)
    for band in BANDS:
        values = clean.sel(bands=band).values
        sd = noise * (0.03 * np.abs(values) + 0.005)
        noisy.loc[{"bands": band}] = values + sd * rng.standard_normal(values.shape)
    pixels = find_clear_vegetation(clean)
    network = apply_datacube(noisy, {"model": str(bundle), "bands": ["LAI"]}).values[0]
    return {
        "sl2p": sl2p.predict_image(clean)[0][pixels],
        "sl2p_noisy": sl2p.predict_image(noisy)[0][pixels],
        "network": network[pixels],
    }


def score_scenes(paths: Iterable[Path], bundle: Path, *, noise: float = 0.0) -> dict[str, Any]:
    """Score a bundle against SL2P over many scenes; a scene that cannot be read is skipped.

    Returns:
        Scores of `lai_training.metrics.score` and, with noise, `rmse_sl2p` and `rmse_ratio`:
        RMSE against the SL2P of the noise-free scene, of SL2P itself and relative to it.
    """
    parts, skipped = [], []
    for number, path in enumerate(sorted(paths)):
        try:
            parts.append(compare_with_sl2p(read_scene(path), bundle, noise=noise, seed=number))
        except (ProductError, LaiInputError) as error:
            logger.warning("%s skipped: %s", path.name, error)
            skipped.append(path.name)
    columns = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    scores = asdict(score(columns["sl2p"], columns["network"]))
    if noise:
        rmse_sl2p = score(columns["sl2p"], columns["sl2p_noisy"]).rmse
        scores |= {"rmse_sl2p": rmse_sl2p, "rmse_ratio": scores["rmse"] / rmse_sl2p}
    rounded = {
        key: round(value, 5) if isinstance(value, float) else value for key, value in scores.items()
    }
    return {**rounded, "scenes": len(parts), "skipped": skipped}


def predict_spectra(
    reflectance: NDArray[np.float64], cosines: NDArray[np.float64], bundle: Path
) -> NDArray[np.float64]:
    """Return the bundle's LAI, (n,), of uniform patches of single spectra.

    Args:
        reflectance: (n, 10).
        cosines: (n, 3): view zenith, sun zenith, relative azimuth.
        bundle: model bundle.
    """
    model = load_model(str(bundle))
    side = (UNIFORM_PX, UNIFORM_PX)
    features = np.empty((len(reflectance), len(FEATURES), *side), dtype="float32")
    nothing = np.zeros(side, dtype=bool)
    for row, (spectrum, angles) in enumerate(zip(reflectance, cosines, strict=True)):
        patch = np.broadcast_to(spectrum[:, None, None], (len(BANDS), *side)).astype("float32")
        inputs = Inputs(patch, angles[:, None, None].astype("float32"), nothing, nothing)
        features[row] = build_features(inputs, model.contract)
    masks = np.ones((1, model.contract["masks"]["count"]), dtype="float32")
    lai = model.session.run(["lai"], {"features": features, "masks": masks})[0]
    centre = lai[:, 0, UNIFORM_PX // 2, UNIFORM_PX // 2].astype("float64")
    return np.where((centre < 0) & (centre > -0.2), 0.0, centre)


def pair_with_field(table: pd.DataFrame, bundle: Path) -> Pairs:
    """Run a bundle over field pairs (`lai_training.pairs.read_pairs`), ready to calibrate on."""
    reflectance = table[list(BANDS)].to_numpy("float64")
    degrees = table[["view_zenith", "sun_zenith", "rel_azimuth"]].to_numpy("float64")
    estimated = predict_spectra(reflectance, np.cos(np.deg2rad(degrees)), bundle)
    return Pairs(
        measured_lai=table["lai"].to_numpy("float64"),
        estimated_lai=estimated,
        bands=table[list(CORRECTION_BANDS)].to_numpy("float64"),
        group=pd.factorize(table["site_date"])[0],
    )
