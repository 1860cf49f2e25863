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

Only Keras layers and `keras.ops` are used: the code runs on TensorFlow, JAX and PyTorch. The
network that ships is in `lai_training.restore`.
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


def build_network(name: str) -> keras.Model:
    """Build an untrained network of `SPECS` by its name."""
    return {"paper": build_paper, "mlp": build_mlp}[name]()


def build_paper() -> keras.Model:
    """Build the UNet of the paper (Albughdadi et al. 2020, figure 2).

    Two 3x3 convolutions with batch normalisation, ReLU and spatial dropout per block, four
    poolings from 32 feature maps, transposed convolutions upwards, a linear 1x1 head. It sees
    the ten bands and the validity channel; like the paper's it gets no angles. The cropping of
    16 px in the paper is done by the windows (their overlap).
    """
    features, masks, mask = open_inputs(PAPER)
    block = features[..., : BAND_COUNT + 1]
    skips = []
    for depth, width in enumerate((32, 64, 128, 256)):
        block = mask(_double_conv(width, f"down{depth}")(block))
        skips.append(block)
        block = layers.MaxPooling2D(name=f"pool{depth}")(block)
    block = mask(_double_conv(512, "bottom")(block))
    for depth, width in reversed(list(enumerate((32, 64, 128, 256)))):
        block = layers.Conv2DTranspose(width, 2, strides=2, name=f"up{depth}")(block)
        block = layers.Concatenate(name=f"skip{depth}")([block, skips[depth]])
        block = mask(_double_conv(width, f"decode{depth}")(block))
    lai = layers.Conv2D(1, 1, name="lai")(block)
    return keras.Model([features, masks], lai, name="paper")


def build_mlp() -> keras.Model:
    """Build the per-pixel network of the paper's section 3.2: 256-128-64-1 with dropout."""
    features, masks, mask = open_inputs(MLP)
    hidden = layers.Concatenate(name="reading")(
        [features[..., :BAND_COUNT], features[..., ANGLE_SLICE]]
    )
    for index, width in enumerate(MLP.mask_channels):
        hidden = mask(layers.Conv2D(width, 1, activation="relu", name=f"dense{index}")(hidden))
    return keras.Model([features, masks], layers.Conv2D(1, 1, name="lai")(hidden), name="mlp")


def _double_conv(width: int, name: str) -> keras.Sequential:
    block: list[layers.Layer] = []
    for index in range(2):
        block += [
            layers.Conv2D(width, 3, padding="same", use_bias=False, name=f"{name}_conv{index}"),
            layers.BatchNormalization(name=f"{name}_norm{index}"),
            layers.ReLU(name=f"{name}_relu{index}"),
        ]
    return keras.Sequential(block, name=name)
