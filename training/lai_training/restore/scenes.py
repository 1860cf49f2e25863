"""Real scenes to learn from and to be scored on: any folder of scenes that the project reads.

In: a folder of GeoTIFFs (chips, tiles) or of products (`.SAFE`), with or without an `index.csv`
that lists which of them are neighbours. Out: `Scene`s, reflectance at 20 m and where SL2P is valid.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from lai_training import sl2p
from lai_training.errors import EvaluationError
from lai_udf.errors import LaiUdfError
from lai_udf.predict import BANDS, exceed_visible

logger = logging.getLogger("lai_training")

Float32 = NDArray[np.float32]
Mask = NDArray[np.bool_]
INDEX = "index.csv"
SMALLEST_PX = 48
"""Of 20 m."""


@dataclass(frozen=True, eq=False)
class Scene:
    """One scene at 20 m."""

    name: str
    """File name."""
    reflectance: Float32
    """(10, y, x), NaN = no data."""
    scored: NDArray[np.bool_]
    """(y, x): clear vegetation on which SL2P is valid by its own flags."""
    place: str
    """Scenes of one place are neighbours and belong into one fold."""


def is_clear_vegetation(reflectance: NDArray[np.floating[Any]]) -> Mask:
    """Return (y, x) bool: all ten bands, (10, y, x), in 0 to 0.8, B02 < 0.2, NDVI > 0.3."""
    blue, red, infrared = (reflectance[BANDS.index(band)] for band in ("B02", "B04", "B08"))
    with np.errstate(invalid="ignore"):
        clear: Mask = (reflectance > 0).all(axis=0) & (reflectance < 0.8).all(axis=0) & (blue < 0.2)
        clear &= infrared - red > 0.3 * (infrared + red)
    return clear


def leave_border(pixels: Mask, width: int) -> Mask:
    """Return (y, x) bool: the pixels that lie farther than `width` from the border."""
    inner = np.zeros_like(pixels)
    inner[width:-width, width:-width] = pixels[width:-width, width:-width]
    return inner


def find_valid_vegetation(reflectance: NDArray[np.floating[Any]]) -> Mask:
    """Return (y, x) bool: clear vegetation where SL2P's LAI has no flag."""
    flags = sl2p.predict_bands(dict(zip(BANDS, reflectance, strict=True)))[1]
    valid: Mask = is_clear_vegetation(reflectance) & (flags == 0)
    return valid


def list_scenes(folder: Path) -> list[Path]:
    """Return the GeoTIFFs and SAFE products of a folder, sorted; `EvaluationError` if none."""
    paths = sorted([*folder.glob("*.tif"), *folder.glob("*.SAFE")])
    if not paths:
        raise EvaluationError(f"{folder} holds no scene: give a folder of GeoTIFFs or products")
    return paths


def read_folder(folder: Path, resolution: int = 20) -> Iterator[tuple[Path, xr.DataArray]]:
    """Yield the scenes of a folder, see `list_scenes`; what cannot be read is skipped, with why."""
    from lai_udf.scenes.read import read_scene  # fits on packed scenes do without GDAL

    for path in list_scenes(folder):
        try:
            yield path, read_scene(path, resolution=resolution)
        except LaiUdfError as error:
            logger.warning("%s skipped: %s", path.name, error)


def read_scenes(folder: Path) -> list[Scene]:
    """Read the scenes of a folder with sides of `SMALLEST_PX` or more.

    `index.csv` with the columns `file` and `loc_group_3km` lists which scenes are neighbours, else
    every scene is a place of its own. Raises `EvaluationError` where no scene can be read.
    """
    places = _read_places(folder)
    scenes = []
    for path, cube in read_folder(folder):
        reflectance = cube.sel(bands=list(BANDS)).values.astype("float32")
        if min(reflectance.shape[1:]) >= SMALLEST_PX:
            scored = find_valid_vegetation(reflectance)
            scenes.append(Scene(path.name, reflectance, scored, places.get(path.name, path.name)))
    if not scenes:
        raise EvaluationError(
            f"{folder} holds no scene of {SMALLEST_PX} px or more: give a folder of GeoTIFFs or "
            "products"
        )
    return scenes


def _read_places(folder: Path) -> dict[str, str]:
    path = folder / INDEX
    if not path.exists():
        return {}
    table = pd.read_csv(path)
    if not {"file", "loc_group_3km"} <= set(table):
        return {}
    return dict(zip(table["file"].astype(str), table["loc_group_3km"].astype(str), strict=True))


CLEAR_LOST = 0.04
"""Share of the clear vegetated pixels that the threshold gives up."""


def fit_residual_cloud(scenes: Sequence[Scene]) -> dict[str, Any]:
    """Return the rule, `flags.residual_cloud` of a bundle, from scenes with clear vegetation."""
    parts = [scene.reflectance[:, scene.scored] for scene in scenes if scene.scored.any()]
    if not parts:
        raise EvaluationError("no scene has clear vegetation: give others")
    pixels = np.concatenate(parts, axis=1)
    rule: dict[str, Any] = {
        "visible": ["B02", "B03", "B04"],
        "bands": ["B8A", "B11"],
        "weights": [0.0, 0.0],
        "constant": 0.0,
        "threshold": 0.0,
    }
    brightness = exceed_visible(pixels[:, None], rule)[0]
    infrared = [
        exceed_visible(pixels[:, None], {**rule, "visible": [band]})[0] for band in rule["bands"]
    ]
    design = np.stack([np.ones_like(brightness), *infrared], axis=1)
    constant, *slopes = np.linalg.lstsq(design, brightness, rcond=None)[0]
    rule |= {"constant": round(float(constant), 4), "weights": [round(float(s), 4) for s in slopes]}
    threshold = np.quantile(exceed_visible(pixels[:, None], rule), 1 - CLEAR_LOST)
    return {**rule, "threshold": round(float(threshold), 4), "clear_lost": CLEAR_LOST}
