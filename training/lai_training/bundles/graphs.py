"""Graphs of the `seamless` network made for speed: the same function, fewer and better operators.

A Keras export follows the layers one by one. Input: the trained network. Output: three ONNX graphs,
channels first, that compute the same numbers (to 1e-4, tested):

* `point`: features -> lai, lai_sd. The point estimate has no masks, so layers without a
  nonlinearity between them become one (the correction of the spectrum and what reads it);
* `trunk`: features -> lai, lai_sd, context, reading. The last two are all that Monte-Carlo draws
  have in common: the context channels, and what the head reads off the spectrum and the angles;
* `draws`: context and reading (n, channels, pixels), masks -> draws (draws, 1, pixels). What a
  draw changes. Masks act on the weights behind them, not on images: a dropped channel is a column
  of zeros.

ONNX Runtime keeps the layout of its vector units between convolutions, additions, poolings and
doublings; products with masks and transpositions break it, and these graphs have none.

The `paper` network has graphs of its own (`bundles.graphs_paper`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
from onnx import helper

from lai_training.bundles.graphs_paper import build_paper_graphs
from lai_training.bundles.onnx_graph import Attribute, Floats, Graph
from lai_training.networks import (
    ANGLE_SLICE,
    BAND_COUNT,
    FEATURE_COUNT,
    PAPER,
    SEAMLESS,
    SEAMLESS_VARIABLES,
)

IMAGE = ("y", "x")


@dataclass(frozen=True, eq=False)
class Head:
    """The head of the network as matrices (out, in), its linear layers joined."""

    features: Floats
    """(32, 14): what the first layer reads off the features (their validity: nothing)."""
    context: Floats
    """(32, 16): what it reads off the context, directly and through the corrected spectrum."""
    bias: Floats
    """(32,)."""
    hidden: tuple[Floats, Floats]
    """Second layer: (32, 32) and its bias."""
    lai: tuple[Floats, Floats]
    """Last layer: (1, 32) and its bias."""

    @classmethod
    def of(cls, model: keras.Model) -> "Head":
        """Read the head of a network.

        Nothing bends between the correction and what reads the corrected spectrum:
        W (s + C c + b) = W s + (W C) c + W b.
        """
        correct, shift = _matrix(model, "correction")
        spectrum, bias = _matrix(model, "read_spectrum")
        features = np.zeros((len(spectrum), FEATURE_COUNT), dtype="float32")
        features[:, :BAND_COUNT] = spectrum
        features[:, ANGLE_SLICE] = _matrix(model, "read_angles")[0]
        context = _matrix(model, "read_context")[0] + spectrum @ correct
        folded = bias + spectrum @ shift
        return cls(features, context, folded, _matrix(model, "head2"), _matrix(model, "lai"))


def build_lean_graphs(model: keras.Model) -> dict[str, bytes]:
    """Return the graphs by name; none for networks that have no lean form.

    Args:
        model: a network of `lai_training.networks`.
    """
    if model.name == PAPER.name:
        return build_paper_graphs(model)
    if model.name not in (SEAMLESS.name, SEAMLESS_VARIABLES.name):  # further heads are left out
        return {}
    return {
        "draws": build_draws(model),
        "point": build_point(model, shared=False),
        "trunk": build_point(model, shared=True),
    }


def build_point(model: keras.Model, *, shared: bool) -> bytes:
    """Return `point`, or `trunk` where what draws share is wanted as well."""
    graph, head = Graph(), Head.of(model)
    context = _add_unet(graph, model)
    features = graph.convolve("reading", "features", _kernel(head.features), head.bias)
    read = graph.convolve("read_context", context, _kernel(head.context))
    first = graph.add("Tanh", "head1", graph.add("Add", "read", read, features))
    second = _add_layer(graph, model, "head2", first, "Tanh")
    _add_layer(graph, model, "lai", second)
    _add_layer(graph, model, "lai_sd", _add_spread(graph, model, first, second), "Softplus")
    outputs: dict[str, Sequence[str | int]]
    outputs = dict.fromkeys(("lai", "lai_sd"), ("n", 1, *IMAGE))
    if shared:
        channels = {"context": head.context.shape[1], "reading": len(head.features)}
        outputs |= {name: ("n", count, *IMAGE) for name, count in channels.items()}
    inputs = {"features": ("n", FEATURE_COUNT, *IMAGE)}
    return graph.finish("trunk" if shared else "point", inputs, outputs)


def build_draws(model: keras.Model) -> bytes:
    """Return `draws`, the head with its masks."""
    graph, head = Graph(), Head.of(model)
    graph.constant("widths", np.array(SEAMLESS.mask_channels, dtype="int64"))
    masks = [f"mask{number}" for number in range(len(SEAMLESS.mask_channels))]
    graph.nodes.append(helper.make_node("Split", ["masks", "widths"], masks, "masks", axis=1))
    one = graph.constant("one", np.array([1], dtype="int64"))

    def layer(number: int, source: str, weights: Floats, bias: str) -> str:
        """Add a layer behind a mask; its weights are (draws, out, in)."""
        factor = graph.add("Unsqueeze", f"factor{number}", masks[number], one)
        matrix = graph.constant(f"weights{number}", weights)
        masked = graph.add("Mul", f"masked{number}", matrix, factor)
        product = graph.add("MatMul", f"product{number}", masked, source)
        return graph.add("Add", f"sum{number}", product, bias)

    def column(name: str, bias: Floats) -> str:
        return graph.constant(name, bias[:, None])

    first = graph.add("Tanh", "head1", layer(0, "context", head.context, "reading"))
    second = layer(1, first, head.hidden[0], column("bias1", head.hidden[1]))
    last = layer(2, graph.add("Tanh", "head2", second), head.lai[0], column("bias2", head.lai[1]))
    graph.add("Identity", "draws", last)
    shared = {"context": head.context.shape[1], "reading": len(head.features)}
    inputs = {name: ("n", count, "pixel") for name, count in shared.items()}
    masks_in = {"masks": ("draw", SEAMLESS.mask_count)}
    return graph.finish("draws", {**inputs, **masks_in}, {"draws": ("draw", 1, "pixel")})


def _add_unet(graph: Graph, model: keras.Model) -> str:
    """Add everything before the first mask; return the name of the context."""
    level0 = _add_layer(graph, model, "level0", "features", "Relu")
    level1 = _add_layer(graph, model, "level1", _add_pool(graph, "pool1", level0), "Relu")
    level2 = _add_layer(graph, model, "level2", _add_pool(graph, "pool2", level1), "Relu")
    join1 = graph.add("Add", "join1", _add_upwards(graph, model, "up1", level2), level1)
    decode1 = _add_layer(graph, model, "decode1", join1, "Relu")
    skip0 = _add_layer(graph, model, "decode0", level0)
    join0 = graph.add("Add", "join0", skip0, _add_upwards(graph, model, "up0", decode1))
    return graph.add("Relu", "context", join0)


def _add_spread(graph: Graph, model: keras.Model, first: str, second: str) -> str:
    """Add what reads both hidden layers: a sum of two products, where Keras joins the channels."""
    kernel, bias = _matrix(model, "spread1")
    half = kernel.shape[1] // 2
    of_first = graph.convolve("spread_first", first, _kernel(kernel[:, :half]), bias)
    of_second = graph.convolve("spread_second", second, _kernel(kernel[:, half:]))
    return graph.add("Relu", "spread1", graph.add("Add", "spread_sum", of_first, of_second))


def _add_layer(
    graph: Graph, model: keras.Model, name: str, source: str, activation: str = ""
) -> str:
    kernel, *bias = (np.asarray(w, dtype="float32") for w in model.get_layer(name).get_weights())
    return graph.convolve(name, source, kernel.transpose(3, 2, 0, 1), *bias, activation=activation)


def _add_pool(graph: Graph, name: str, source: str) -> str:
    return graph.add("AveragePool", name, source, kernel_shape=[2, 2], strides=[2, 2])


def _add_upwards(graph: Graph, model: keras.Model, name: str, source: str) -> str:
    """Add the 1x1 convolution, the doubling and the smoothing of one level upwards."""
    layers = {layer.name: layer.get_weights() for layer in model.get_layer(name).layers}
    kernel, bias = layers[f"{name}_read"]
    read = graph.convolve(f"{name}_read", source, kernel.transpose(3, 2, 0, 1), bias)
    scales = graph.constant(f"{name}_scales", np.array([1, 1, 2, 2], dtype="float32"))
    how: dict[str, Attribute] = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric"}
    doubled = graph.add("Resize", f"{name}_double", read, "", scales, nearest_mode="floor", **how)
    (smooth,) = layers[f"{name}_smooth"]
    return graph.convolve(name, doubled, smooth.transpose(2, 3, 0, 1), group=smooth.shape[2])


def _matrix(model: keras.Model, name: str) -> tuple[Floats, Floats]:
    """Return a 1x1 convolution as (out, in) and its bias (zeros where it has none)."""
    kernel, *bias = (np.asarray(w, dtype="float32") for w in model.get_layer(name).get_weights())
    matrix = kernel[0, 0].T
    return matrix, bias[0] if bias else np.zeros(len(matrix), dtype="float32")


def _kernel(matrix: Floats) -> Floats:
    return matrix[:, :, None, None]
