"""The paper's networks: `paper`, its UNet, and `mlp`, its per-pixel network.

Both are one function of two inputs, so the rest of the project need not know which one
it holds:

* ``features``, shape (batch, y, x, 14), float32: ten normalised bands, a validity channel
  (1 = data, 0 = no data, bands set to 0 there) and the cosines of view zenith, sun zenith and
  relative azimuth, in the order of `lai_udf.predict.FEATURES`;
* ``masks``, shape (batch or 1, mask_count), float32: one factor per droppable channel. All ones
  is the point estimate; a Monte-Carlo draw has 0 for a dropped channel and 1 / (1 - rate) for
  a kept one (`lai_udf.predict.draw_masks`). Spatial dropout drops whole channels, so one draw
  of masks is one function applied to the whole scene: no seams in the spread, whatever the
  tiling.

The output is ``lai``, shape (batch, y, x, 1), m2 m-2.

Only Keras layers and `keras.ops` are used: the code runs on TensorFlow, JAX and PyTorch. The layers
are in `networks.paper`, the promises in `networks.spec`. The network that ships is in
`lai_training.restore`.
"""

import keras

from lai_training.networks.paper import build_mlp, build_paper
from lai_training.networks.spec import (
    ANGLE_SLICE,
    BAND_COUNT,
    FEATURE_COUNT,
    MLP,
    PAPER,
    SPECS,
    NetworkSpec,
)

__all__ = [
    "ANGLE_SLICE",
    "BAND_COUNT",
    "FEATURE_COUNT",
    "MLP",
    "PAPER",
    "SPECS",
    "NetworkSpec",
    "build_network",
]


def build_network(name: str) -> keras.Model:
    """Build an untrained network.

    Args:
        name: a key of `SPECS`.

    Raises:
        KeyError: for an unknown name.
    """
    return {"paper": build_paper, "mlp": build_mlp}[name]()
