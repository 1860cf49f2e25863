"""Labels of clean patches: the LAI that SL2P (set 2_1) reads off them."""

import numpy as np
from numpy.typing import NDArray

from lai_training import sl2p
from lai_udf.predict import SL2P_ROWS

Floats = NDArray[np.float32]


def label_patches(clean: Floats, cosines: Floats) -> Floats:
    """Return SL2P's unclipped LAI (set 2_1) of clean patches.

    Args:
        clean: (n, 10, y, x) reflectance.
        cosines: (n, 3), in the order view zenith, sun zenith, relative azimuth.

    Returns:
        (n, y, x) float32, m2 m-2.
    """
    count, _, height, width = clean.shape
    rows = np.empty((count, height, width, 11), dtype="float32")
    rows[..., :8] = clean[:, SL2P_ROWS].transpose(0, 2, 3, 1)
    rows[..., 8:] = cosines[:, None, None, :]
    value, _ = sl2p.predict(rows.reshape(-1, 11), network="2_1", clip=False)
    return np.asarray(value, dtype="float32").reshape(count, height, width)
