"""Feature maps: what the channels of a network show of a scene (the paper's figures 13-16).

The activations of an ONNX file are made visible by declaring them outputs. A stage is a stretch
of the network at one resolution: down and up a UNet there are several, in a per-pixel network
one, which is then taken at its beginning, middle and end.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from lai_training.evaluation.networks import Network
from lai_udf.predict import (
    PredictOptions,
    build_body_features,
    build_features,
    load_model,
    read_bundle,
    read_inputs,
)

Float32 = NDArray[np.float32]

ACTIVATIONS = ("Relu", "Tanh")
CHANNELS = 4
ALIKE = 0.9
STAGES = 6


@dataclass(frozen=True, eq=False)
class Stage:
    """Some channels of one layer."""

    title: str
    """Layer, its number of channels and its resolution."""
    channels: Float32
    """(channel, y, x): those that vary most away from the border and differ, most first."""


def read_stages(network: Network, image: xr.DataArray) -> list[Stage]:
    """Run a network over an image and return channels of chosen layers.

    Args:
        network: whose layers.
        image: (bands, y, x) reflectance; y and x are cut to multiples of 16.

    Returns:
        At most six stages, in the order of the data.
    """
    import onnx  # part of the training extra, only needed here and in export
    import onnxruntime

    graph_model = onnx.load_model_from_string(read_bundle(str(network.bundle))[1])
    names = _activations_of_lai(list(graph_model.graph.node))
    for name in names:
        value = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        graph_model.graph.output.append(value)
    session = onnxruntime.InferenceSession(
        graph_model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    side = _side_px(image)
    contract = load_model(str(network.bundle)).contract
    part = image.isel(y=slice(0, side), x=slice(0, side))
    inputs = read_inputs(part, PredictOptions())
    if "bodies" in contract:
        constants = contract["bodies"]["20"]["normalisation"]
        features = build_body_features(inputs.reflectance[None], constants)
        feed = {"features": features[None]}
    else:
        masks = np.ones((1, contract["masks"]["count"]), "float32")
        feed = {"features": build_features(inputs, contract)[None], "masks": masks}
    found = session.run(names, feed)
    layers = [
        _Layer(name, _channels_first(values[0])) for name, values in zip(names, found, strict=True)
    ]
    stages = []
    for layer in choose_layers(layers):
        count, size, _ = layer.values.shape
        title = f"{_short(layer.name)}: {count} channels at {20 * side // size} m"
        stages.append(Stage(title, _most_varied(layer.values)))
    return stages


@dataclass(frozen=True, eq=False)
class _Layer:
    name: str
    values: Float32
    """(channel, y, x)."""


def _activations_of_lai(nodes: Sequence[Any]) -> list[str]:
    """Return the activations that LAI depends on (not those of the spread), in their order."""
    needed = {"lai", "context"}
    for node in reversed(nodes):  # ONNX keeps nodes in topological order
        if needed & set(node.output):
            needed |= set(node.input)
    return [
        node.output[0] for node in nodes if node.op_type in ACTIVATIONS and node.output[0] in needed
    ]


def choose_layers(layers: Sequence[_Layer]) -> list[_Layer]:
    """Take the last layer of each stretch of one resolution, the first of the last one too."""
    stretches = [list(group) for _, group in groupby(layers, lambda layer: layer.values.shape[1])]
    if len(stretches) == 1:
        return stretches[0][:STAGES]
    chosen = [stretch[-1] for stretch in stretches[:-1]]
    finest = stretches[-1]
    step = max(1, len(chosen) // (STAGES - 2))  # a deep network: every second stretch
    return [*chosen[::step], finest[0], *finest[-1:][: len(finest) - 1]]


def _side_px(image: xr.DataArray) -> int:
    """Return a multiple of 16 that is no power of two, as numbers of channels are."""
    side = min(image.sizes["y"], image.sizes["x"]) // 16 * 16
    return side if side & (side - 1) else side - 16


def _channels_first(values: Float32) -> Float32:
    """Bring (y, x, channel) into the order (channel, y, x); maps are square."""
    return values if values.shape[1] == values.shape[2] else np.moveaxis(values, -1, 0)


def _most_varied(values: Float32) -> Float32:
    """Return the channels that vary most, each of them unlike (|r| < 0.9) those before it."""
    inner = inner_part(values)
    low, high = np.percentile(inner, (5, 95), axis=(1, 2))
    order = [int(index) for index in np.argsort(low - high, kind="stable")]
    flat = inner.reshape(len(inner), -1).astype("float64")
    flat -= flat.mean(axis=1, keepdims=True)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)
    chosen: list[int] = []
    for index in order:
        if len(chosen) < CHANNELS and not (abs(flat[chosen] @ flat[index]) > ALIKE).any():
            chosen.append(index)
    return values[chosen]


def inner_part(values: Float32) -> Float32:
    """Leave out an eighth on each side of (..., y, x): there, the end of the data shows."""
    margin = values.shape[-1] // 8
    return values[..., margin : values.shape[-2] - margin, margin : values.shape[-1] - margin]


def _short(name: str) -> str:
    """Return the layer of a tensor: `a/seamless_1/level0_1/Relu:0` -> `level0`."""
    layer = name.split("/")[-2] if "/" in name else name
    return layer.removesuffix("_1")
