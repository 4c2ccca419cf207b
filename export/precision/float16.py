"""Convert the quantizable part of a graph to float16; its inputs and outputs keep their types.

`onnxruntime.transformers.float16` is not used: between two nodes that it must leave in float32 it casts to float16
and back, and gives several values the same name, so that the graph is invalid (ONNX Runtime 1.31.1).
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.precision.quantizable import quantizable_nodes

#: positions of the inputs that an operator takes in float32 only
FLOAT32_INPUTS = {"Resize": {2}}  # scales
LARGEST_FLOAT16 = float(np.finfo(np.float16).max)


def to_float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with weights and layers in float16; pixels are normalized and scores computed in float32."""
    converted = onnx.ModelProto()
    converted.CopyFrom(model)
    _Float16Converter(converted).convert()
    return converted


class _Float16Converter:
    """Rewrites the nodes of one graph in place, and adds casts between float16 and float32."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph = model.graph
        self._weights = {entry.name: entry for entry in self._graph.initializer if entry.data_type == TensorProto.FLOAT}
        graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
        typed = [*graph.value_info, *graph.output, *graph.input]
        #: values that are float32 before the conversion
        self._float32_values = {value.name for value in typed if value.type.tensor_type.elem_type == TensorProto.FLOAT}
        float32_inputs = self._float32_values | set(self._weights)
        # A node that makes a float from other types, such as a constant of some shape, is left as it is.
        nodes = [
            node for node in quantizable_nodes(model) if node.op_type == "Cast" or float32_inputs & set(node.input)
        ]
        self._converted = {node.name for node in nodes}
        self._float16_values = self._float32_values & {name for node in nodes for name in node.output}
        self._nodes: list[onnx.NodeProto] = []
        #: names of the casts and weights that were added
        self._added: set[str] = set()

    def convert(self) -> None:
        """Convert the graph."""
        for node in list(self._graph.node):
            if node.name in self._converted:
                self._convert_node(node)
            else:
                self._keep_node(node)
            self._nodes.append(node)
        used = {name for node in self._nodes for name in node.input}
        kept = [entry for entry in self._graph.initializer if entry.name in used]
        del self._graph.node[:], self._graph.initializer[:]
        self._graph.node.extend(self._nodes)
        self._graph.initializer.extend(kept)

    def _convert_node(self, node: onnx.NodeProto) -> None:
        """Give a node float16 inputs, so that it computes in float16."""
        for position, name in enumerate(node.input):
            if position in FLOAT32_INPUTS.get(node.op_type, ()):
                continue
            if name in self._weights:
                node.input[position] = self._float16_weights(name)
            elif name in self._float32_values and name not in self._float16_values:
                node.input[position] = self._cast(name, f"{name}_half", TensorProto.FLOAT16)
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16

    def _keep_node(self, node: onnx.NodeProto) -> None:
        """Give a node that stays in float32 the converted values as float32."""
        for position, name in enumerate(node.input):
            if name in self._float16_values:
                node.input[position] = self._cast(name, f"{name}_float", TensorProto.FLOAT)

    def _cast(self, name: str, output: str, data_type: int) -> str:
        if output not in self._added:
            self._added.add(output)
            self._nodes.append(helper.make_node("Cast", [name], [output], name=f"cast_{output}", to=data_type))
        return output

    def _float16_weights(self, name: str) -> str:
        output = f"{name}_half"
        if output not in self._added:
            self._added.add(output)
            values = numpy_helper.to_array(self._weights[name])
            rounded = np.clip(values, -LARGEST_FLOAT16, LARGEST_FLOAT16).astype(np.float16)
            self._graph.initializer.append(numpy_helper.from_array(rounded, output))
        return output
