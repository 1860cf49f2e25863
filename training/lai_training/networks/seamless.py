"""The default network, `seamless`, and the same with heads for further variables."""

import keras
import numpy as np
from keras import layers

from lai_training.networks.spec import (
    ANGLE_SLICE,
    BAND_COUNT,
    SEAMLESS,
    SEAMLESS_VARIABLES,
    VARIABLE_SCALES,
    open_inputs,
)

BINOMIAL = np.outer([1, 2, 1], [1, 2, 1])[:, :, None, None] / 16


def build_seamless(*, width: int = 32) -> keras.Model:
    """Build the default network: a UNet of reach 15 px around a per-pixel reading head.

    The UNet looks at the neighbourhood and proposes a correction of the spectrum (less noise)
    and sixteen context channels; the head then reads LAI off the corrected spectrum, pixel by
    pixel. Where there is nothing to correct the head is on its own, and edges stay sharp. The
    correction starts at zero, so training starts from the per-pixel emulation.

    Two poolings and one 3x3 convolution per inner block keep the reach within the 16 px of
    overlap that openEO windows carry: any tiling gives the same LAI. Dropout acts from the
    context on: everything before it is the same for every Monte-Carlo draw.

    Args:
        width: channels at full resolution. Sixteen fit in two thirds of the time and are a start
            for thirty-two (`lai_training.learn.recipe.load_start`), but remove less noise.
    """
    features, masks, mask = open_inputs(SEAMLESS)
    bands = features[..., :BAND_COUNT]
    angles = features[..., ANGLE_SLICE]

    level0 = _conv(width, "level0")(features)
    level1 = _conv(32, "level1")(layers.AveragePooling2D(2, name="pool1")(level0))
    level2 = _conv(64, "level2")(layers.AveragePooling2D(2, name="pool2")(level1))
    joined1 = layers.Add(name="join1")([_upwards(32, "up1")(level2), level1])
    decoded1 = _conv(32, "decode1")(joined1)
    skip0 = layers.Conv2D(16, 3, padding="same", use_bias=False, name="decode0")(level0)
    joined0 = layers.Add(name="join0")([_upwards(16, "up0")(decoded1), skip0])
    context = mask(layers.Activation("relu", name="context")(joined0))

    correction = layers.Conv2D(BAND_COUNT, 1, kernel_initializer="zeros", name="correction")
    spectrum = layers.Add(name="corrected_spectrum")([bands, correction(context)])
    # A sum of 1x1 convolutions instead of one over a concatenation: sums broadcast, so thirty
    # draws of masks share everything up to `decode0`, computed once.
    reading = layers.Add(name="reading")(
        [
            layers.Conv2D(32, 1, name="read_spectrum")(spectrum),
            layers.Conv2D(32, 1, use_bias=False, name="read_angles")(angles),
            layers.Conv2D(32, 1, use_bias=False, name="read_context")(context),
        ]
    )
    first = mask(layers.Activation("tanh", name="head1")(reading))
    second = mask(layers.Conv2D(32, 1, activation="tanh", name="head2")(first))
    lai = layers.Conv2D(1, 1, name="lai")(second)
    hidden = layers.Concatenate(name="spread_reading")([first, second])
    spread = layers.Conv2D(16, 1, activation="relu", name="spread1")(hidden)
    lai_sd = layers.Conv2D(1, 1, activation="softplus", name="lai_sd")(spread)
    return keras.Model([features, masks], [lai, lai_sd], name="seamless")


def build_seamless_variables() -> keras.Model:
    """Build the default network with further heads: FAPAR, FCOVER, CCC and CWC beside LAI.

    It holds `build_seamless` under the same layer names, so it can start from a fitted one, and
    its LAI is that network's to the last bit as long as those layers stay as they are. Each
    further head reads what LAI's reads: the corrected spectrum, the angles and the context. All
    heads share the masks, so a Monte-Carlo draw means the same for every variable.

    Outputs, in order: `lai`, `lai_sd`, `fapar`, `fcover`, `ccc` and `cwc`, in physical units;
    inside a head one is `VARIABLE_SCALES`.
    """
    model = build_seamless()
    seen = [
        ("spectrum", model.get_layer("corrected_spectrum").output),
        ("angles", model.get_layer("read_angles").input),
        ("context", model.get_layer("dropout0").output),
    ]
    factors = [model.get_layer(name).input[1] for name in ("dropout16", "dropout48")]
    outputs = list(model.outputs)
    for variable in SEAMLESS_VARIABLES.variables[1:]:
        name = variable.lower()
        read = [
            layers.Conv2D(32, 1, use_bias=source == "spectrum", name=f"{name}_read_{source}")(image)
            for source, image in seen
        ]
        hidden = layers.Add(name=f"{name}_reading")(read)
        hidden = layers.Activation("tanh", name=f"{name}_head1")(hidden)
        hidden = layers.Multiply(name=f"{name}_dropout1")([hidden, factors[0]])
        hidden = layers.Conv2D(32, 1, activation="tanh", name=f"{name}_head2")(hidden)
        hidden = layers.Multiply(name=f"{name}_dropout2")([hidden, factors[1]])
        value = layers.Conv2D(1, 1, name=f"{name}_value")(hidden)
        outputs.append(layers.Rescaling(VARIABLE_SCALES[variable], name=name)(value))
    return keras.Model(model.inputs, outputs, name="seamless_variables")


def _conv(width: int, name: str) -> layers.Layer:
    return layers.Conv2D(
        width, 3, padding="same", activation="relu", kernel_initializer="he_normal", name=name
    )


def _upwards(width: int, name: str) -> keras.Sequential:
    """Bring a coarse level to the next finer one: 1x1 convolution, then bilinear upsampling.

    Doubling every pixel and smoothing with the binomial (1, 2, 1) / 4 along both axes is bilinear
    upsampling by two, in layers that every backend and ONNX runtime has.
    """
    return keras.Sequential(
        [
            layers.Conv2D(width, 1, name=f"{name}_read"),
            layers.UpSampling2D(name=f"{name}_double"),
            layers.DepthwiseConv2D(
                3,
                padding="same",
                use_bias=False,
                depthwise_initializer=keras.initializers.Constant(BINOMIAL),
                trainable=False,
                name=f"{name}_smooth",
            ),
        ],
        name=name,
    )
