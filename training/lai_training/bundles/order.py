"""One order and one set of names for an ONNX graph: the same network is the same bytes.

Keras' exporter walks through sets and numbers what it meets, so two exports of one network differ
in the order of operators and in every inner name. Input: such a graph. Output: one that
computes the same, operator by operator, in an order that follows from its outputs alone.
"""

import copy
from collections.abc import Sequence

import onnx

GRAPH_NAME = "lai"


def canonicalize_graph(model: onnx.ModelProto) -> None:
    """Sort operators and weights of a graph, and rename all but its inputs and outputs, in place.

    An operator comes after what it reads, its inputs in their order, beginning with the first
    output of the graph; what no output needs goes.
    """
    graph = model.graph
    nodes = _sort_nodes(graph)
    weights = {weight.name: weight for weight in graph.initializer}
    read = list(dict.fromkeys(name for node in nodes for name in node.input if name in weights))
    names = {name: f"weight{number}" for number, name in enumerate(read)}
    outputs = {output.name for output in graph.output}
    for number, node in enumerate(nodes):
        node.name = f"{node.op_type}{number}"
        for place, name in enumerate(node.output):
            names[name] = name if name in outputs else f"value{number}_{place}"
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names[name] for name in node.output]
        attributes = sorted(node.attribute, key=lambda attribute: attribute.name)
        _replace(node, "attribute", attributes)
    for name in read:
        weights[name].name = names[name]
    _replace(graph, "initializer", [weights[name] for name in read])
    _replace(graph, "node", nodes)
    graph.ClearField("value_info")
    graph.ClearField("doc_string")  # names the function that was traced
    graph.name = GRAPH_NAME


def _sort_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Return the operators that the outputs need, each after those that it reads."""
    makers = {name: node for node in graph.node for name in node.output}
    found: dict[int, onnx.NodeProto] = {}

    def visit(name: str) -> None:
        node = makers.get(name)
        if node is None or id(node) in found:
            return
        for read in node.input:
            visit(read)
        found[id(node)] = node

    for output in graph.output:
        visit(output.name)
    return list(found.values())


def _replace(
    message: onnx.NodeProto | onnx.GraphProto,
    field: str,
    items: Sequence[onnx.NodeProto | onnx.TensorProto | onnx.AttributeProto],
) -> None:
    """Put items in the place of a repeated field, of which they may be parts."""
    copies = [copy.deepcopy(item) for item in items]
    message.ClearField(field)
    getattr(message, field).extend(copies)
