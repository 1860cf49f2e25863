"""Made-up networks whose errors are known."""

from pathlib import Path

import numpy as np
from scipy import ndimage

from lai_training.evaluation.networks import Network, predict_sl2p
from lai_udf.predict import BANDS


class Filter(Network):
    """A made-up network: SL2P of filtered bands; pixels of no data count as 0."""

    def predict(self, scene, bands=("LAI",), **options):
        image = scene.copy()
        for band in BANDS:
            values = np.nan_to_num(scene.sel(bands=band).values)
            image.loc[{"bands": band}] = self._filter(values)
        return dict.fromkeys(bands, predict_sl2p(image))

    def _filter(self, values):
        return values

    def warm_up(self):
        pass


class Blur(Filter):
    """Looks one pixel far."""

    def _filter(self, values):
        return ndimage.uniform_filter(values, 3, mode="constant")


def made_up(kind: type[Filter], reach_px: int) -> Filter:
    """Return one of these networks, which looks `reach_px` far."""
    return kind(kind.__name__, Path("nowhere"), {"reach_px": reach_px, "calibration": {}})
