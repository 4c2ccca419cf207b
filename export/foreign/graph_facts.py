"""Read what an ONNX graph says of itself: its input, its outputs, and how it wants pixels."""

import ast
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import onnx
from onnx import TensorProto

from tagmill.errors import InputError

#: element types of an input that pixels become
FLOATS: dict[int, str] = {TensorProto.FLOAT: "float32", TensorProto.FLOAT16: "float16"}
INPUT_TYPES: dict[int, str] = FLOATS | {TensorProto.UINT8: "uint8"}
#: Image.NominalPixelRange (onnx/docs/MetadataProps.md) -> scale, then mean and standard deviation
RANGES = {
    "NominalRange_0_255": (1.0, 0.0, 1.0),
    "Normalized_0_1": (1 / 255, 0.0, 1.0),
    "Normalized_1_1": (1 / 255, 0.5, 0.5),
}
#: operators that leave pixels where they are
_SAME_SHAPE = {"Identity", "Cast", "Sub", "Div", "Mul", "Add", "BatchNormalization"}


class Layout(StrEnum):
    """Where the channels of a graph's input are."""

    #: [N, 3, height, width], as PyTorch has it
    NCHW = "nchw"
    #: [N, height, width, 3], as TensorFlow has it
    NHWC = "nhwc"


@dataclass(frozen=True)
class Value:
    """An input or output of a graph."""

    name: str
    #: onnx.TensorProto.DataType
    kind: int
    #: None for a dimension that is known only at run time; None for an unknown rank
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True)
class GraphFacts:
    """What a graph says of itself."""

    image: Value
    outputs: tuple[Value, ...]
    metadata: dict[str, str]
    #: None if it cannot be told
    layout: Layout | None
    #: height and width; None if the graph takes any
    size: tuple[int, int] | None
    #: whether its metadata says that it takes blue first
    bgr: bool
    #: of its metadata: scale, mean and standard deviation
    range: tuple[float, float, float] | None
    #: operator of the first node that reads pixels, behind casts and transpositions, if it has a constant operand
    first_arithmetic: str | None


def load_graph(path: Path) -> onnx.ModelProto:
    """Return an ONNX file with all its weights, those of other files, too. Raise InputError if it cannot be read."""
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except FileNotFoundError as error:
        missing = error.filename or path
        raise InputError(f"{missing}: no such file; name the .onnx file, with its weights beside it") from error
    except Exception as error:  # onnx and protobuf have no common base
        reason = str(error).strip().partition("\n")[0][:200]
        raise InputError(f"{path}: is no ONNX graph that can be read ({reason})") from error
    return model


def read_facts(model: onnx.ModelProto, path: Path) -> GraphFacts:
    """Return the facts of a graph of one image input. Raise InputError for any other."""
    weights = {entry.name for entry in model.graph.initializer}
    inputs = [_value(entry) for entry in model.graph.input if entry.name not in weights]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs) or "none"
        raise InputError(f"{path}: has {len(inputs)} inputs ({names}); only a graph of one image input can be imported")
    (image,) = inputs
    if image.kind not in INPUT_TYPES or image.shape is None or len(image.shape) != 4:
        kind = TensorProto.DataType.Name(image.kind).lower()
        raise InputError(
            f"{path}: its input {image.name} is {kind} {list(image.shape or ())}, not images: float32, float16 or "
            "uint8 of four dimensions"
        )
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    layout = _layout(model, image.name, image.shape)
    return GraphFacts(
        image=image,
        outputs=tuple(_value(entry) for entry in model.graph.output),
        metadata=metadata,
        layout=layout,
        size=_size(image.shape, layout, metadata),
        bgr=metadata.get("Image.BitmapPixelFormat", "").lower().startswith("bgr"),
        range=RANGES.get(metadata.get("Image.NominalPixelRange", "")),
        first_arithmetic=_first_arithmetic(model, image.name, weights),
    )


def last_operator(model: onnx.ModelProto, output: str) -> str:
    """Return the operator that gives an output, behind those that only reshape or cast it; "" for an input."""
    makers = {name: node for node in model.graph.node for name in node.output}
    node = makers.get(output)
    while node is not None and node.op_type in {"Identity", "Cast", "Reshape", "Squeeze", "Flatten", "Transpose"}:
        node = makers.get(node.input[0])
    return "" if node is None else str(node.op_type)


def _value(entry: onnx.ValueInfoProto) -> Value:
    tensor = entry.type.tensor_type
    shape = None
    if tensor.HasField("shape"):
        shape = tuple(dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None
                      for dim in tensor.shape.dim)  # fmt: skip
    return Value(entry.name, tensor.elem_type, shape)


def _layout(model: onnx.ModelProto, image: str, shape: tuple[int | None, ...]) -> Layout | None:
    dims = next(entry for entry in model.graph.input if len(entry.type.tensor_type.shape.dim) == 4)
    denoted = [dim.denotation for dim in dims.type.tensor_type.shape.dim]
    if "DATA_CHANNEL" in denoted:
        return Layout.NCHW if denoted.index("DATA_CHANNEL") == 1 else Layout.NHWC
    first, last = shape[1] == 3, shape[3] == 3
    if first == last:
        return _layout_of_first_convolution(model, image)
    return Layout.NCHW if first else Layout.NHWC


def _layout_of_first_convolution(model: onnx.ModelProto, name: str) -> Layout | None:
    """Return the layout of pixels that reach a convolution, which reads NCHW (onnx/docs/Operators.md), or None.

    Hugging Face's graphs leave all sides free, the channels, too.
    """
    layout = Layout.NCHW
    for node in model.graph.node:  # in the order in which they run
        if name not in node.input:
            continue
        if node.op_type == "Conv":
            return layout
        if node.op_type == "Transpose":
            perm = next((list(entry.ints) for entry in node.attribute if entry.name == "perm"), [])
            if perm != [0, 3, 1, 2] or layout is Layout.NHWC:
                return None
            layout = Layout.NHWC
        elif node.op_type not in _SAME_SHAPE:
            continue
        name = node.output[0]
    return None


def _size(shape: tuple[int | None, ...], layout: Layout | None, metadata: dict[str, str]) -> tuple[int, int] | None:
    sides = shape[1:3] if layout is Layout.NHWC else shape[2:4]
    if layout is not None and sides[0] and sides[1]:
        return sides[0], sides[1]
    try:  # Ultralytics writes imgsz as a printed list
        height, width = ast.literal_eval(metadata["imgsz"])
        return int(height), int(width)
    except (KeyError, TypeError, ValueError, SyntaxError):
        return None


def _first_arithmetic(model: onnx.ModelProto, name: str, weights: set[str]) -> str | None:
    constants = weights | {out for node in model.graph.node if node.op_type == "Constant" for out in node.output}
    while True:
        readers = [node for node in model.graph.node if name in node.input]
        if len(readers) != 1:
            return None
        (node,) = readers
        if node.op_type in {"Cast", "Transpose", "Identity"}:
            name = node.output[0]
            continue
        arithmetic = node.op_type in {"Sub", "Div", "Mul", "Add", "BatchNormalization"}
        return str(node.op_type) if arithmetic and constants & set(node.input) else None
