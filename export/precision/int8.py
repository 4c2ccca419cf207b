"""Quantize a graph to 8 bits: weights per channel, and activations, with QuantizeLinear and DequantizeLinear nodes.

Activations are unsigned and weights signed: the VNNI instructions, and OpenVINO through them, multiply these two in
one step.
"""

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
from onnx import TensorProto, numpy_helper
from onnx_ir.passes.common import DeduplicateInitializersPass
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.calibrate import TensorData, TensorsData, save_tensors_data
from onnxruntime.quantization.shape_inference import quant_pre_process

from export.graph.torch_graph import anonymous
from export.precision.calibration import Range
from export.precision.quantizable import quantizable_nodes, weight_layers

#: weights of one layer, in values, above which equal ones are not looked for; no layer has so many
LARGEST = 2**31


def prepare(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with batch normalization folded into the layers and the type of every value inferred."""
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "graph.onnx", Path(folder) / "prepared.onnx"
        # Through files: a model in memory loses its weights on the way (ONNX Runtime 1.31.1).
        onnx.save(model, source)
        # Symbolic shape inference needs sympy and gains nothing on these graphs.
        quant_pre_process(source, out, skip_symbolic_shape=True)
        prepared = onnx.load(out)
    _widen_constants(prepared)
    return _with_shared_weights(prepared)


def _with_shared_weights(prepared: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with equal weights stored once.

    A network that looks at an image and its mirror image has every layer twice. Folding batch normalization gives each
    of the two a copy of its weights, which would double the file.
    """
    shared = onnx_ir.from_proto(prepared)
    DeduplicateInitializersPass(size_limit=LARGEST)(shared)
    return onnx_ir.to_proto(shared)


def _widen_constants(prepared: onnx.ModelProto) -> None:
    """Repeat the constants that normalize pixels from [C, 1, 1] to [C, 1, W].

    ONNX Runtime computes 8-bit convolutions in NHWC, and transposes the nodes before them, too. With constants of 3
    values, subtracting and dividing then took 15 times as long, which was half of all work for a small network.
    """
    graph, quantizable = prepared.graph, {node.name for node in quantizable_nodes(prepared)}
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in graph.value_info}
    constants = {entry.name: numpy_helper.to_array(entry) for entry in graph.initializer}
    for node in graph.node:
        shape = shapes.get(node.output[0], [])
        if node.name in quantizable or len(node.input) != 2 or len(shape) != 4 or not shape[3]:
            continue
        values = constants.get(node.input[1])
        if values is not None and values.shape == (shape[1], 1, 1):
            wide = np.ascontiguousarray(np.broadcast_to(values, (shape[1], 1, shape[3])))
            node.input[1] = f"{node.input[1]}_{shape[3]}"
            graph.initializer.append(numpy_helper.from_array(wide, node.input[1]))


def activation_names(prepared: onnx.ModelProto) -> list[str]:
    """Return the names of the float inputs and outputs of all quantizable nodes."""
    graph = prepared.graph
    floats = {v.name for v in graph.value_info if v.type.tensor_type.elem_type == TensorProto.FLOAT}
    nodes = quantizable_nodes(prepared)
    return sorted({name for node in nodes for name in (*node.input, *node.output) if name in floats})


def first_and_last_layer(prepared: onnx.ModelProto) -> list[str]:
    """Return the names of the first and the last layer with weights."""
    layers = weight_layers(prepared)
    return [layers[0].name, layers[-1].name]


def quantize(
    prepared: onnx.ModelProto, ranges: Mapping[str, Range], float_layers: Iterable[str] = ()
) -> onnx.ModelProto:
    """Return the quantized graph. `ranges` must have all `activation_names`; `float_layers` stay in float32."""
    quantized = {node.name for node in quantizable_nodes(prepared)} - set(float_layers)
    excluded = [node.name for node in prepared.graph.node if node.name not in quantized]
    limits = {
        name: TensorData(lowest=np.array(low, dtype=np.float32), highest=np.array(high, dtype=np.float32))
        for name, (low, high) in ranges.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        source, cache, out = (Path(folder) / name for name in ("prepared.onnx", "ranges.json", "int8.onnx"))
        onnx.save(prepared, source)
        save_tensors_data(TensorsData(CalibrationMethod.MinMax, limits), cache)
        quantize_static(
            source,
            out,
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=excluded,
            calibration_cache_path=cache,
        )
        model = anonymous(onnx.load(out))
    _shorten_names(model)
    return model


def _shorten_names(model: onnx.ModelProto) -> None:
    """Number the values: the long names that ONNX Runtime gives them are up to a tenth of a small quantized file."""
    graph = model.graph
    names: dict[str, str] = {value.name: value.name for value in (*graph.input, *graph.output)}
    names[""] = ""  # an omitted input

    def short(name: str) -> str:
        return names.setdefault(name, f"v{len(names)}")

    for entry in graph.initializer:
        entry.name = short(entry.name)
    for node in graph.node:
        node.input[:] = [short(name) for name in node.input]
        node.output[:] = [short(name) for name in node.output]
        if node.op_type in {"QuantizeLinear", "DequantizeLinear"}:
            node.name = ""
