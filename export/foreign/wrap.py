"""Put a foreign graph between the input and the outputs of a bundle.

Only nodes that every version of the graph's own operator set has are added for a classifier. The labels of pixels need
`OneHot` and a softmax over one axis, so a segmenter is converted to operator set 13 or newer.
"""

from typing import Any

import numpy as np
import onnx
import onnx.compose
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, version_converter

from export.foreign.choices import Activation, Choices
from export.foreign.graph_facts import INPUT_TYPES, GraphFacts, Layout
from tagmill.bundles.metadata import INPUT
from tagmill.errors import InputError
from tagmill.tasks.base import EMBEDDING, MASK, SCORES

#: prefixes of the values and nodes that are added, and of those that the graph had
OWN, THEIRS = "tagmill/", "their/"
#: first operator set in which a softmax is over one axis alone
SOFTMAX_OPSET = 13


def wrap(model: onnx.ModelProto, facts: GraphFacts, choices: Choices, activation: Activation) -> onnx.ModelProto:
    """Return the graph of a bundle: uint8 [N, height, width, 3] RGB in; scores, mask and embedding out.

    Raise InputError if the graph cannot be wrapped.
    """
    # The names of its values may be those of a bundle's input and outputs.
    converted = _converted(model) if choices.task.gives_masks else model
    wrapped = onnx.compose.add_prefix(converted, THEIRS)
    image = f"{THEIRS}{facts.image.name}"
    builder = _Builder(wrapped, image)
    before = builder.preprocess(facts, choices)
    nodes = [*before, *wrapped.graph.node]
    del wrapped.graph.node[:], wrapped.graph.output[:], wrapped.graph.value_info[:]
    height, width = choices.preprocess.height, choices.preprocess.width
    kept = [entry for entry in wrapped.graph.input if entry.name != image]
    del wrapped.graph.input[:]
    wrapped.graph.input.append(helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["n", height, width, 3]))
    wrapped.graph.input.extend(kept)  # weights, in files of the first versions
    after: list[onnx.NodeProto] = []
    if choices.output is not None:
        after += (
            builder.pixel_scores(choices, activation, facts)
            if choices.task.gives_masks
            else builder.scores(f"{THEIRS}{choices.output}", len(choices.labels), activation)
        )
    if choices.embedding is not None:
        after += builder.embedding(f"{THEIRS}{choices.embedding}")
    wrapped.graph.node.extend([*nodes, *after])
    _forget_machine(wrapped)
    return wrapped


