"""Labels of clean patches: what SL2P (set 2_1) says of them."""

import numpy as np
from numpy.typing import NDArray

from lai_training import sl2p
from lai_training.learn.config import SampleConfig
from lai_training.sl2p.tables import load_network
from lai_udf.predict import BANDS

Floats = NDArray[np.float32]
SL2P_BANDS = tuple(band for band in BANDS if band not in ("B02", "B08"))
SL2P_ROWS = [BANDS.index(band) for band in SL2P_BANDS]


def label_patches(clean: Floats, cosines: Floats, variable: str = "LAI") -> Floats:
    """Return SL2P's unclipped value (set 2_1) of clean patches.

    Args:
        clean: (n, 10, y, x) reflectance.
        cosines: (n, 3), in the order view zenith, sun zenith, relative azimuth.
        variable: LAI (m2 m-2), FAPAR, FCOVER (1), CCC (ug cm-2) or CWC (g cm-2).

    Returns:
        (n, y, x) float32.
    """
    count, _, height, width = clean.shape
    rows = np.empty((count, height, width, 11), dtype="float32")
    rows[..., :8] = clean[:, SL2P_ROWS].transpose(0, 2, 3, 1)
    rows[..., 8:] = cosines[:, None, None, :]
    value, _ = sl2p.predict(rows.reshape(-1, 11), variable=variable, network="2_1", clip=False)
    return np.asarray(value, dtype="float32").reshape(count, height, width)


def limit_label(label: Floats, variable: str, config: SampleConfig) -> Floats:
    """Limit SL2P's values, any shape, to where vegetation is, see `SampleConfig.label_low`."""
    if variable == "LAI":
        return np.clip(label, config.label_low, config.label_high)
    net = load_network(variable, "2_1")
    low, high = net.minimum - 5 * net.tolerance, net.maximum + 10 * net.tolerance
    return np.clip(label, np.float32(low), np.float32(high))
