"""Small real bundles for tests: ONNX graphs whose results follow by arithmetic, written in milliseconds.

The classifier answers red, green or blue by the mean color of an image. The segmenter labels each pixel by its
strongest color, or as background if it is nearly white.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tagmill.bundles.metadata import INPUT, BundleSpec
from tagmill.images.preprocess import Geometry, PreprocessSpec
from tagmill.tasks.base import ACTIVATION_MAP, EMBEDDING, MASK, SCORES, Task
from tagmill.tasks.classify import CLASSIFY
from tagmill.tasks.embed import EMBED
from tagmill.tasks.multilabel import MULTILABEL
from tagmill.tasks.segment import SEGMENT

COLORS = ("red", "green", "blue")
#: the sides of a box, in order
BOX = ("left", "top", "right", "bottom")


def write_classifier(
    path: Path,
    size: int = 16,
    name: str = "colors",
    sharpness: float = 20.0,
    temperature: float = 1.0,
    embedding: bool = False,
    activation_map: bool = False,
) -> Path:
    """Write a classifier of the three colors. Another `sharpness` or `temperature` gives another bundle.

    Its embedding is the mean color, scaled to unit length, and its activation map the red of each pixel.
    """
    nodes = [
        helper.make_node("Cast", [INPUT], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float", "axes"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "scale"], ["logits"]),
        helper.make_node("Softmax", ["logits"], [SCORES], axis=1),
    ]
    constants = {
        "axes": np.array([1, 2], dtype=np.int64),
        "scale": np.array(sharpness / temperature / 255, dtype=np.float32),
    }
    outputs: dict[str, tuple[int, list[str | int]]] = {SCORES: (TensorProto.FLOAT, ["n", 3])}
    if embedding:
        nodes.append(helper.make_node("LpNormalization", ["mean"], [EMBEDDING], axis=1))
        outputs[EMBEDDING] = (TensorProto.FLOAT, ["n", 3])
    if activation_map:
        constants["first"] = np.array(0, dtype=np.int64)
        nodes.append(helper.make_node("Gather", [INPUT, "first"], [ACTIVATION_MAP], axis=3))
        outputs[ACTIVATION_MAP] = (TensorProto.UINT8, ["n", size, size])
    spec = BundleSpec(
        *(name, CLASSIFY, COLORS, PreprocessSpec(size, size)),
        temperature=temperature,
        embedding=3 if embedding else 0,
        activation_map=activation_map,
    )
    return _write(path, spec, nodes, constants, outputs)


def write_image_tower(path: Path, size: int = 16) -> Path:
    """Write a model without labels, whose embedding is the mean color, scaled to unit length."""
    nodes = [
        helper.make_node("Cast", [INPUT], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float", "axes"], ["mean"], keepdims=0),
        helper.make_node("LpNormalization", ["mean"], [EMBEDDING], axis=1),
    ]
    constants = {"axes": np.array([1, 2], dtype=np.int64)}
    spec = BundleSpec("tower", EMBED, (), PreprocessSpec(size, size), embedding=3)
    return _write(path, spec, nodes, constants, {EMBEDDING: (TensorProto.FLOAT, ["n", 3])})


def write_logits(path: Path, factor: float = 1.0, size: int = 16) -> Path:
    """Write a classifier without a softmax: its scores are the mean colors, 0 to 255, times `factor`."""
    nodes = [
        helper.make_node("Cast", [INPUT], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float", "axes"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "factor"], [SCORES]),
    ]
    constants = {"axes": np.array([1, 2], dtype=np.int64), "factor": np.array(factor, dtype=np.float32)}
    spec = BundleSpec("logits", CLASSIFY, COLORS, PreprocessSpec(size, size))
    return _write(path, spec, nodes, constants, {SCORES: (TensorProto.FLOAT, ["n", 3])})


def write_tagger(path: Path, size: int = 16, temperature: float = 1.0) -> Path:
    """Write a multi-label model: a score is 0.5 at a mean color of 128, near 0 far below and near 1 far above."""
    nodes = [
        helper.make_node("Cast", [INPUT], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float", "axes"], ["mean"], keepdims=0),
        helper.make_node("Sub", ["mean", "middle"], ["distance"]),
        helper.make_node("Mul", ["distance", "scale"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], [SCORES]),
    ]
    constants = {
        "axes": np.array([1, 2], dtype=np.int64),
        "middle": np.array(128, dtype=np.float32),
        "scale": np.array(0.05 / temperature, dtype=np.float32),
    }
    spec = BundleSpec("color-tags", MULTILABEL, COLORS, PreprocessSpec(size, size), temperature=temperature)
    return _write(path, spec, nodes, constants, {SCORES: (TensorProto.FLOAT, ["n", 3])})


def write_segmenter(path: Path, size: int = 32, geometry: Geometry = Geometry.STRETCH) -> Path:
    """Write a segmenter of the three colors on a white background."""
    nodes = [
        helper.make_node("Cast", [INPUT], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMin", ["float", "last"], ["darkest"], keepdims=1),
        helper.make_node("Sub", ["darkest", "almost_white"], ["background"]),
        helper.make_node("Sub", ["float", "darkest"], ["saturation"]),
        helper.make_node("Concat", ["background", "saturation"], ["raw"], axis=3),
        helper.make_node("Mul", ["raw", "scale"], ["logits"]),
        helper.make_node("ArgMax", ["logits"], ["index"], axis=3, keepdims=0),
        helper.make_node("Cast", ["index"], [MASK], to=TensorProto.UINT8),
        helper.make_node("Softmax", ["logits"], ["probability"], axis=3),
        helper.make_node("ReduceMax", ["probability", "pixels"], [SCORES], keepdims=0),
    ]
    constants = {
        "last": np.array([3], dtype=np.int64),
        "pixels": np.array([1, 2], dtype=np.int64),
        "almost_white": np.array(128, dtype=np.float32),
        "scale": np.array(0.1, dtype=np.float32),
    }
    preprocess = PreprocessSpec(size, size, geometry)
    spec = BundleSpec("color-masks", SEGMENT, ("background", *COLORS), preprocess, background="background")
    outputs = {MASK: (TensorProto.UINT8, ["n", size, size]), SCORES: (TensorProto.FLOAT, ["n", 4])}
    return _write(path, spec, nodes, constants, outputs)


def write_fussy_classifier(path: Path, size: int = 16) -> Path:
    """Write a classifier that raises on any batch with an image whose first pixel has a red of 77."""
    nodes = [
        helper.make_node("Cast", [INPUT], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Cast", [INPUT], ["whole"], to=TensorProto.INT64),
        helper.make_node("Slice", ["whole", "start", "end", "slice_axes"], ["first"]),
        helper.make_node("ReduceMax", ["is_bad", "all_axes"], ["offset"], keepdims=0),
        helper.make_node("Equal", ["first", "bad"], ["bad_pixel"]),
        helper.make_node("Cast", ["bad_pixel"], ["is_bad"], to=TensorProto.INT64),
        # Gather raises at run time for an index outside the three entries.
        helper.make_node("Mul", ["offset", "far"], ["where"]),
        helper.make_node("Gather", ["table", "where"], ["one"]),
        helper.make_node("ReduceMean", ["float", "axes"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "one"], ["logits"]),
        helper.make_node("Softmax", ["logits"], [SCORES], axis=1),
    ]
    order = [0, 1, 2, 4, 5, 3, 6, 7, 8, 9, 10]
    constants = {
        "start": np.array([0, 0, 0], dtype=np.int64),
        "end": np.array([1, 1, 1], dtype=np.int64),
        "slice_axes": np.array([1, 2, 3], dtype=np.int64),
        "all_axes": np.array([0, 1, 2, 3], dtype=np.int64),
        "bad": np.array(77, dtype=np.int64),
        "far": np.array(99, dtype=np.int64),
        "table": np.array([0.08, 0.08, 0.08], dtype=np.float32),
        "axes": np.array([1, 2], dtype=np.int64),
    }
    spec = BundleSpec("fussy", CLASSIFY, COLORS, PreprocessSpec(size, size))
    return _write(path, spec, [nodes[i] for i in order], constants, {SCORES: (TensorProto.FLOAT, ["n", 3])})


def write_box_finder(path: Path, task: Task, size: int = 16) -> Path:
    """Write a model that gives for each color the smallest box around its bright pixels; `task` has output `boxes`."""
    sides = {"left": ("columns", 0), "top": ("rows", 0), "last_column": ("columns", 1), "last_row": ("rows", 1)}
    nodes = [
        helper.make_node("Cast", [INPUT], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["float", "axes"], ["brightest"], keepdims=0),
        helper.make_node("Div", ["brightest", "white"], [SCORES]),
        helper.make_node("Greater", ["float", "middle"], ["is_bright"]),
        helper.make_node("Cast", ["is_bright"], ["bright"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["bright", "down"], ["columns"], keepdims=0),
        helper.make_node("ReduceMax", ["bright", "across"], ["rows"], keepdims=0),
        *(
            helper.make_node("ArgMax", [source], [side], axis=1, keepdims=0, select_last_index=last)
            for side, (source, last) in sides.items()
        ),
        helper.make_node("Add", ["last_column", "one"], ["right"]),
        helper.make_node("Add", ["last_row", "one"], ["bottom"]),
        *(helper.make_node("Unsqueeze", [side, "behind"], [f"{side}_column"]) for side in BOX),
        helper.make_node("Concat", [f"{side}_column" for side in BOX], ["boxes"], axis=2),
    ]
    constants = {
        "axes": np.array([1, 2], dtype=np.int64),
        "white": np.array(255, dtype=np.float32),
        "middle": np.array(128, dtype=np.float32),
        "down": np.array([1], dtype=np.int64),
        "across": np.array([2], dtype=np.int64),
        "one": np.array(1, dtype=np.int64),
        "behind": np.array([2], dtype=np.int64),
    }
    outputs = {SCORES: (TensorProto.FLOAT, ["n", 3]), "boxes": (TensorProto.INT64, ["n", 3, 4])}
    return _write(path, BundleSpec("boxes", task, COLORS, PreprocessSpec(size, size)), nodes, constants, outputs)


def _write(
    path: Path,
    spec: BundleSpec,
    nodes: list[onnx.NodeProto],
    constants: dict[str, np.ndarray],
    outputs: dict[str, tuple[int, list[str | int]]],
) -> Path:
    shape = ["n", spec.preprocess.height, spec.preprocess.width, 3]
    graph = helper.make_graph(
        nodes,
        spec.name,
        [helper.make_tensor_value_info(INPUT, TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info(name, kind, dims) for name, (kind, dims) in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    helper.set_model_props(model, spec.to_metadata())
    onnx.save(model, path)
    return path


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
    return _write_classifier(path, "endless", size, nodes, {"endless": np.array(2**62, dtype=np.int64)})


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
    return _write_classifier(path, "hungry", size, nodes, constants)


def _write_classifier(
    path: Path, name: str, size: int, nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray]
) -> Path:
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
