"""How well a network of several variables emulates SL2P on real scenes, variable by variable.

Comes in: a run of such a network and scenes. Goes out: a table. Keras runs the network here: the
UDF and its bundle know LAI only.
"""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from lai_training import sl2p
from lai_training.errors import EvaluationError, FitError
from lai_training.learn.checkpoints import BEST
from lai_training.learn.normalisation import Floats, Normalisation
from lai_training.learn.run_folder import read_normalisation, spec_of
from lai_training.reporting import format_markdown
from lai_training.scores.emulation import add_band_noise, drop_angles, find_clear_vegetation
from lai_training.scores.metrics import score
from lai_training.sl2p.tables import load_network
from lai_udf.errors import ProductError
from lai_udf.predict import BANDS, NOMINAL_COSINES, build_features, clear_inputs

logger = logging.getLogger("lai_training")

CELL_PX = 16
"""Sides are padded to a multiple of this, so that every pooling divides them."""


def predict_variables(
    model: keras.Model, reflectance: Floats, normalisation: Normalisation
) -> dict[str, Floats]:
    """Run a network over one image at nominal angles.

    Args:
        model: a network of `lai_training.networks`.
        reflectance: (10, y, x), NaN = no data.
        normalisation: constants that it was fitted with.

    Returns:
        Every output by its name, (y, x).
    """
    height, width = reflectance.shape[1:]
    pads = [(0, 0), (0, -height % CELL_PX), (0, -width % CELL_PX)]
    image = np.pad(reflectance.astype("float32"), pads, constant_values=np.nan)
    cosines = np.array(NOMINAL_COSINES, dtype="float32")[:, None, None]
    inputs = clear_inputs(image, cosines)
    features = build_features(inputs, {"normalisation": normalisation.contract()})
    ones = np.ones((1, model.inputs[1].shape[-1]), dtype="float32")
    outputs = model([features.transpose(1, 2, 0)[None], ones], training=False)
    outputs = outputs if isinstance(outputs, list) else [outputs]
    return {
        name: keras.ops.convert_to_numpy(output)[0, :height, :width, 0]
        for name, output in zip(model.output_names, outputs, strict=True)
    }


def score_variables(
    run: Path,
    paths: Sequence[Path],
    *,
    noise: float = 0.0,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Score the best weights of a run against SL2P of the noise-free scenes.

    Args:
        run: folder of a fit.
        paths: scenes (GeoTIFF); one that cannot be read is skipped.
        noise: level of band noise added first; 1 = as measured.
        progress: called with (scenes done, all).

    Returns:
        A row per variable: n, R2, RMSE, mean distance and bias in its unit, and with noise
        `rmse_ratio`, RMSE relative to what SL2P makes of the noisy scene. Clear vegetated pixels.

    Raises:
        FitError: the folder holds no run.
        EvaluationError: no scene has a clear vegetated pixel.
    """
    from lai_udf.scenes.read import read_scene  # fits do without GDAL

    spec, _ = spec_of(run)
    if not (run / BEST).exists():
        raise FitError(f"{run} holds no {BEST}: fit it first")
    model = keras.models.load_model(run / BEST, compile=False)
    normalisation = read_normalisation(run)
    parts: list[pd.DataFrame] = []
    for number, path in enumerate(paths):
        try:
            scene = read_scene(path)
            parts += _compare(scene, model, normalisation, spec.variables, noise, number)
        except ProductError as error:
            logger.warning("%s skipped: %s", path.name, error)
        if progress:
            progress(number + 1, len(paths))
    if not parts or not sum(map(len, parts)):
        raise EvaluationError(f"none of {len(paths)} scenes has clear vegetation to score on")
    table = pd.concat(parts)
    return pd.DataFrame([_score(table, variable) for variable in spec.variables])


def _compare(
    scene: xr.DataArray,
    model: keras.Model,
    normalisation: Normalisation,
    variables: Sequence[str],
    noise: float,
    seed: int,
) -> list[pd.DataFrame]:
    """Return SL2P, SL2P of the noisy scene and the network, a column each, per variable."""
    clean = drop_angles(scene)
    noisy = add_band_noise(clean, noise, seed)
    seen = find_clear_vegetation(clean)
    outputs = predict_variables(model, noisy.sel(bands=list(BANDS)).values, normalisation)
    return [
        pd.DataFrame(
            {
                "variable": variable,
                "sl2p": _run_sl2p(clean, variable)[seen],
                "sl2p_noisy": _run_sl2p(noisy, variable)[seen],
                "network": _clip(outputs[variable.lower()], variable)[seen],
            }
        )
        for variable in variables
    ]


def _run_sl2p(scene: xr.DataArray, variable: str) -> NDArray[np.floating[Any]]:
    return _clip(sl2p.predict_image(scene, variable=variable)[0], variable)


def _clip(values: NDArray[np.floating[Any]], variable: str) -> NDArray[np.floating[Any]]:
    net = load_network(variable, "2_1")
    clipped: NDArray[np.floating[Any]] = np.clip(values, net.minimum, net.maximum)
    return clipped


def _score(table: pd.DataFrame, variable: str) -> dict[str, Any]:
    """Return the row of one variable."""
    own = table[table["variable"] == variable]
    scores = score(own["sl2p"], own["network"])
    row: dict[str, Any] = {
        "variable": variable,
        "unit": load_network(variable, "2_1").unit,
        "n": scores.n,
        "r_squared": scores.r_squared,
        "rmse": scores.rmse,
        "distance": scores.distance,
        "bias": scores.bias,
    }
    baseline = score(own["sl2p"], own["sl2p_noisy"]).rmse
    return {**row, "rmse_ratio": scores.rmse / baseline} if baseline else row


def format_variables(rows: pd.DataFrame) -> str:
    """Lay a table of `score_variables` out in Markdown."""
    titles = {
        "n": "pixels",
        "r_squared": "R2",
        "rmse": "RMSE",
        "distance": "mean distance",
        "rmse_ratio": "RMSE / RMSE of SL2P",
    }
    forms = {"R2": "{:.5f}", "RMSE": "{:.4g}", "mean distance": "{:.4g}", "bias": "{:.4g}"}
    forms["RMSE / RMSE of SL2P"] = "{:.3f}"
    return format_markdown(rows.rename(columns=titles), forms)
