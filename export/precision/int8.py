"""Quantize the core of a graph: 8-bit weights per channel, 8-bit activations, as QuantizeLinear and DequantizeLinear.

U8 activations with S8 weights are what the VNNI instructions, and OpenVINO on them, multiply in one step.
"""

import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.calibrate import TensorData, TensorsData, save_tensors_data
from onnxruntime.quantization.shape_inference import quant_pre_process

from export.graph.torch_graph import anonymous
from export.precision.calibration import Range
from export.precision.quantizable import core, layers


def prepare(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with batch normalization folded and the type of every value known."""
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "graph.onnx", Path(folder) / "prepared.onnx"
        # Given a file: a model in memory loses its weights on the way (ONNX Runtime 1.31.1).
        onnx.save(model, source)
        # Shapes are inferred by ONNX alone: the symbolic way needs sympy and gains nothing on these graphs.
        quant_pre_process(source, out, skip_symbolic_shape=True)
        prepared = onnx.load(out)
    _widen_constants(prepared)
    return prepared


def _widen_constants(prepared: onnx.ModelProto) -> None:
    """Repeat the constants a channel, [C, 1, 1], that normalize pixels over a row: [C, 1, W].

    ONNX Runtime keeps 8-bit convolutions in NHWC and turns what comes before them, too. There a constant of 3 values
    made subtracting and dividing 15 times as slow, and so half of all the work for a small network.
    """
    graph, inner = prepared.graph, {node.name for node in core(prepared)}
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in graph.value_info}
    constants = {entry.name: numpy_helper.to_array(entry) for entry in graph.initializer}
    for node in graph.node:
        shape = shapes.get(node.output[0], [])
        if node.name in inner or len(node.input) != 2 or len(shape) != 4 or not shape[3]:
            continue
        values = constants.get(node.input[1])
        if values is not None and values.shape == (shape[1], 1, 1):
            wide = np.ascontiguousarray(np.broadcast_to(values, (shape[1], 1, shape[3])))
            node.input[1] = f"{node.input[1]}_{shape[3]}"
            graph.initializer.append(numpy_helper.from_array(wide, node.input[1]))


def activations(prepared: onnx.ModelProto) -> list[str]:
    """Return the names of the float values that go into or come out of the core."""
    graph = prepared.graph
    floats = {v.name for v in graph.value_info if v.type.tensor_type.elem_type == TensorProto.FLOAT}
    return sorted({name for node in core(prepared) for name in (*node.input, *node.output) if name in floats})


def first_and_last(prepared: onnx.ModelProto) -> list[str]:
    """Return the names of the first and the last layer with weights."""
    found = layers(prepared)
    return [found[0].name, found[-1].name]


def quantize(prepared: onnx.ModelProto, ranges: dict[str, Range], kept_in_float: Iterable[str] = ()) -> onnx.ModelProto:
    """Return the quantized graph. `ranges` must hold all `activations`."""
    inner = {node.name for node in core(prepared)} - set(kept_in_float)
    outer = [node.name for node in prepared.graph.node if node.name not in inner]
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
            nodes_to_exclude=outer,
            calibration_cache_path=cache,
        )
        found = anonymous(onnx.load(out))
    _shorten_names(found)
    return found


def _shorten_names(model: onnx.ModelProto) -> None:
    """Number the values: ONNX Runtime's long names for them are up to a tenth of a small quantized file."""
    graph = model.graph
    names: dict[str, str] = {value.name: value.name for value in (*graph.input, *graph.output)}
    names[""] = ""  # an input left out

    def short(name: str) -> str:
        return names.setdefault(name, f"v{len(names)}")

    for entry in graph.initializer:
        entry.name = short(entry.name)
    for node in graph.node:
        node.input[:] = [short(name) for name in node.input]
        node.output[:] = [short(name) for name in node.output]
        if node.op_type in {"QuantizeLinear", "DequantizeLinear"}:
            node.name = ""
