"""The two networks of the paper (Albughdadi et al. 2020): its UNet and its per-pixel network."""

import keras
from keras import layers

from lai_training.networks.spec import ANGLE_SLICE, BAND_COUNT, MLP, PAPER, open_inputs


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
