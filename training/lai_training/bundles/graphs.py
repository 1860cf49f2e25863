"""Graphs of the `paper` network that make its Monte-Carlo draws cheap: pruned, and equal to it.

The paper drops half of the channels behind every block. Input: the trained network. Output: two
ONNX graphs, channels first:

* `shared`: features -> context. The first block, before any mask: the same for every draw;
* `draw`: context -> lai. One draw. Its masks are a constant without values: whoever opens the graph
  gives them (`SessionOptions.add_external_initializers`), ONNX Runtime picks the weights of the
  kept channels before the first run, and dropped channels are not computed at all.

Kept channels are filled up with dropped ones (factor 0) to a multiple of `BLOCK_CHANNELS`, for ONNX
Runtime lays images out in blocks of so many channels and would compute them anyway.

A transposed convolution of 2x2 px and the 3x3 convolution behind it are one linear function: four
2x2 convolutions of the coarse image, one for each of the fine pixels that a coarse one becomes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

import keras
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from lai_training.networks import BAND_COUNT, FEATURE_COUNT, PAPER

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


BLOCK_CHANNELS = 16
IMAGE = ("y", "x")
CONTEXT = {"context": ("n", PAPER.mask_channels[0], *IMAGE)}
PADS = [1, 1, 1, 1]
ENCODERS = ("down1", "down2", "down3", "bottom")


@dataclass(frozen=True)
class Kept:
    """The channels that a draw computes behind one mask, as names in the graph."""

    index: str
    """(k,): their numbers."""
    factor: str
    """(k, 1, 1): their factors."""


def build_paper_graphs(model: keras.Model) -> dict[str, bytes]:
    """Return `draw` and `shared` of a trained `paper` network."""
    return {"draw": build_draw(model), "shared": build_shared(model)}


def build_shared(model: keras.Model) -> bytes:
    """Return the graph of the first block."""
    graph = Graph()
    (first, bias), second = (fold_norm(model, "down0", index) for index in (0, 1))
    kernel = np.zeros((len(first), FEATURE_COUNT, 3, 3), dtype="float32")
    kernel[:, : BAND_COUNT + 1] = first  # it sees no angles
    read = graph.convolve("read", "features", kernel, bias, activation="Relu")
    graph.convolve("context", read, *second, activation="Relu")
    return graph.finish("shared", {"features": ("n", FEATURE_COUNT, *IMAGE)}, CONTEXT)


def build_draw(model: keras.Model) -> bytes:
    """Return the graph of one draw."""
    graph = Graph()
    kept = _add_masks(graph)
    image = graph.add("Gather", "level0", "context", kept[0].index, axis=1)
    levels, ones = [image], [_add_ones(graph)]
    for depth, name in enumerate(ENCODERS):
        pooled = graph.pool(f"{name}/pool", image)
        kernel, bias = fold_norm(model, name, 0)
        weights = _read(graph, f"{name}/0", kernel, kept[depth])
        shift = graph.constant(f"{name}/0/bias", bias)
        read = graph.convolve_by(
            f"{name}/read", pooled, weights, shift, side=3, pads=PADS, activation="Relu"
        )
        image = _add_second(graph, model, name, read, kept[depth + 1])
        levels.append(image)
        ones.append(graph.pool(f"{name}/ones", ones[-1]))
    for number, depth in enumerate((3, 2, 1, 0), start=len(ENCODERS)):
        name = f"decode{depth}"
        joined = _add_join(
            graph, model, depth, (image, levels[depth], ones[depth]), (kept[number], kept[depth])
        )
        image = _add_second(graph, model, name, joined, kept[number + 1])
    kernel, bias = channels_first(model.get_layer("lai"))
    weights = _read(graph, "head", kernel, kept[-1])
    graph.convolve_by(
        "lai", image, weights, graph.constant("head/bias", bias), side=1, pads=[0] * 4
    )
    return graph.finish("draw", CONTEXT, {"lai": ("n", 1, *IMAGE)})


def _add_masks(graph: Graph) -> list[Kept]:
    """Add what follows from the masks of a draw; ONNX Runtime works it out once."""
    masks = graph.inject("masks", PAPER.mask_count)
    graph.constant("widths", np.array(PAPER.mask_channels, dtype="int64"))
    names = [f"mask{number}" for number in range(len(PAPER.mask_channels))]
    graph.add("Split", names, masks, "widths")
    graph.constant("zero", np.zeros(1, dtype="float32"))
    graph.constant("one", np.array([1], dtype="int64"))
    graph.constant("block", np.array([BLOCK_CHANNELS], dtype="int64"))
    graph.constant("block-1", np.array([BLOCK_CHANNELS - 1], dtype="int64"))
    graph.constant("column", np.array([-1, 1, 1], dtype="int64"))
    return [_add_mask(graph, name) for name in names]


def _add_mask(graph: Graph, mask: str) -> Kept:
    kept = graph.add("Greater", f"{mask}/kept", mask, "zero")
    numbers = graph.add("Cast", f"{mask}/numbers", kept, to=TensorProto.INT64)
    count = graph.add("ReduceSum", f"{mask}/count", numbers, keepdims=1)
    above = graph.add("Add", f"{mask}/above", count, "block-1")
    blocks = graph.add("Div", f"{mask}/blocks", above, "block")
    least = graph.add("Max", f"{mask}/least", blocks, "one")
    filled = graph.add("Mul", f"{mask}/filled", least, "block")
    factor, index = f"{mask}/factor", f"{mask}/index"
    graph.add("TopK", [factor, index], mask, filled)
    return Kept(index, graph.add("Reshape", f"{mask}/column", factor, "column"))


def _add_join(
    graph: Graph,
    model: keras.Model,
    depth: int,
    sources: tuple[str, str, str],
    kept: tuple[Kept, Kept],
) -> str:
    """Add one level upwards, of `depth` (0 is full resolution), up to its first ReLU.

    `sources` are the coarse image, that of the same level on the way down, and ones; `kept` the
    channels of the first two.
    """
    coarse, skip, ones = sources
    name = f"decode{depth}"
    kernel, bias = fold_norm(model, name, 0)
    width = len(kernel)
    upwards, shift = (np.asarray(w) for w in model.get_layer(f"up{depth}").get_weights())
    phases = []
    for phase, (row, column) in enumerate(product((0, 1), repeat=2)):
        both = _compose(upwards, kernel[:, :width], row, column)
        weights = _read(graph, f"{name}/phase{phase}", both, kept[0])
        pads = [1 - row, 1 - column, row, column]
        phases.append(
            graph.convolve_by(f"{name}/coarse{phase}", coarse, weights, side=2, pads=pads)
        )
    together = graph.add("Concat", f"{name}/coarse", *phases, axis=1)
    fine = graph.add("DepthToSpace", f"{name}/fine", together, blocksize=2)
    # The bias of the transposed convolution ends where the image does.
    border = np.einsum("oiyx,i->oyx", kernel[:, :width], shift)[:, None].astype("float32")
    constant = graph.convolve(f"{name}/border", ones, border, bias)
    weights = _read(graph, f"{name}/skip", kernel[:, width:], kept[1])
    beside = graph.convolve_by(f"{name}/beside", skip, weights, side=3, pads=PADS)
    total = graph.add(
        "Add", f"{name}/total", fine, graph.add("Add", f"{name}/sum", beside, constant)
    )
    return graph.add("Relu", f"{name}/joined", total)


def _compose(upwards: NDArray[np.generic], kernel: Floats, row: int, column: int) -> Floats:
    """Return the 2x2 kernel (out, coarse, y, x) that makes the fine pixel (row, column) of each.

    `upwards` is the kernel of the transposed convolution, (y, x, middle, coarse) as Keras has it,
    `kernel` that of the convolution behind it, (out, middle, 3, 3); row and column are 0 or 1.
    """
    both = np.zeros((len(kernel), upwards.shape[-1], 2, 2), dtype="float32")
    for y, x in product(range(3), repeat=2):
        (from_y, fine_y), (from_x, fine_x) = divmod(row + y - 1, 2), divmod(column + x - 1, 2)
        step = kernel[:, :, y, x] @ upwards[fine_y, fine_x]
        both[:, :, from_y + 1 - row, from_x + 1 - column] += step
    return both


def _add_second(graph: Graph, model: keras.Model, name: str, source: str, kept: Kept) -> str:
    """Add the second convolution of a block; it makes the kept channels only."""
    both = zip(("kernel", "bias"), fold_norm(model, name, 1), strict=True)
    weights = [
        graph.add(
            "Gather", f"{name}/1/{part}", graph.constant(f"{name}/1/{part}/all", values), kept.index
        )
        for part, values in both
    ]
    return graph.convolve_by(name, source, *weights, side=3, pads=PADS, activation="Relu")


def _read(graph: Graph, name: str, kernel: Floats, kept: Kept) -> str:
    """Add what of a kernel (out, in, y, x) reads the kept channels, times their factors."""
    everything = graph.constant(f"{name}/all", kernel.astype("float32"))
    picked = graph.add("Gather", f"{name}/picked", everything, kept.index, axis=1)
    return graph.add("Mul", f"{name}/kernel", picked, kept.factor)


def _add_ones(graph: Graph) -> str:
    """Add an image of ones, (1, 1, y, x), as large as the context."""
    size = graph.add("Shape", "size", "context", start=2)
    units = graph.constant("units", np.array([1, 1], dtype="int64"))
    shape = graph.add("Concat", "shape", units, size, axis=0)
    return graph.add("Expand", "ones", graph.constant("unit", np.ones(1, dtype="float32")), shape)


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
