"""Real ONNX bundles that loop forever or run out of memory on some images."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from support.bundles import COLORS
from tagmill.bundles.spec import INPUT, BundleSpec
from tagmill.images.preprocess import PreprocessSpec
from tagmill.tasks.base import SCORES
from tagmill.tasks.classify import CLASSIFY

#: red of the first pixel of an image that triggers the fault
BAD_RED = 77
#: more bytes than a process can address
TOO_MUCH = 2**50


def write_endless_classifier(path: Path, size: int = 16) -> Path:
    """Write a color classifier that loops forever on a batch that holds an image whose first red is `BAD_RED`."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["continue"], ["continue_out"]),
            helper.make_node("Identity", ["carried"], ["carried_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("iteration", TensorProto.INT64, []),
            helper.make_tensor_value_info("continue", TensorProto.BOOL, []),
            helper.make_tensor_value_info("carried", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("continue_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("carried_out", TensorProto.FLOAT, None),
        ],
    )
    nodes = [
        helper.make_node("Mul", ["is_bad", "endless"], ["iterations"]),
        helper.make_node("Loop", ["iterations", "", "logits"], ["looped"], body=body),
        helper.make_node("Softmax", ["looped"], [SCORES], axis=1),
    ]
    return _write(path, "endless", size, nodes, {"endless": np.array(2**62, dtype=np.int64)})


def write_hungry_classifier(path: Path, size: int = 16, most: int = 4) -> Path:
    """Write a classifier that runs out of memory on more than `most` images, or if a first red is `BAD_RED`."""
    nodes = [
        helper.make_node("Shape", [INPUT], ["shape"], start=0, end=1),
        helper.make_node("Greater", ["shape", "most"], ["too_many"]),
        helper.make_node("Cast", ["too_many"], ["many"], to=TensorProto.INT64),
        helper.make_node("Add", ["many", "is_bad"], ["bad_count"]),
        helper.make_node("Mul", ["bad_count", "too_much"], ["needed"]),
        helper.make_node("ConstantOfShape", ["needed"], ["filled"], value=helper.make_tensor("v", 1, [1], [0.0])),
        helper.make_node("ReduceSum", ["filled"], ["zero"], keepdims=0),
        helper.make_node("Add", ["logits", "zero"], ["shifted"]),
        helper.make_node("Softmax", ["shifted"], [SCORES], axis=1),
    ]
    constants = {"most": np.array([most], dtype=np.int64), "too_much": np.array([TOO_MUCH], dtype=np.int64)}
    return _write(path, "hungry", size, nodes, constants)


def _write(path: Path, name: str, size: int, nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray]) -> Path:
    """Write a classifier of the mean color. `nodes` compute the scores from `logits` and `is_bad` (int64, 0 or 1)."""
    common = [
        helper.make_node("Cast", [INPUT], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Cast", [INPUT], ["whole"], to=TensorProto.INT64),
        helper.make_node("Slice", ["whole", "start", "end", "slice_axes"], ["first"]),
        helper.make_node("Equal", ["first", "bad"], ["bad_pixel"]),
        helper.make_node("Cast", ["bad_pixel"], ["bad_images"], to=TensorProto.INT64),
        helper.make_node("ReduceMax", ["bad_images", "all_axes"], ["is_bad"], keepdims=0),
        helper.make_node("ReduceMean", ["float", "axes"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "scale"], ["logits"]),
    ]
    constants = constants | {
        "start": np.array([0, 0, 0], dtype=np.int64),
        "end": np.array([1, 1, 1], dtype=np.int64),
        "slice_axes": np.array([1, 2, 3], dtype=np.int64),
        "all_axes": np.array([0, 1, 2, 3], dtype=np.int64),
        "bad": np.array(BAD_RED, dtype=np.int64),
        "scale": np.array(20 / 255, dtype=np.float32),
        "axes": np.array([1, 2], dtype=np.int64),
    }
    spec = BundleSpec(name, CLASSIFY, COLORS, PreprocessSpec(size, size))
    graph = helper.make_graph(
        [*common, *nodes],
        name,
        [helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["n", size, size, 3])],
        [helper.make_tensor_value_info(SCORES, TensorProto.FLOAT, ["n", len(COLORS)])],
        [numpy_helper.from_array(value, key) for key, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    helper.set_model_props(model, spec.to_metadata())
    onnx.save(model, path)
    return path
