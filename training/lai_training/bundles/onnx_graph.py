"""Build an ONNX graph operator by operator.

Output: the bytes of a graph whose inputs and outputs are float32 images, channels first.
"""

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
    injected: list[onnx.TensorProto] = field(default_factory=list)
    """Constants without values, see `inject`."""

    def constant(self, name: str, values: NDArray[np.generic]) -> str:
        """Add a constant."""
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def inject(self, name: str, count: int) -> str:
        """Add a constant, (count,) float32, whose values come when the graph is opened.

        ONNX Runtime takes them from `SessionOptions.add_external_initializers`, and works out all
        that follows from them before the first run.
        """
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[count])
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=name)
        self.injected.append(tensor)
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
        self,
        output: str,
        source: str,
        kernel: Floats,
        bias: Floats | None = None,
        *,
        activation: str = "",
    ) -> str:
        """Add a convolution that keeps the size, and an activation; `kernel` is (out, in, y, x)."""
        weights = [self.constant(f"{output}/kernel", kernel)]
        if bias is not None:
            weights.append(self.constant(f"{output}/bias", bias))
        side = kernel.shape[-1]
        pads = [side // 2] * 4
        return self.convolve_by(
            output, source, *weights, side=side, pads=pads, activation=activation
        )

    def convolve_by(
        self,
        output: str,
        source: str,
        *weights: str,
        side: int,
        pads: list[int],
        activation: str = "",
    ) -> str:
        """Add a convolution whose kernel and bias are in the graph already, and an activation."""
        linear = f"{output}/linear" if activation else output
        shape = {"kernel_shape": [side, side], "pads": pads}
        self.add("Conv", linear, source, *weights, **shape)
        return self.add(activation, output, linear) if activation else output

    def finish(self, name: str, inputs: Shapes, outputs: Shapes) -> bytes:
        """Return the graph as bytes; inputs and outputs are float32, given with their shapes."""
        given, made = (
            [helper.make_tensor_value_info(key, TensorProto.FLOAT, shape) for key, shape in side]
            for side in (inputs.items(), outputs.items())
        )
        graph = helper.make_graph(self.nodes, name, given, made, self.constants)
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION)
        if not self.injected:  # the checker would look for their file
            onnx.checker.check_model(model)
        model.graph.initializer.extend(self.injected)
        content: bytes = model.SerializeToString()
        return content


def channels_first(layer: keras.Layer) -> list[Floats]:
    """Return kernel, (out, in, y, x), and bias of a convolution of Keras."""
    kernel, bias = (np.asarray(w, dtype="float32") for w in layer.get_weights())
    return [kernel.transpose(3, 2, 0, 1), bias]
