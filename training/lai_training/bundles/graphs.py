"""Write ONNX graphs operator by operator, channels first, so that one network gives one file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import keras
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

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
        infos = [
            [helper.make_tensor_value_info(key, TensorProto.FLOAT, shape) for key, shape in side]
            for side in (inputs.items(), outputs.items())
        ]
        graph = helper.make_graph(self.nodes, name, *infos, self.constants)
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
