"""What networks promise, and the inputs that all of them share.

`lai_training.networks` says what the inputs are; the values of a `NetworkSpec` go into the bundle.
"""

from collections.abc import Callable
from dataclasses import dataclass

import keras
from keras import layers

FEATURE_COUNT = 14
BAND_COUNT = 10
ANGLE_SLICE = slice(11, 14)


@dataclass(frozen=True)
class NetworkSpec:
    """What a network promises to the code that tiles it."""

    name: str
    """A key of `SPECS`."""
    reach_px: int
    """How far a change of one input pixel can be felt, in pixels (checked by a test)."""
    window_multiple: int
    """Windows and overlaps are multiples of this, so that poolings stay in phase."""
    dropout_rate: float
    """Probability that a channel is dropped in a Monte-Carlo draw."""
    mask_channels: tuple[int, ...]
    """Droppable channels per masked layer, in the order in which `masks` lists them."""

    @property
    def mask_count(self) -> int:
        """Length of the mask vector."""
        return sum(self.mask_channels)


PAPER = NetworkSpec(
    name="paper",
    reach_px=107,
    window_multiple=16,
    dropout_rate=0.5,
    mask_channels=(32, 64, 128, 256, 512, 256, 128, 64, 32),
)
MLP = NetworkSpec(
    name="mlp",
    reach_px=0,
    window_multiple=1,
    dropout_rate=0.1,
    mask_channels=(256, 128, 64),
)
SPECS = {spec.name: spec for spec in (PAPER, MLP)}


def open_inputs(
    spec: NetworkSpec,
) -> tuple[keras.KerasTensor, keras.KerasTensor, Callable[[keras.KerasTensor], keras.KerasTensor]]:
    """Open the two inputs of a network.

    Returns:
        `features`, `masks`, and a function that multiplies a tensor with the next slice of the
        masks, in the order of `spec.mask_channels`.
    """
    features = keras.Input((None, None, FEATURE_COUNT), name="features")
    masks = keras.Input((spec.mask_count,), name="masks")
    starts = iter(
        (sum(spec.mask_channels[:i]), width) for i, width in enumerate(spec.mask_channels)
    )

    def mask(tensor: keras.KerasTensor) -> keras.KerasTensor:
        start, width = next(starts)
        factors = masks[:, None, None, start : start + width]
        return layers.Multiply(name=f"dropout{start}")([tensor, factors])

    return features, masks, mask
