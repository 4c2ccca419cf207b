"""Let a graph that was exported for a fixed number of images take any number, if its layers allow it."""

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import numpy_helper

#: largest difference of outputs between one image alone and several together, relative to the largest output
ALIKE = 1e-3


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a graph that may be changed."""
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    return copied


def open_original(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """Return a CPU session of a graph. Raise what ONNX Runtime raises."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def fixed_batch(model: onnx.ModelProto, image: str) -> int:
    """Return the number of images that a graph takes; 0: any."""
    (entry,) = (entry for entry in model.graph.input if entry.name == image)
    return int(entry.type.tensor_type.shape.dim[0].dim_value)


def freed(model: onnx.ModelProto, image: str, example: NDArray[np.generic]) -> onnx.ModelProto | None:
    """Return the graph with a free number of images, or None if it does not work.

    `example` is one image as the graph takes it, [1, ...]. Reshapes to a first side of the fixed number are made to
    keep the side that comes in. Two and five images must give what one image gives.
    """
    fixed = fixed_batch(model, image)
    candidate = copy_of(model)
    for entry in [*candidate.graph.input, *candidate.graph.output]:
        dims = entry.type.tensor_type.shape.dim
        if dims and dims[0].dim_value == fixed and (entry.name == image or entry in candidate.graph.output):
            dims[0].dim_param = "n"
    del candidate.graph.value_info[:]
    _keep_first_side(candidate, fixed)
    try:
        before, after = open_original(model), open_original(candidate)
        expected = before.run(None, {image: np.repeat(example, fixed, axis=0)})
        for count in (1, 2, 5):
            for one, several in zip(expected, after.run(None, {image: np.repeat(example, count, axis=0)}), strict=True):
                wanted = np.repeat(one[:1], count, axis=0)
                if several.shape != wanted.shape or np.abs(several - wanted).max() > ALIKE * (np.abs(one).max() + 1e-6):
                    return None
    except Exception:  # ONNX Runtime's exceptions have no common base
        return None
    return candidate


def _keep_first_side(model: onnx.ModelProto, fixed: int) -> None:
    """Make Reshape nodes keep their input's first side, where a constant shape begins with the fixed number."""
    shapes = {node.input[1] for node in model.graph.node if node.op_type == "Reshape"}
    constants = [entry for entry in model.graph.initializer if entry.name in shapes]
    constants += [
        attribute.t
        for node in model.graph.node
        if node.op_type == "Constant" and node.output[0] in shapes
        for attribute in node.attribute
        if attribute.name == "value"
    ]
    for tensor in constants:
        shape = numpy_helper.to_array(tensor).copy()
        if shape.ndim == 1 and len(shape) > 1 and shape[0] == fixed:
            shape[0] = 0
            tensor.CopyFrom(numpy_helper.from_array(shape, tensor.name))
