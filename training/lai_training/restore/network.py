"""The bodies: a few 3x3 convolutions on the 20 m grid, and SL2P as the layer behind them.

A body is one function of two inputs:

* ``features``, (n, y, x, channels), on the 20 m grid, as `lai_udf.predict.build_body_features`
  makes them (there channels first);
* ``masks``, (n or 1, width): a factor per channel of the context; all ones is the point estimate,
  a Monte-Carlo draw has 0 for a dropped channel and 1 / (1 - rate) for a kept one.

Its output, (n, y, x, pixels x bands), is what is added to the reflectance of each pixel of a 20 m
block: one pixel at 20 m, four at 10 m. Those four sum to zero in every band, so that the mean of a
block gives back the 20 m band, and B02, B03, B04 and B08 are never changed at 10 m.
"""

from dataclasses import dataclass

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

from lai_training.sl2p.tables import VARIABLES, load_network
from lai_udf.predict import BANDS, COARSE_ROWS, FINE_ROWS, SL2P_ROWS

UNITS = 5
"""Hidden units of an SL2P network."""
ACTIVATION = "silu"  # against "relu": LAI and water content a little better, by places left out
CONTEXT, READOUT = "context", "readout"
"""Names of the last convolution and of the linear map behind it."""
VARIABLE_SCALES = {"LAI": 1.0, "FAPAR": 0.2, "FCOVER": 0.2, "CCC": 65.0, "CWC": 0.04}
"""Units of the loss: standard deviations over simulated land, relative to LAI's, rounded."""


@dataclass(frozen=True)
class BodySpec:
    """What a body promises to the code that tiles it."""

    resolution: int
    """Pixel size of its output, m: 20 or 10."""
    width: int
    """Channels of its layers, and of the context that a draw masks."""
    depth: int
    """3x3 convolutions, each of which reaches one 20 m pixel further."""
    dropout_rate: float = 0.1
    """Probability that a channel of the context is dropped in a draw."""

    @property
    def graph(self) -> str:
        """Return the name of its graph in a bundle."""
        return "model" if self.resolution == 20 else f"model_{self.resolution}m"

    @property
    def side(self) -> int:
        """Return the pixels along a side of a 20 m block: 1 or 2."""
        return 20 // self.resolution

    @property
    def reach_px(self) -> int:
        """Return how far a change of one pixel can be felt, in pixels of the resolution."""
        return self.depth * self.side + self.side - 1

    @property
    def feature_count(self) -> int:
        """Return the channels of its input."""
        detail = self.side**2 * len(FINE_ROWS) if self.side > 1 else 0
        return len(BANDS) + detail + 1

    @property
    def corrected(self) -> tuple[int, ...]:
        """Return the rows of `BANDS` that it changes."""
        return tuple(COARSE_ROWS) if self.side > 1 else tuple(range(len(BANDS)))


BODIES = {20: BodySpec(20, width=16, depth=2), 10: BodySpec(10, width=32, depth=3)}


def build_body(spec: BodySpec) -> keras.Model:
    """Build an untrained body; its correction is zero, so with its head it is SL2P."""
    features = keras.Input((None, None, spec.feature_count), name="features")
    masks = keras.Input((spec.width,), name="masks")
    hidden = features
    for index in range(spec.depth):
        hidden = layers.Conv2D(
            spec.width,
            3,
            padding="same",
            activation=ACTIVATION,
            kernel_initializer="he_normal",
            name=CONTEXT if index == spec.depth - 1 else f"convolution{index}",
        )(hidden)
    dropped = layers.Multiply(name="dropout")([hidden, masks[:, None, None, :]])
    correction = Readout(spec.side**2, spec.corrected, name=READOUT)(dropped)
    return keras.Model([features, masks], correction, name=f"body_{spec.resolution}m")


