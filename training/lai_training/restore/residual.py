"""Suspicion of haze and cloud that the scene classification missed: a rule on one spectrum.

Haze brightens the visible before anything else. What the visible should be follows from B8A and
B11, which haze hardly touches: the rule is a regression of its logarithm over clear vegetation, and
what exceeds it by more than clear pixels do is suspect. Learnt on clear land alone, so that no
simulated haze decides what haze is. Shadow, which darkens all bands alike, is not found.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lai_training.errors import EvaluationError
from lai_training.restore.scenes import Scene
from lai_udf.predict import exceed_visible

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
