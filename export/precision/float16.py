"""Store and compute the core of a graph in float16; what comes in and goes out stays as it is.

`onnxruntime.transformers.float16` is not used: between two nodes that it is told to leave in float32 it rounds to
float16 and back, and in doing so names several values alike, which is no valid graph (ONNX Runtime 1.31.1).
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.precision.quantizable import core

#: inputs that are float32 in every case, by position
FLOAT_INPUTS = {"Resize": {2}}  # scales
LARGEST = float(np.finfo(np.float16).max)


def to_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with float16 weights and layers between float32 normalizing and float32 scores."""
    half = onnx.ModelProto()
    half.CopyFrom(model)
    _Halving(half).convert()
    return half


class _Halving:
    """One graph on its way: its nodes are rewritten in place and gathered anew, with casts between them."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph = model.graph
        self._weights = {entry.name: entry for entry in self._graph.initializer if entry.data_type == TensorProto.FLOAT}
        graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
        typed = [*graph.value_info, *graph.output, *graph.input]
        #: values in float32 before anything is done
        self._floats = {value.name for value in typed if value.type.tensor_type.elem_type == TensorProto.FLOAT}
        known = self._floats | set(self._weights)
        # What makes a float out of other things, a constant of some shape for example, stays as it is.
        inner = [node for node in core(model) if node.op_type == "Cast" or known & set(node.input)]
        self._inner = {node.name for node in inner}
        self._halved = self._floats & {name for node in inner for name in node.output}
        self._nodes: list[onnx.NodeProto] = []
        self._made: set[str] = set()

    def convert(self) -> None:
        for node in list(self._graph.node):
            if node.name in self._inner:
                self._take_half(node)
            else:
                self._take_float(node)
            self._nodes.append(node)
        used = {name for node in self._nodes for name in node.input}
        kept = [entry for entry in self._graph.initializer if entry.name in used]
        del self._graph.node[:], self._graph.initializer[:]
        self._graph.node.extend(self._nodes)
        self._graph.initializer.extend(kept)

    def _take_half(self, node: onnx.NodeProto) -> None:
        for place, name in enumerate(node.input):
            if place in FLOAT_INPUTS.get(node.op_type, ()):
                continue
            if name in self._weights:
                node.input[place] = self._half_weights(name)
            elif name in self._floats and name not in self._halved:
                node.input[place] = self._cast(name, f"{name}_half", TensorProto.FLOAT16)
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16

    def _take_float(self, node: onnx.NodeProto) -> None:
        for place, name in enumerate(node.input):
            if name in self._halved:
                node.input[place] = self._cast(name, f"{name}_float", TensorProto.FLOAT)

    def _cast(self, name: str, made: str, kind: int) -> str:
        if made not in self._made:
            self._made.add(made)
            self._nodes.append(helper.make_node("Cast", [name], [made], name=f"cast_{made}", to=kind))
        return made

    def _half_weights(self, name: str) -> str:
        made = f"{name}_half"
        if made not in self._made:
            self._made.add(made)
            values = numpy_helper.to_array(self._weights[name])
            rounded = np.clip(values, -LARGEST, LARGEST).astype(np.float16)
            self._graph.initializer.append(numpy_helper.from_array(rounded, made))
        return made