@keras.saving.register_keras_serializable("lai_training")
class Readout(layers.Layer):  # type: ignore[misc]
    """Linear map from the context to the correction of each pixel and band."""

    def __init__(self, pixels: int, bands: tuple[int, ...], **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.pixels, self.bands = pixels, tuple(bands)
        self._rows = np.eye(len(BANDS), dtype="float32")[list(self.bands)]

    def get_config(self) -> dict[str, object]:
        """Return what it takes to build the layer again."""
        return {**super().get_config(), "pixels": self.pixels, "bands": self.bands}

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Make the weights, (channels, pixels, corrected bands)."""
        self.kernel = self.add_weight(
            name="kernel", shape=(shape[-1], self.pixels, len(self.bands)), initializer="zeros"
        )

    def matrix(self) -> keras.KerasTensor:
        """Return the weights, (channels, pixels, bands); the pixels of a block sum to zero."""
        kernel = self.kernel
        if self.pixels > 1:
            kernel = kernel - ops.mean(kernel, axis=1, keepdims=True)
        return ops.matmul(kernel, self._rows)

    def call(self, context: keras.KerasTensor) -> keras.KerasTensor:
        """Return the correction, (n, y, x, pixels x bands), reflectance."""
        return ops.matmul(context, ops.reshape(self.matrix(), (context.shape[-1], -1)))


class Reading(layers.Layer):  # type: ignore[misc]
    """What SL2P 2_1 reads off corrected spectra, in units of `VARIABLE_SCALES`; not learnt."""

    def __init__(self) -> None:
        super().__init__(trainable=False, name="reading")
        hidden, output, self._constant = fold_sl2p(VARIABLE_SCALES)
        self._hidden = hidden.reshape(-1, hidden.shape[-1]).T
        self._output = np.zeros((len(self._hidden.T), len(VARIABLES)), dtype="float32")
        for column, weights in enumerate(output):
            self._output[UNITS * column : UNITS * (column + 1), column] = weights

    def call(
        self, correction: keras.KerasTensor, spectra: keras.KerasTensor, cosines: keras.KerasTensor
    ) -> keras.KerasTensor:
        """Return five variables and the correction of each pixel, (n, y, x, pixels, 5 + 10).

        Args:
            correction: (n, y, x, pixels x bands).
            spectra: (n, y, x, pixels, bands).
            cosines: (n, 3).
        """
        correction = ops.reshape(correction, ops.shape(spectra))
        corrected = spectra + correction
        one = ops.ones_like(corrected[..., :1])
        read = [corrected[..., row : row + 1] for row in SL2P_ROWS]
        inputs = ops.concatenate([*read, cosines[:, None, None, None, :] * one, one], axis=-1)
        values = ops.matmul(ops.tanh(ops.matmul(inputs, self._hidden)), self._output)
        return ops.concatenate([values + self._constant, correction], axis=-1)


def attach_head(body: keras.Model, spec: BodySpec) -> keras.Model:
    """Return the network that is fitted: features, masks, spectra, cosines -> see `Reading`."""
    spectra = keras.Input((None, None, spec.side**2, len(BANDS)), name="spectra")
    cosines = keras.Input((3,), name="cosines")
    read = Reading()(body.output, spectra, cosines)
    return keras.Model([*body.inputs, spectra, cosines], read)


Float32 = NDArray[np.float32]


def fold_sl2p(scales: dict[str, float]) -> tuple[Float32, Float32, Float32]:
    """Return SL2P 2_1 with its normalisation folded into its weights, outputs in units of `scales`.

    Hidden weights are (variables, 5, 12), the last column the bias; output weights (variables, 5);
    constants (variables,).
    """
    hidden, output, constant = [], [], []
    for variable in VARIABLES:
        own_hidden, own_output, own_constant = load_network(variable, "2_1").fold()
        hidden.append(own_hidden)
        output.append(own_output / scales[variable])
        constant.append(own_constant / scales[variable])
    made = (np.array(part, dtype="float32") for part in (hidden, output, constant))
    return next(made), next(made), next(made)


_FOLDED = fold_sl2p(VARIABLE_SCALES)


def read_spectra(spectra: NDArray[np.floating], cosines: Float32) -> NDArray[np.floating]:
    """Return five variables of SL2P for (10, ...) reflectance at one geometry, scaled, unclipped.

    Args:
        spectra: bands in the order of `BANDS`.
        cosines: (3,) of view zenith, sun zenith, relative azimuth.
    """
    hidden, output, constant = _FOLDED
    pixels = spectra[SL2P_ROWS].reshape(len(SL2P_ROWS), -1)
    of_bands, of_angles, bias = np.split(hidden, [len(SL2P_ROWS), -1], axis=-1)
    units = np.tanh(of_bands @ pixels + of_angles @ cosines[:, None] + bias)
    values = np.einsum("vu,vun->vn", output, units) + constant[:, None]
    image: NDArray[np.floating] = values.reshape(len(VARIABLES), *spectra.shape[1:])
    return image
