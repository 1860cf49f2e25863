"""Feature maps: what the channels of a network show of a scene (the paper's figures 13-16).

The activations of an ONNX file are made visible by declaring them outputs. A stage is a stretch
of the network at one resolution: down and up a UNet there are several, in others one, of which the
first layers are taken.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from lai_training.evaluation.figures import DPI, LAI_AXIS, TRUE_COLOUR
from lai_training.evaluation.networks import Network
from lai_udf.picture import colour_table
from lai_udf.predict import (
    PredictOptions,
    build_body_features,
    build_features,
    load_model,
    read_bundle,
    read_values,
)

Float32 = NDArray[np.float32]

ACTIVATIONS = ("Relu", "Tanh")
"""And SiLU, which ONNX writes as a product with a sigmoid."""
CHANNELS, STAGES = 4, 6


@dataclass(frozen=True, eq=False)
class Stage:
    """Some channels of one layer."""

    title: str
    """Layer, its number of channels and its resolution."""
    channels: Float32
    """(channel, y, x): those that vary most away from the border, most first."""


def read_stages(network: Network, image: xr.DataArray) -> list[Stage]:
    """Run a network over (bands, y, x) reflectance; return channels of at most six layers.

    y and x are cut to multiples of 16; stages are in the order of the data.
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
    side = min(image.sizes["y"], image.sizes["x"]) // 16 * 16
    side -= 0 if side & (side - 1) else 16  # no power of two, as numbers of channels are
    contract = load_model(str(network.bundle)).contract
    part = image.isel(y=slice(0, side), x=slice(0, side)).transpose("bands", "y", "x")
    inputs = read_values(
        part.values, [str(band) for band in part["bands"].values], PredictOptions()
    )
    if "bodies" in contract:
        constants = contract["bodies"]["20"]["normalisation"]
        feed = {"features": build_body_features(inputs.reflectance[None], constants)[None]}
    else:
        masks = np.ones((1, contract["masks"]["count"]), "float32")
        feed = {"features": build_features(inputs, contract)[None], "masks": masks}
    found = [_channels_first(values[0]) for values in session.run(names, feed)]
    stages = []
    for index in choose_layers([values.shape[1] for values in found]):
        count, size, _ = found[index].shape
        title = f"{_short(names[index])}: {count} channels at {20 * side // size} m"
        stages.append(Stage(title, _most_varied(found[index])))
    return stages


def _activations_of_lai(nodes: Sequence[Any]) -> list[str]:
    """Return the activations that LAI depends on (not those of the spread), in their order."""
    needed = {"lai", "context"}
    for node in reversed(nodes):  # ONNX keeps nodes in topological order
        if needed & set(node.output):
            needed |= set(node.input)
    gates = {node.output[0] for node in nodes if node.op_type == "Sigmoid"}
    return [
        node.output[0]
        for node in nodes
        if node.output[0] in needed
        and (node.op_type in ACTIVATIONS or (node.op_type == "Mul" and gates & set(node.input)))
    ]


def choose_layers(sizes: Sequence[int]) -> list[int]:
    """Return the last layer of each stretch of one size, the first of the last one too."""
    stretches = [list(own) for _, own in groupby(range(len(sizes)), lambda index: sizes[index])]
    if len(stretches) == 1:
        return stretches[0][:STAGES]
    chosen = [stretch[-1] for stretch in stretches[:-1]]
    step = max(1, len(chosen) // (STAGES - 2))  # a deep network: every second stretch
    return sorted({*chosen[::step], stretches[-1][0], stretches[-1][-1]})


def _channels_first(values: Float32) -> Float32:
    """Bring (y, x, channel) into the order (channel, y, x); maps are square."""
    return values if values.shape[1] == values.shape[2] else np.moveaxis(values, -1, 0)


def _most_varied(values: Float32) -> Float32:
    """Return the channels of (channel, y, x) that vary most."""
    low, high = np.percentile(inner_part(values), (5, 95), axis=(1, 2))
    return values[np.argsort(low - high, kind="stable")[:CHANNELS]]


def inner_part(values: Float32) -> Float32:
    """Leave out an eighth on each side of (..., y, x): there, the end of the data shows."""
    margin = values.shape[-1] // 8
    return values[..., margin : values.shape[-2] - margin, margin : values.shape[-1] - margin]


def _short(name: str) -> str:
    """Return the layer of a tensor: `a/mlp_1/dense0_1/Relu:0` -> `dense0`."""
    layer = name.split("/")[-2] if "/" in name else name
    return layer.removesuffix("_1")


def draw_features(
    name: str, stages: Sequence[Stage], image: xr.DataArray, lai: Float32, path: Path
) -> None:
    """Draw four channels of each stage between the image and the LAI (figures 13-16).

    Each channel has its own range from the 1st to the 99th percentile: activations have no unit.
    `image` is (bands, y, x) reflectance, `lai`, (y, x), what the network made of it.
    """
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure

    rows = len(stages) + 1
    figure = Figure(figsize=(2.1 * CHANNELS + 0.6, 2.2 * rows), layout="constrained")
    axes = figure.subplots(rows, CHANNELS, squeeze=False)
    for axis in axes.ravel():
        axis.set(xticks=[], yticks=[])
    figure.suptitle(f"{name}: image, LAI, and the four channels of each stage that vary most")
    colour = np.stack([image.sel(bands=band).values for band in TRUE_COLOUR], axis=-1)
    axes[0, 0].imshow(np.clip(np.nan_to_num(colour) / 0.25, 0, 1) ** 0.7)
    axes[0, 0].set_title("image, true colour", fontsize="small")
    drawn = axes[0, 1].imshow(lai, cmap=ListedColormap(colour_table() / 255), vmin=0, vmax=6)
    axes[0, 1].set_title("LAI", fontsize="small")
    for axis in axes[0, 2:]:
        axis.set_axis_off()
    scale = axes[0, 2].inset_axes((0.0, 0.05, 0.12, 0.9))
    figure.colorbar(drawn, cax=scale, label=LAI_AXIS)
    for line, stage in zip(axes[1:], stages, strict=True):
        line[0].set_title(stage.title, fontsize="small", loc="left")
        for axis, channel in zip(line, stage.channels, strict=False):
            low, high = np.percentile(inner_part(channel), (1, 99))
            axis.imshow(channel, cmap="gray", vmin=low, vmax=max(high, low + 1e-6))
        for axis in line[len(stage.channels) :]:
            axis.set_axis_off()
    figure.savefig(path, dpi=DPI)
