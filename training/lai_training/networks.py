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

Only Keras layers and `keras.ops` are used: the code runs on TensorFlow, JAX and PyTorch.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import keras
import numpy as np
from keras import layers, ops

FEATURE_COUNT = 14
BAND_COUNT = 10
ANGLE_SLICE = slice(11, 14)
BINOMIAL = np.outer([1, 2, 1], [1, 2, 1])[:, :, None, None] / 16


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
    variables: tuple[str, ...] = ("LAI",)
    """What it estimates, LAI first, by the names and in the units of `lai_training.sl2p`."""

    @property
    def mask_count(self) -> int:
        """Length of the mask vector."""
        return sum(self.mask_channels)


SEAMLESS = NetworkSpec(
    name="seamless",
    reach_px=15,
    window_multiple=4,
    dropout_rate=0.1,
    mask_channels=(16, 32, 32),
)
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
SEAMLESS_VARIABLES = replace(
    SEAMLESS, name="seamless_variables", variables=("LAI", "FAPAR", "FCOVER", "CCC", "CWC")
)
SEAMLESS_NARROW = replace(SEAMLESS, name="seamless_narrow")
SPECS = {spec.name: spec for spec in (SEAMLESS, PAPER, MLP, SEAMLESS_VARIABLES, SEAMLESS_NARROW)}
VARIABLE_SCALES = {"LAI": 1.0, "FAPAR": 0.2, "FCOVER": 0.2, "CCC": 65.0, "CWC": 0.04}
"""An error of so much weighs as much as one of 1 m2 m-2 in LAI: standard deviations of SL2P's
labels over simulated land, relative to LAI's, in round numbers."""


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
            for thirty-two (`lai_training.recipe.load_start`), but remove less noise.
    """
    features, masks, mask = _inputs(SEAMLESS)
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


def build_paper() -> keras.Model:
    """Build the UNet of the paper (Albughdadi et al. 2020, figure 2).

    Two 3x3 convolutions with batch normalisation, ReLU and spatial dropout per block, four
    poolings from 32 feature maps, transposed convolutions upwards, a linear 1x1 head. It sees
    the ten bands and the validity channel; like the paper's it gets no angles. The cropping of
    16 px in the paper is done by the windows (their overlap).
    """
    features, masks, mask = _inputs(PAPER)
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
    return keras.Model([features, masks], [lai], name="paper")


def build_mlp() -> keras.Model:
    """Build the per-pixel network of the paper's section 3.2: 256-128-64-1 with dropout."""
    features, masks, mask = _inputs(MLP)
    hidden = layers.Concatenate(name="reading")(
        [features[..., :BAND_COUNT], features[..., ANGLE_SLICE]]
    )
    for index, width in enumerate(MLP.mask_channels):
        hidden = mask(layers.Conv2D(width, 1, activation="relu", name=f"dense{index}")(hidden))
    return keras.Model([features, masks], [layers.Conv2D(1, 1, name="lai")(hidden)], name="mlp")


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


def _inputs(
    spec: NetworkSpec,
) -> tuple[keras.KerasTensor, keras.KerasTensor, Callable[[keras.KerasTensor], keras.KerasTensor]]:
    """Return the two inputs and a function that applies the next slice of the masks."""
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


def _double_conv(width: int, name: str) -> keras.Sequential:
    block: list[layers.Layer] = []
    for index in range(2):
        block += [
            layers.Conv2D(width, 3, padding="same", use_bias=False, name=f"{name}_conv{index}"),
            layers.BatchNormalization(name=f"{name}_norm{index}"),
            layers.ReLU(name=f"{name}_relu{index}"),
        ]
    return keras.Sequential(block, name=name)
