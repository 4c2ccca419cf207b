"""Which part of a graph may be computed with fewer bits: all from the first to the last layer with weights."""

import onnx

#: operators that hold nearly all weights and nearly all work
LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


def layers(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Return the nodes with weights, in the order of the graph."""
    weights = {entry.name for entry in model.graph.initializer}
    return [node for node in model.graph.node if node.op_type in LAYERS and weights & set(node.input)]


def core(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Return the nodes that come after some layer with weights and before another, those layers included.

    Outside are the normalization of the pixels, and temperature, softmax, sigmoid, argmax and top-k: small work on
    values that must not be rounded.
    """
    weighted = {node.name for node in layers(model)}
    nodes = list(model.graph.node)
    reached: set[str] = set()
    for node in nodes:
        if node.name in weighted or reached & set(node.input):
            reached.update(node.output)
    needed: set[str] = set()
    for node in reversed(nodes):
        if node.name in weighted or needed & set(node.output):
            needed.update(node.input)
    return [
        node for node in nodes if node.name in weighted or (reached & set(node.output) and needed & set(node.output))
    ]
