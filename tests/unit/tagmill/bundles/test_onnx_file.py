"""Read a bundle's metadata without onnx, and refuse a bundle that is not one self-contained file."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from support.bundles import write_classifier, write_segmenter

from tagmill.bundles.onnx_file import read_metadata
from tagmill.bundles.starter import starter_bundles
from tagmill.errors import BundleError


def external_tensor() -> onnx.TensorProto:
    """Return a tensor whose values are stored in another file."""
    tensor = numpy_helper.from_array(np.zeros(3, np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/hostname"
    return tensor


def graph(*nodes: onnx.NodeProto, initializer: tuple[onnx.TensorProto, ...] = ()) -> onnx.GraphProto:
    return helper.make_graph(list(nodes), "g", [], [], list(initializer))


def sparse() -> onnx.SparseTensorProto:
    tensor = onnx.SparseTensorProto()
    tensor.values.CopyFrom(external_tensor())
    return tensor


def with_function() -> onnx.ModelProto:
    model = helper.make_model(graph())
    function = model.functions.add()
    function.name = "f"
    function.node.append(helper.make_node("Constant", [], ["x"], value=external_tensor()))
    return model


def with_sparse() -> onnx.ModelProto:
    model = helper.make_model(graph())
    model.graph.sparse_initializer.append(sparse())
    return model


def with_training() -> onnx.ModelProto:
    model = helper.make_model(graph())
    model.training_info.add().algorithm.initializer.append(external_tensor())
    return model


HIDDEN = {
    "initializer": lambda: helper.make_model(graph(initializer=(external_tensor(),))),
    "constant": lambda: helper.make_model(graph(helper.make_node("Constant", [], ["x"], value=external_tensor()))),
    "list of tensors": lambda: helper.make_model(
        graph(helper.make_node("Odd", [], ["x"], several=[external_tensor()]))
    ),
    "inner graph": lambda: helper.make_model(
        graph(
            helper.make_node(
                "If", ["c"], ["x"], then_branch=graph(initializer=(external_tensor(),)), else_branch=graph()
            )
        )
    ),
    "sparse initializer": with_sparse,
    "sparse constant": lambda: helper.make_model(graph(helper.make_node("Constant", [], ["x"], sparse_value=sparse()))),
    "function": with_function,
    "training": with_training,
}


@pytest.mark.parametrize("place", HIDDEN)
def test_a_tensor_in_another_file_is_found_anywhere_in_the_model(place: str, tmp_path: Path) -> None:
    path = tmp_path / "hidden.onnx"
    path.write_bytes(HIDDEN[place]().SerializeToString())
    with pytest.raises(BundleError, match="its weights lie in another file"):
        read_metadata(path)


def test_metadata_is_the_same_as_onnx_reads(tmp_path: Path) -> None:
    written = [write_classifier(tmp_path / "c.onnx"), write_segmenter(tmp_path / "s.onnx")]
    for path in [*starter_bundles(), *written]:
        assert read_metadata(path) == {entry.key: entry.value for entry in onnx.load(path).metadata_props}


@pytest.mark.parametrize(
    "data", [b"", b"<net></net>", b"no model at all", b"\x3a\x7f\x00", b"\xff" * 40, b"\x3a\x02\x0a"]
)
def test_a_file_that_is_not_onnx_is_refused_in_one_line(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "c.onnx"
    path.write_bytes(data)
    with pytest.raises(
        BundleError, match=r"c\.onnx: it is no ONNX file .*; name an \.onnx bundle, or copy this"
    ) as caught:
        read_metadata(path)
    assert "\n" not in str(caught.value)
    assert ("it is empty" in str(caught.value)) == (data == b"")


def test_graphs_that_are_nested_too_deeply_are_refused(tmp_path: Path) -> None:
    data = b""
    for _ in range(400):  # graph { node { attribute { g { ... } } } }
        for number in (6, 5, 1):
            data = bytes([number << 3 | 2]) + varint(len(data)) + data
    path = tmp_path / "c.onnx"
    path.write_bytes(b"\x3a" + varint(len(data)) + data)
    with pytest.raises(BundleError, match="nested too deeply"):
        read_metadata(path)


def varint(value: int) -> bytes:
    parts = []
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.onnx"
    path.write_bytes(data)
    try:
        read_metadata(path)
    except BundleError:
        pass