class _Builder:
    """Makes nodes, constants and outputs of one graph."""

    def __init__(self, model: onnx.ModelProto, image: str) -> None:
        self._graph = model.graph
        self._opset = next(entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"})
        #: the graph's own input, which becomes an inner value, so that graphs inside the graph find it, too
        self._image = image

    def preprocess(self, facts: GraphFacts, choices: Choices) -> list[onnx.NodeProto]:
        """Return the nodes from uint8 RGB of 0..255 to what the graph takes."""
        nodes, value = [], INPUT
        if choices.bgr:
            # Gather picks the channels in the other order.
            nodes.append(self._node("Gather", [value, self._constant("bgr", np.array([2, 1, 0]))], "swapped", axis=3))
            value = nodes[-1].output[0]
        kind = INPUT_TYPES[facts.image.kind]
        if kind != "uint8":
            nodes.append(self._node("Cast", [value], "float", to=TensorProto.FLOAT))
            scale = np.array(choices.scale / np.array(choices.std), np.float32)
            shift = np.array(-np.array(choices.mean) / np.array(choices.std), np.float32)
            nodes.append(self._node("Mul", [nodes[-1].output[0], self._constant("scale", scale)], "scaled"))
            nodes.append(self._node("Add", [nodes[-1].output[0], self._constant("shift", shift)], "normalized"))
            value = nodes[-1].output[0]
        if choices.layout is Layout.NCHW:
            nodes.append(self._node("Transpose", [value], "planes", perm=[0, 3, 1, 2]))
            value = nodes[-1].output[0]
        if kind == "float16":
            last = helper.make_node("Cast", [value], [self._image], name=f"{OWN}input", to=TensorProto.FLOAT16)
        else:
            last = helper.make_node("Identity", [value], [self._image], name=f"{OWN}input")
        return [*nodes, last]

    def scores(self, output: str, labels: int, activation: Activation) -> list[onnx.NodeProto]:
        """Return the nodes from the graph's output to scores [N, labels]."""
        nodes = self._flat(output, "logits")
        self._output(SCORES, TensorProto.FLOAT, ["n", labels])
        last = nodes[-1].output[0]
        if activation is Activation.NONE:
            return [*nodes, helper.make_node("Identity", [last], [SCORES], name=f"{OWN}scores")]
        operator = "Softmax" if activation is Activation.SOFTMAX else "Sigmoid"
        axis: dict[str, Any] = {"axis": 1} if activation is Activation.SOFTMAX else {}
        return [*nodes, helper.make_node(operator, [last], [SCORES], name=f"{OWN}scores", **axis)]

    def embedding(self, name: str) -> list[onnx.NodeProto]:
        """Return the nodes from a value [N, D] or [N, D, 1, 1] to an embedding of unit length."""
        nodes = self._flat(name, "features")
        last = nodes[-1].output[0]
        squares = self._node("Mul", [last, last], "squares")
        ones = self._sum([squares.output[0]], [1], "length2")
        floor = self._node("Add", [ones.output[0], self._constant("least", np.array(1e-24, np.float32))], "positive")
        root = self._node("Sqrt", [floor.output[0]], "length")
        self._output(EMBEDDING, TensorProto.FLOAT, ["n", None])
        divide = helper.make_node("Div", [last, root.output[0]], [EMBEDDING], name=f"{OWN}embedding")
        return [*nodes, squares, ones, floor, root, divide]

    def pixel_scores(self, choices: Choices, activation: Activation, facts: GraphFacts) -> list[onnx.NodeProto]:
        """Return the nodes from scores of each pixel to the mask, and to each label's mean over its own pixels."""
        shapes = {value.name: value.shape for value in facts.outputs}
        if len(shapes.get(str(choices.output)) or ()) == 3:
            return self._labeled_pixels(choices)
        height, width, labels = choices.preprocess.height, choices.preprocess.width, len(choices.labels)
        value = self._node("Cast", [f"{THEIRS}{choices.output}"], "pixels", to=TensorProto.FLOAT)
        nodes, planes = [value], value.output[0]
        if choices.layout is Layout.NHWC:
            nodes.append(self._node("Transpose", [planes], "label_planes", perm=[0, 3, 1, 2]))
            planes = nodes[-1].output[0]
        shape = self._node("Shape", [planes], "plane_shape")
        start = self._node("Slice", [shape.output[0], self._constant("from", np.array([0])),
                                     self._constant("to", np.array([2]))], "first_dims")  # fmt: skip
        sides = self._constant("sides", np.array([height, width]))
        sizes = self._node("Concat", [start.output[0], sides], "sizes", axis=0)
        resized = self._node("Resize", [planes, "", "", sizes.output[0]], "full", mode="linear",
                             coordinate_transformation_mode="half_pixel")  # fmt: skip
        nodes += [shape, start, sizes, resized]
        probable = resized
        if activation is not Activation.NONE:
            operator = "Softmax" if activation is Activation.SOFTMAX else "Sigmoid"
            axis = {"axis": 1} if activation is Activation.SOFTMAX else {}
            probable = self._node(operator, [resized.output[0]], "probabilities", **axis)
            nodes.append(probable)
        # Of the logits: large ones have the same sigmoid, 1.
        best = self._node("ArgMax", [resized.output[0]], "best", axis=1, keepdims=0)
        mask = helper.make_node("Cast", [best.output[0]], [MASK], name=f"{OWN}mask", to=TensorProto.UINT8)
        onehot = self._own_pixels(best.output[0], labels)
        kept = self._node("Mul", [onehot.output[0], probable.output[0]], "own_scores")
        sums, areas = self._sum([kept.output[0]], [2, 3], "sums", 0), self._sum([onehot.output[0]], [2, 3], "areas", 0)
        least = self._node("Max", [areas.output[0], self._constant("one", np.array(1.0, np.float32))], "least_area")
        mean = helper.make_node("Div", [sums.output[0], least.output[0]], [SCORES], name=f"{OWN}scores")
        self._output(MASK, TensorProto.UINT8, ["n", height, width])
        self._output(SCORES, TensorProto.FLOAT, ["n", labels])
        return [*nodes, best, mask, onehot, kept, sums, areas, least, mean]

    def _labeled_pixels(self, choices: Choices) -> list[onnx.NodeProto]:
        """Return the nodes for a graph that gives a label for each pixel: a label that is there has the score 1."""
        height, width, labels = choices.preprocess.height, choices.preprocess.width, len(choices.labels)
        whole = self._node("Cast", [f"{THEIRS}{choices.output}"], "whole", to=TensorProto.INT64)
        mask = helper.make_node("Cast", [whole.output[0]], [MASK], name=f"{OWN}mask", to=TensorProto.UINT8)
        onehot = self._own_pixels(whole.output[0], labels)
        scores = helper.make_node(
            "ReduceMax", [onehot.output[0]], [SCORES], name=f"{OWN}scores", axes=[2, 3], keepdims=0
        )
        if self._opset >= 18:  # axes are an input from then on
            del scores.attribute[:]
            scores.input.append(self._constant("pixel_axes", np.array([2, 3])))
            scores.attribute.append(helper.make_attribute("keepdims", 0))
        self._output(MASK, TensorProto.UINT8, ["n", height, width])
        self._output(SCORES, TensorProto.FLOAT, ["n", labels])
        return [whole, mask, onehot, scores]

    def _own_pixels(self, index: str, labels: int) -> onnx.NodeProto:
        """Return the node from the label of each pixel to 1 in the plane of that label and 0 in the others."""
        values = [self._constant("labels", np.array(labels)), self._constant("off_on", np.array([0, 1], np.float32))]
        return self._node("OneHot", [index, *values], "own", axis=1)

    def _flat(self, name: str, result: str) -> list[onnx.NodeProto]:
        """Return the nodes that make a value float32 [N, C]."""
        cast = self._node("Cast", [name], f"{result}_float", to=TensorProto.FLOAT)
        return [cast, self._node("Flatten", [cast.output[0]], result, axis=1)]

    def _sum(self, values: list[str], axes: list[int], result: str, keepdims: int = 1) -> onnx.NodeProto:
        if self._opset < SOFTMAX_OPSET:
            return self._node("ReduceSum", values, result, axes=axes, keepdims=keepdims)
        inputs = [*values, self._constant(f"{result}_axes", np.array(axes))]
        return self._node("ReduceSum", inputs, result, keepdims=keepdims)

    def _node(self, operator: str, inputs: list[str], result: str, **attributes: Any) -> onnx.NodeProto:
        return helper.make_node(operator, inputs, [f"{OWN}{result}"], name=f"{OWN}{result}", **attributes)

    def _constant(self, name: str, value: NDArray[Any]) -> str:
        self._graph.initializer.append(numpy_helper.from_array(value, f"{OWN}{name}"))
        return f"{OWN}{name}"

    def _output(self, name: str, kind: int, shape: list[str | int | None]) -> None:
        self._graph.output.append(helper.make_tensor_value_info(name, kind, shape))


def _forget_machine(model: onnx.ModelProto) -> None:
    """Remove what may name the machine of the export, such as the stack traces that PyTorch stores with each node."""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    model.doc_string = model.graph.doc_string = ""
    entries = [*model.graph.node, *model.graph.initializer, *model.graph.input, *model.graph.output, *model.functions]
    for entry in [*entries, *(node for function in model.functions for node in function.node)]:
        entry.doc_string = ""
        del entry.metadata_props[:]


def _converted(model: onnx.ModelProto) -> onnx.ModelProto:
    opset = next(entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"})
    if opset >= SOFTMAX_OPSET:
        return model
    try:
        converted: onnx.ModelProto = version_converter.convert_version(model, SOFTMAX_OPSET)
    except Exception as error:  # the converter raises RuntimeError and others
        reason = str(error).strip().partition("\n")[0][:200]
        raise InputError(
            f"operator set {opset} cannot be converted to {SOFTMAX_OPSET} ({reason}); export the graph again with a "
            "newer one"
        ) from error
    return converted
