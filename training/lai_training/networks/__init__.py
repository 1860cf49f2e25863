"""The networks: `seamless` (default), `paper`, `mlp` and `seamless_variables`.

All of them are one function of two inputs, so the rest of the project need not know which one
it holds:

* ``features``, shape (batch, y, x, 14), float32: ten normalised bands, a validity channel
  (1 = data, 0 = no data, bands set to 0 there) and the cosines of view zenith, sun zenith and
  relative azimuth, in the order of `lai_udf.predict.FEATURES`;
* ``masks``, shape (batch or 1, mask_count), float32: one factor per droppable channel. All ones
  is the point estimate; a Monte-Carlo draw has 0 for a dropped channel and 1 / (1 - rate) for
  a kept one (`lai_udf.predict.draw_masks`). Spatial dropout drops whole channels, so one draw
  of masks is one function applied to the whole scene: no seams in the spread, whatever the
  tiling.

The output is ``lai``, shape (batch, y, x, 1), m2 m-2, and, for networks with a spread head,
``lai_sd`` of the same shape: the spread that thirty draws would show, learnt afterwards. A network
of several variables goes on with one output for each further one, under its name in lower case.

Only Keras layers and `keras.ops` are used: the code runs on TensorFlow, JAX and PyTorch. The layers
are in `networks.seamless` and `networks.paper`, the promises in `networks.spec`.
"""

from collections.abc import Callable

import keras
from keras import ops

from lai_training.networks.paper import build_mlp, build_paper
from lai_training.networks.seamless import build_seamless, build_seamless_variables
from lai_training.networks.spec import (
    ANGLE_SLICE,
    BAND_COUNT,
    FEATURE_COUNT,
    MLP,
    PAPER,
    SEAMLESS,
    SEAMLESS_VARIABLES,
    SPECS,
    VARIABLE_SCALES,
    NetworkSpec,
)

__all__ = [
    "ANGLE_SLICE",
    "BAND_COUNT",
    "FEATURE_COUNT",
    "MLP",
    "PAPER",
    "SEAMLESS",
    "SEAMLESS_VARIABLES",
    "SPECS",
    "VARIABLE_SCALES",
    "NetworkSpec",
    "build_network",
    "measure_reach_px",
]


def build_network(name: str) -> keras.Model:
    """Build an untrained network.

    Args:
        name: a key of `SPECS`.

    Raises:
        KeyError: for an unknown name.
    """
    builders: dict[str, Callable[[], keras.Model]] = {
        "seamless": build_seamless,
        "paper": build_paper,
        "mlp": build_mlp,
        "seamless_variables": build_seamless_variables,
        "seamless_narrow": lambda: build_seamless(width=16),
    }
    return builders[name]()


def measure_reach_px(model: keras.Model, *, size: int = 64) -> int:
    """Return how far one input pixel is felt in the LAI, by the gradient-free definition.

    Every pixel of one pooling cell is changed in turn (the reach depends on the phase of the
    poolings) and the farthest changed output pixel is taken, in the maximum norm.

    Args:
        model: a network of this module.
        size: side of the test image, px; larger than twice the reach.
    """
    rng = keras.random.SeedGenerator(1)
    image = keras.random.normal((1, size, size, FEATURE_COUNT), seed=rng)
    ones = ops.ones((1, model.inputs[1].shape[-1]))
    reference = _lai(model, image, ones)
    reach = 0
    centre = size // 2
    for phase in range(4):
        at = centre + phase
        poke = ops.convert_to_numpy(image).copy()
        poke[0, at, at, :] += 100.0
        changed = ops.convert_to_numpy(_lai(model, ops.convert_to_tensor(poke), ones) - reference)[
            0, ..., 0
        ]
        rows, columns = (abs(changed) > 0).nonzero()
        reach = max(reach, int(abs(rows - at).max()), int(abs(columns - at).max()))
    return reach


def _lai(
    model: keras.Model, features: keras.KerasTensor, masks: keras.KerasTensor
) -> keras.KerasTensor:
    outputs = model([features, masks], training=False)
    return outputs[0] if isinstance(outputs, (list, tuple)) else outputs
