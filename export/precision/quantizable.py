"""Find the quantizable part of a graph: everything from the first to the last layer with weights."""

import onnx

#: operators that hold nearly all weights and do nearly all work
LAYER_OPERATORS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


def weight_layers(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Return the nodes with weights, in the order of the graph."""
    weights = {entry.name for entry in model.graph.initializer}
    return [node for node in model.graph.node if node.op_type in LAYER_OPERATORS and weights & set(node.input)]


def quantizable_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Return the layers with weights, and the nodes that come after one of them and before another.

    Left out are the normalization of the pixels, and temperature, softmax, sigmoid, argmax and top-k: little work on
    values that must not be rounded.
    """
    layers = {node.name for node in weight_layers(model)}
    nodes = list(model.graph.node)
    after: set[str] = set()  # values that depend on a layer
    for node in nodes:
        if node.name in layers or after & set(node.input):
            after.update(node.output)
    before: set[str] = set()  # values that a layer depends on
    for node in reversed(nodes):
        if node.name in layers or before & set(node.output):
            before.update(node.input)
    return [node for node in nodes if node.name in layers or (after & set(node.output) and before & set(node.output))]
