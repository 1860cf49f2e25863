"""What a 10 m network is worth on real scenes: Wald's protocol, with what else there is beside it.

Comes in: bundles with a network for 10 m, and real scenes at 20 m. B02 B03 B04 B08 are kept, the
six others averaged to 40 m; wanted is what SL2P says of the untouched scene. Goes out: a table of
errors per method and variable, relative to those of cubically interpolated bands.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy import ndimage

from lai_training import sl2p
from lai_training.errors import EvaluationError
from lai_training.evaluation.networks import Network
from lai_training.restore.degradation import degrade
from lai_training.restore.scenes import Scene
from lai_training.sl2p.tables import VARIABLES, list_networks, load_network
from lai_udf.predict import BANDS, COARSE_ROWS, FINE_ROWS, apply_datacube, split_blocks

Float32 = NDArray[np.float32]
Method = Callable[[Float32], dict[str, NDArray[np.floating[Any]]]]
"""From a degraded image, (10, y, x), to variables by name, (y, x) each."""

CUBIC = "SL2P of cubically interpolated bands"
DETAIL = "SL2P of bands with detail by regression"
SNAP_10M = "SNAP's 10 m network (3_0, three bands)"
CELL_PX, BORDER_PX = 8, 8
"""Scenes are trimmed to multiples of one and scored the other off their border."""
MOST_PX, FEWEST_PX = 3000, 100
"""Scored pixels of a scene; scenes with fewer are left out."""


def interpolate(degraded: Float32) -> Float32:
    """Return (10, y, x) whose 20 m bands are interpolated by cubic splines."""
    image = degraded.copy()
    for row, coarse in zip(COARSE_ROWS, degraded[COARSE_ROWS, ::2, ::2], strict=True):
        image[row] = ndimage.zoom(coarse, 2, order=3, grid_mode=True, mode="nearest")
    return image


def inject_detail(degraded: Float32) -> Float32:
    """Return (10, y, x) whose 20 m bands get the detail of the 10 m bands by regression.

    Of the bands at 40 m on the 10 m bands at 40 m, one regression per scene; what the 10 m bands
    have beyond their own mean then goes into the 20 m bands.
    """
    image = interpolate(degraded)
    fine = split_blocks(degraded[FINE_ROWS], 2).mean(axis=0)
    coarse = degraded[COARSE_ROWS, ::2, ::2]
    known = np.isfinite(fine).all(axis=0) & np.isfinite(coarse).all(axis=0)
    design = np.column_stack([np.ones(int(known.sum())), fine[:, known].T])
    slopes = np.linalg.lstsq(design, coarse[:, known].T, rcond=None)[0][1:]
    smooth = degraded.copy()
    smooth[FINE_ROWS] = np.stack(
        [ndimage.zoom(band, 2, order=3, grid_mode=True, mode="nearest") for band in fine]
    )
    detail = degraded[FINE_ROWS] - smooth[FINE_ROWS]
    image[COARSE_ROWS] += np.tensordot(slopes.T, detail, 1).astype("float32")
    return image


def read_by_sl2p(image: Float32) -> dict[str, NDArray[np.floating[Any]]]:
    """Return what SL2P 2_1 says of (10, y, x) at nominal angles, clipped, by variable."""
    bands = dict(zip(BANDS, image, strict=True))
    return {
        variable: sl2p.predict_bands(bands, variable=variable, network="2_1")[0]
        for variable in VARIABLES
    }


def read_by_snap_10m(image: Float32) -> dict[str, NDArray[np.floating[Any]]]:
    """Return what SNAP's network of three 10 m bands says; LAI, FAPAR and FCOVER exist."""
    bands = dict(zip(BANDS, image, strict=True))
    known = [v for v in VARIABLES if ("3_0", "S2A_10m", v) in list_networks()]
    return {
        variable: sl2p.predict_bands(bands, variable=variable, network="3_0", sensor="S2A_10m")[0]
        for variable in known
    }


def run_at_10m(network: Network) -> Method:
    """Return a bundle's network for 10 m as a method."""

    def predict(degraded: Float32) -> dict[str, NDArray[np.floating[Any]]]:
        cube = xr.DataArray(degraded, dims=("bands", "y", "x"), coords={"bands": list(BANDS)})
        context = {
            "model": str(network.bundle),
            "resolution": 10,
            "variables": list(VARIABLES),
            "bands": list(VARIABLES),
            "reflectance_offset": 0.0,
        }
        return dict(zip(VARIABLES, apply_datacube(cube, context).values, strict=True))

    return predict


def score_wald(
    scenes: Iterable[Scene],
    networks: Sequence[Network],
    *,
    further: Mapping[str, Method] | None = None,
) -> pd.DataFrame:
    """Score methods by Wald's protocol.

    Args:
        scenes: at 20 m, see `restore.scenes.read_scenes`.
        networks: bundles; those without a network for 10 m are left out.
        further: methods by name.

    Returns:
        A row per method and variable: `method`, `variable`, `unit`, `n`, `rmse`, `distance`,
        `bias` and `ratio`, RMSE relative to that of `CUBIC`.

    Raises:
        EvaluationError: no scene has enough clear vegetation.
    """
    methods: dict[str, Method] = {
        CUBIC: lambda image: read_by_sl2p(interpolate(image)),
        DETAIL: lambda image: read_by_sl2p(inject_detail(image)),
        SNAP_10M: read_by_snap_10m,
    }
    methods |= {each.name: run_at_10m(each) for each in networks if "bodies" in each.contract}
    methods |= further or {}
    errors: dict[tuple[str, str], list[NDArray[np.floating[Any]]]] = {}
    for scene in scenes:
        chosen = _choose(scene)
        if chosen is not None:
            image, pixels = chosen
            truth, degraded = read_by_sl2p(image), degrade(image)
            for name, method in methods.items():
                for variable, found in method(degraded).items():
                    error = (found - truth[variable]).ravel()[pixels]
                    errors.setdefault((name, variable), []).append(error)
    if not errors:
        raise EvaluationError(f"no scene has {FEWEST_PX} px of clear vegetation off its border")
    rows: list[dict[str, Any]] = [
        {
            "method": name,
            "variable": variable,
            "unit": load_network(variable, "2_1").unit,
            "n": sum(map(len, parts)),
            "rmse": float(np.sqrt(np.nanmean(np.concatenate(parts) ** 2))),
            "distance": float(np.nanmean(np.abs(np.concatenate(parts)))),
            "bias": float(np.nanmean(np.concatenate(parts))),
        }
        for (name, variable), parts in errors.items()
    ]
    cubic = {row["variable"]: row["rmse"] for row in rows if row["method"] == CUBIC}
    return pd.DataFrame([{**row, "ratio": row["rmse"] / cubic[row["variable"]]} for row in rows])


def _choose(scene: Scene) -> tuple[Float32, NDArray[np.int64]] | None:
    """Return a trimmed image and the flat numbers of its scored pixels, None where too few."""
    height, width = (px // CELL_PX * CELL_PX for px in scene.reflectance.shape[1:])
    image, scored = scene.reflectance[:, :height, :width], scene.scored[:height, :width].copy()
    scored[:BORDER_PX] = scored[-BORDER_PX:] = False
    scored[:, :BORDER_PX] = scored[:, -BORDER_PX:] = False
    if scored.sum() < FEWEST_PX or not np.isfinite(image).all():
        return None
    return image, np.flatnonzero(scored)[:: max(1, int(scored.sum()) // MOST_PX)]
