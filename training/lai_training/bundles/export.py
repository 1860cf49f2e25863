"""Turn a run into the files of a model bundle: its networks as ONNX, and `model.json`.

A bundle of contract 1 holds `model.onnx`, a network of the paper. One of contract 2 holds a body
for 20 m and one for 10 m, as ONNX and as Keras files to go on training from.
`bundles.model_item` describes both.
"""

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from lai_training.bundles.model_item import Json, describe_bodies, describe_model
from lai_training.errors import ExportError
from lai_training.learn.run_folder import BEST, read_provenance
from lai_training.networks import ANGLE_SLICE, BAND_COUNT, FEATURE_COUNT, PAPER, SPECS
from lai_training.restore.fit import body_name, is_body_run
from lai_training.restore.network import BODIES, CONTEXT, READOUT, BodySpec
from lai_udf.atomic import new_files

ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the same bundle has the same bytes, whenever it is made
Floats = NDArray[np.float32]
Attribute = int | str | list[int]
Shapes = Mapping[str, Sequence[str | int]]

OPSET, IR_VERSION = 18, 9


@dataclass
class Graph:
    """An ONNX graph in the making: a method adds an operator and returns its output's name."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def constant(self, name: str, values: NDArray[np.generic]) -> str:
        """Add a constant."""
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def add(
        self, operator: str, output: str | Sequence[str], *inputs: str, **attributes: Attribute
    ) -> str:
        """Add an operator with one output or several; return the first."""
        outputs = [output] if isinstance(output, str) else list(output)
        node = helper.make_node(operator, inputs, outputs, outputs[0], **attributes)  # type: ignore[arg-type]
        self.nodes.append(node)
        return outputs[0]

    def pool(self, output: str, source: str) -> str:
        """Add the maximum of 2x2 pixels."""
        return self.add("MaxPool", output, source, kernel_shape=[2, 2], strides=[2, 2])

    def convolve(
        self, output: str, source: str, kernel: Floats, bias: Floats, *, activation: str = ""
    ) -> str:
        """Add a convolution that keeps the size, and an activation; `kernel` is (out, in, y, x)."""
        weights = [self.constant(f"{output}/kernel", kernel), self.constant(f"{output}/bias", bias)]
        linear, side = (f"{output}/linear" if activation else output), kernel.shape[-1]
        shape: dict[str, Attribute] = {"kernel_shape": [side] * 2, "pads": [side // 2] * 4}
        self.add("Conv", linear, source, *weights, group=1, **shape)
        return self.add(activation, output, linear) if activation else output

    def finish(self, name: str, inputs: Shapes, outputs: Shapes) -> bytes:
        """Return the graph as bytes; inputs and outputs are float32, given with their shapes."""
        ends = [
            [helper.make_tensor_value_info(key, TensorProto.FLOAT, shape) for key, shape in side]
            for side in (inputs.items(), outputs.items())
        ]
        graph = helper.make_graph(self.nodes, name, ends[0], ends[1], self.constants)
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION)
        onnx.checker.check_model(model)
        content: bytes = model.SerializeToString()
        return content


def channels_first(layer: keras.Layer) -> list[Floats]:
    """Return kernel, (out, in, y, x), and bias of a convolution of Keras."""
    kernel, bias = (np.asarray(w, dtype="float32") for w in layer.get_weights())
    return [kernel.transpose(3, 2, 0, 1), bias]


def fold_norm(model: keras.Model, block: str, index: int) -> tuple[Floats, Floats]:
    """Return kernel (out, in, 3, 3) and bias of a convolution, its normalisation folded in."""
    convolution, norm = (
        model.get_layer(block).get_layer(f"{block}_{kind}{index}") for kind in ("conv", "norm")
    )
    gamma, beta, mean, variance = (np.asarray(w) for w in norm.get_weights())
    scale = gamma / np.sqrt(variance + norm.epsilon)
    (kernel,) = convolution.get_weights()
    folded = (kernel * scale).transpose(3, 2, 0, 1).astype("float32")
    return folded, (beta - mean * scale).astype("float32")


def pack_run(run: Path, *, version: str, residual_cloud: Json | None = None) -> dict[str, bytes]:
    """Return the members of a bundle by file name; calibration and scores are still to come.

    `run` is the folder of a fit, of one network or of both bodies; `residual_cloud` what
    `restore.scenes.fit_residual_cloud` returned. Raises `ExportError` where the folder holds no
    weights, `FitError` where it is not that of a run.
    """
    if is_body_run(run):
        return _pack_bodies(run, version, residual_cloud)
    if not (run / BEST).exists():
        raise ExportError(f"{run} holds no {body_name(20)} or {BEST}: fit it first")
    graph = build_graph(keras.models.load_model(run / BEST, compile=False))
    return list_members(describe_model(run, graph, version=version), {"model": graph})


def _pack_bodies(run: Path, version: str, residual_cloud: Json | None) -> dict[str, bytes]:
    provenance = read_provenance(run)
    provenance["config"]["scenes"] = Path(provenance["config"]["scenes"]).name  # not where it lay
    graphs: dict[str, bytes] = {}
    readouts: dict[int, list[Any]] = {}
    for resolution, spec in BODIES.items():
        body = keras.models.load_model(run / body_name(resolution), compile=False)
        graphs[spec.graph] = build_body_graph(body, spec)
        matrix = keras.ops.convert_to_numpy(body.get_layer(READOUT).matrix())
        readouts[resolution] = matrix.transpose(1, 0, 2).tolist()
    described = describe_bodies(provenance, graphs, readouts, version, residual_cloud)
    weights = {body_name(each): (run / body_name(each)).read_bytes() for each in BODIES}
    return list_members(described, graphs) | weights


def build_graph(model: keras.Model) -> bytes:
    """Return the ONNX graph of a network of the paper, channels first.

    Inputs are `features` (n, 14, y, x) and `masks` (1 or n, mask_count), output is `lai`,
    (n, 1, y, x), all float32, with n, y and x free.
    """
    graph = Graph()
    widths = np.array(SPECS[model.name].mask_channels, dtype="int64")
    names = [f"mask{number}" for number in range(widths.size)]
    graph.add("Split", names, "masks", graph.constant("widths", widths), axis=1)
    pixel = graph.constant("pixel", np.array([2, 3], dtype="int64"))
    masks = iter([graph.add("Unsqueeze", f"{name}/factors", name, pixel) for name in names])
    last = (_add_paper if model.name == PAPER.name else _add_mlp)(graph, model, masks)
    graph.convolve("lai", last, *channels_first(model.get_layer("lai")))
    return graph.finish(
        model.name,
        {"features": ("n", FEATURE_COUNT, "y", "x"), "masks": ("draw", int(widths.sum()))},
        {"lai": ("n", 1, "y", "x")},
    )


def _add_mlp(graph: Graph, model: keras.Model, masks: Any) -> str:  # noqa: ANN401 (an iterator)
    image = "features"
    for number, mask in enumerate(masks):
        name = f"dense{number}"
        kernel, bias = channels_first(model.get_layer(name))
        if number == 0:  # it does not see which pixels are valid
            read = np.zeros((len(kernel), FEATURE_COUNT, 1, 1), dtype="float32")
            read[:, :BAND_COUNT], read[:, ANGLE_SLICE] = np.split(kernel, [BAND_COUNT], axis=1)
            kernel = read
        shown = graph.convolve(name, image, kernel, bias, activation="Relu")
        image = graph.add("Mul", f"{name}/masked", shown, mask)
    return image


def _add_paper(graph: Graph, model: keras.Model, masks: Any) -> str:  # noqa: ANN401 (an iterator)
    def add_block(name: str, source: str) -> str:
        for index in (0, 1):
            kernel, bias = fold_norm(model, name, index)
            if source == "features":  # the network gets no angles
                unseen = FEATURE_COUNT - BAND_COUNT - 1
                kernel = np.pad(kernel, [(0, 0), (0, unseen), (0, 0), (0, 0)])
            source = graph.convolve(f"{name}/{index}", source, kernel, bias, activation="Relu")
        return graph.add("Mul", f"{name}/masked", source, next(masks))

    image, skips = add_block("down0", "features"), []
    for name in ("down1", "down2", "down3", "bottom"):
        skips.append(image)
        image = add_block(name, graph.pool(f"{name}/pool", image))
    for depth, skip in reversed(list(enumerate(skips))):
        kernel, bias = (np.asarray(w) for w in model.get_layer(f"up{depth}").get_weights())
        weights = [
            graph.constant(f"up{depth}/kernel", kernel.transpose(3, 2, 0, 1)),
            graph.constant(f"up{depth}/bias", bias),
        ]
        image = graph.add("ConvTranspose", f"up{depth}", image, *weights, strides=[2, 2])
        image = graph.add("Concat", f"skip{depth}", image, skip, axis=1)
        image = add_block(f"decode{depth}", image)
    return image


def build_body_graph(body: keras.Model, spec: BodySpec) -> bytes:
    """Return the ONNX graph of a body up to its context, channels first."""
    graph, hidden = Graph(), "features"
    for index in range(spec.depth):
        name = CONTEXT if index == spec.depth - 1 else f"convolution{index}"
        linear = graph.convolve(f"{name}/linear", hidden, *channels_first(body.get_layer(name)))
        share = graph.add("Sigmoid", f"{name}/share", linear)
        hidden = graph.add("Mul", name, linear, share)
    inputs = {"features": ("n", spec.feature_count, "y", "x")}
    return graph.finish(body.name, inputs, {CONTEXT: ("n", spec.width, "y", "x")})


def list_members(description: Json, graphs: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return description and graphs of a bundle by file name."""
    members = {f"{name}.onnx": graph for name, graph in graphs.items()}
    return members | {"model.json": json.dumps(description, indent=1).encode()}


def write_members(path: Path, members: Mapping[str, bytes]) -> Path:
    """Write a zip of files by name, atomically and with the same bytes for the same content.

    Raises `OutputNotWritableError` where the folder refuses.
    """
    with new_files(path.parent) as work, zipfile.ZipFile(work / path.name, "w") as archive:
        for name, content in sorted(members.items()):
            archive.writestr(zipfile.ZipInfo(name, ZIP_TIME), content, zipfile.ZIP_DEFLATED)
    return path
