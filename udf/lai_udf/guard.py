"""Judge the scaling of a scene or series once, from a sample of all its pixels.

The rule itself is `lai_udf.predict.find_wrong_scaling`; here pixels are collected while a scene
streams by, so that nothing is read twice.
"""

import numpy as np
import xarray as xr

from lai_udf.predict import BANDS, LaiInputError, find_wrong_scaling, to_reflectance

SAMPLED_PX = 2**14
"""Pixels that one window or date adds, about; rows and columns are skipped evenly."""


class ScalingSample:
    """Pixels of a scene, or of all dates of one processing baseline."""

    def __init__(self) -> None:
        self._reflectance: list[np.ndarray] = []
        self._scene_class: list[np.ndarray] = []

    def add(
        self, cube: xr.DataArray, scale: float = 1.0, offset: float | None = None
    ) -> "ScalingSample":
        """Add pixels of a cube (bands, y, x) of stored values; returns itself."""
        labels = [str(label) for label in cube["bands"].values]
        step = int(np.ceil(np.sqrt(max(1, cube.sizes["y"] * cube.sizes["x"] / SAMPLED_PX))))
        sample = cube.transpose("bands", "y", "x")[:, ::step, ::step].values
        stored = sample[[labels.index(band) for band in BANDS]].reshape(len(BANDS), -1)
        reflectance = to_reflectance(stored, scale, offset)
        if stored.dtype.kind != "f" or scale != 1:
            reflectance[:, (stored == 0).any(axis=0)] = np.nan  # no data of digital numbers
        self._reflectance.append(reflectance)
        if "SCL" in labels:
            self._scene_class.append(sample[labels.index("SCL")].ravel())
        return self

    def verdict(self, *, offset_is_known: bool) -> LaiInputError | None:
        """Return what is wrong with the scaling of all pixels together, or None."""
        if not self._reflectance:
            return None
        with_classes = len(self._scene_class) == len(self._reflectance)
        return find_wrong_scaling(
            np.concatenate(self._reflectance, axis=1),
            np.concatenate(self._scene_class) if with_classes else None,
            offset_is_known=offset_is_known,
        )
