"""`tagmill export --precision`: fewer bits, what they cost, and when that is too much."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from click.testing import CliRunner
from onnx import TensorProto
from support.checkpoints import write_classifier_run, write_segmenter_run
from support.image_fixtures import draw_noisy, draw_shapes

from export.build import export_bundle
from export.cli.export import export
from export.graph.torch_graph import build_graph
from export.precision import reduce
from export.precision.calibration import Calibration, Seen, choose, observe
from export.precision.float16 import to_half
from export.precision.int8 import activations, first_and_last, prepare, quantize
from export.precision.quantizable import core, layers
from export.precision.reduce import Comparison
from export.proof.sample_images import sample_pictures
from tagmill.bundles.spec import INPUT, BundleSpec, Precision
from tagmill.errors import BundleError, ExitCode, InputError
from tagmill.images.preprocess import PreprocessSpec
from tagmill.tasks.base import SCORES
from tagmill.tasks.classify import CLASSIFY
from tagmill.tasks.multilabel import MULTILABEL
from training.annotations.folders import Folders
from training.checkpoint import load, save
from training.models.build import build
from training.models.classifiers import Arch
from worker.inference.session import Session

torch.set_num_threads(1)

SPEC = BundleSpec("colors", CLASSIFY, ("a", "b", "c"), PreprocessSpec(32, 32), temperature=2.0)


@pytest.fixture(scope="module")
def classifier_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifier")
    data, test = draw_noisy(folder / "train", each=20), draw_noisy(folder / "test", each=8, seed=1)
    return write_classifier_run(folder / "run", Folders((data,), (), (test,)))


@pytest.fixture(scope="module")
def segmenter_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("segmenter")
    return write_segmenter_run(folder / "run", Folders((draw_shapes(folder / "pictures", 20),)))


@pytest.fixture(scope="module")
def graph() -> onnx.ModelProto:
    torch.manual_seed(0)
    return build_graph(build(Arch.RESNET, 32, 3).eval(), SPEC)


def answer(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run([SCORES], {INPUT: images})[0]


def some_pictures(count: int = 8, size: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def test_the_core_is_all_from_the_first_to_the_last_layer_with_weights(graph: onnx.ModelProto) -> None:
    inside = {node.name for node in core(graph)}
    outside = Counter(node.op_type for node in graph.graph.node if node.name not in inside)
    assert outside == {"Transpose": 1, "Cast": 1, "Sub": 1, "Div": 2, "Softmax": 1}
    assert {node.op_type for node in layers(graph)} == {"Conv", "Gemm"}


def test_float16_takes_half_the_room_and_leaves_input_and_scores_as_they_are(graph: onnx.ModelProto) -> None:
    half = to_half(graph)
    onnx.checker.check_model(half, full_check=True)
    assert half.ByteSize() / graph.ByteSize() < 0.51
    assert half.graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8
    assert half.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT
    assert answer(half, some_pictures()) == pytest.approx(answer(graph, some_pictures()), abs=1e-3)


def test_float16_rounds_nothing_outside_the_core(graph: onnx.ModelProto) -> None:
    half = to_half(graph)
    casts = [node for node in half.graph.node if node.op_type == "Cast"]
    assert [node.attribute[0].i for node in casts] == [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.FLOAT]
    kinds = {entry.name: entry.data_type for entry in half.graph.initializer}
    assert kinds["network.0.mean"] == kinds["network.0.deviation"] == TensorProto.FLOAT
    weights = {name for node in layers(half) for name in node.input if name in kinds}
    assert {kinds[name] for name in weights} == {TensorProto.FLOAT16}


def test_eight_bits_are_unsigned_for_activations_and_signed_a_channel_for_weights(graph: onnx.ModelProto) -> None:
    prepared = prepare(graph)
    seen = observe(prepared, activations(prepared), some_pictures(), seed=0)
    found = quantize(prepared, {name: choose(values, Calibration.MINMAX) for name, values in seen.items()})
    onnx.checker.check_model(found, full_check=True)
    kinds = {entry.name: entry for entry in found.graph.initializer}
    rounded = [node for node in found.graph.node if node.op_type == "QuantizeLinear"]
    assert {kinds[node.input[2]].data_type for node in rounded} == {TensorProto.UINT8}
    convolutions = {node.input[1] for node in found.graph.node if node.op_type == "Conv"}
    stored = [node for node in found.graph.node if set(node.output) & convolutions]
    assert len(stored) == len(convolutions)
    assert {node.op_type for node in stored} == {"DequantizeLinear"}
    for node in stored:
        values, scale = kinds[node.input[0]], kinds[node.input[1]]
        assert values.data_type == TensorProto.INT8
        assert list(scale.dims) == [values.dims[0]]
    assert answer(found, some_pictures()) == pytest.approx(answer(graph, some_pictures()), abs=0.05)
    assert "Softmax" in {node.op_type for node in found.graph.node}


def test_the_first_and_the_last_layer_can_stay_in_float(graph: onnx.ModelProto) -> None:
    prepared = prepare(graph)
    kept = first_and_last(prepared)
    seen = observe(prepared, activations(prepared), some_pictures(), seed=0)
    found = quantize(prepared, {name: choose(values, Calibration.MINMAX) for name, values in seen.items()}, kept)
    floats = {entry.name for entry in found.graph.initializer if entry.data_type == TensorProto.FLOAT}
    assert [node.name for node in layers(found) if node.input[1] in floats] == kept


def test_the_constants_that_normalize_are_repeated_over_a_row(graph: onnx.ModelProto) -> None:
    shapes = {entry.name: list(entry.dims) for entry in prepare(graph).graph.initializer}
    assert shapes["network.0.mean_32"] == [3, 1, 32]
    assert answer(prepare(graph), some_pictures()) == pytest.approx(answer(graph, some_pictures()), abs=1e-6)


def test_a_method_cuts_off_what_is_rare_and_keeps_zero_inside() -> None:
    random = np.random.default_rng(0)
    values = np.append(random.normal(0, 1, 200_000), [90.0]).astype(np.float32)
    seen = Seen(float(values.min()), 90.0, values)
    assert choose(seen, Calibration.MINMAX) == (seen.lowest, 90.0)
    for method in (Calibration.PERCENTILE, Calibration.ENTROPY):
        low, high = choose(seen, method)
        assert -6 < low < -2
        assert 2 < high < 12, method
    for method in Calibration:
        low, high = choose(Seen(3.0, 5.0, np.array([3.0, 4.0, 5.0], dtype=np.float32)), method)
        assert low == 0.0
        assert 4.9 < high <= 5.0
        assert choose(Seen(0.0, 0.0, np.zeros(9, dtype=np.float32)), method) == (0.0, 0.0)


@pytest.mark.parametrize("kind", [Precision.FP16, Precision.INT8])
def test_a_classifier_with_fewer_bits_says_what_they_cost_and_is_the_same_file_again(
    kind: Precision, classifier_run: Path, tmp_path: Path
) -> None:
    done = export_bundle(classifier_run, tmp_path / "one.onnx", name="colors", precision=kind)
    export_bundle(classifier_run, tmp_path / "whole.onnx", name="colors")
    export_bundle(classifier_run, tmp_path / "two.onnx", name="colors", precision=kind)
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()
    spec = Session(tmp_path / "one.onnx", "cpu").spec
    assert spec == done.spec
    assert spec.precision is kind
    said = spec.provenance["precision"]
    assert (said["metric"], said["use"], said["images"]) == ("accuracy", "test", 24)
    assert said["fp32"] - said["figure"] <= 0.005
    real = (tmp_path / "one.onnx").stat().st_size / (tmp_path / "whole.onnx").stat().st_size
    assert said["size_ratio"] == pytest.approx(real, abs=0.01)
    assert real < (0.55 if kind is Precision.FP16 else 0.36)
    assert spec.provenance["parity"]["images"] == 24
    assert spec.provenance["parity"]["label_agreement"] > 0.9
    if kind is Precision.INT8:
        assert said["calibration"]["method"] in set(Calibration)
        assert said["calibration"]["images"] == 54


@pytest.mark.parametrize("kind", [Precision.FP16, Precision.INT8])
def test_a_segmenter_with_fewer_bits_is_measured_on_validation_where_there_is_no_test(
    kind: Precision, segmenter_run: Path, tmp_path: Path
) -> None:
    done = export_bundle(segmenter_run, tmp_path / "bundle.onnx", precision=kind)
    assert done.comparison is not None
    assert (done.comparison.metric, done.comparison.use) == ("mean_iou", "validation")
    assert done.parity.mask_difference is not None
    assert done.parity.mask_difference < 0.05
    assert Session(tmp_path / "bundle.onnx", "cpu").run(sample_pictures(load(segmenter_run))).mask is not None


def test_several_labels_an_image_top_k_temperature_and_eight_bits_go_together(
    classifier_run: Path, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    save(replace(load(classifier_run), task=MULTILABEL, temperature=3.0), tmp_path / "run")
    words = [str(tmp_path / "run"), "-o", str(tmp_path / "tags.onnx"), "--precision", "int8", "--top-k", "2"]
    done = CliRunner().invoke(export, words)
    assert done.exit_code == 0, done.output
    assert "multilabel bundle tags, 3 labels" in done.stdout
    assert "mean ap" in done.stdout
    assert "of the size" in done.stdout
    session = Session(tmp_path / "tags.onnx", "cpu")
    images = sample_pictures(load(classifier_run))
    best, every = session.run(images, best_only=True), session.run(images).scores
    assert best.labels is not None
    assert np.take_along_axis(every, best.labels, 1) == pytest.approx(best.scores)
    assert (session.spec.task, session.spec.precision, session.top_k) == (MULTILABEL, Precision.INT8, 2)


def test_bits_that_cost_too_much_are_refused_in_one_line_and_leave_no_file(
    classifier_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reduce, "ALLOWED", -101.0)
    with pytest.raises(BundleError, match=r"accuracy is .* in fp16 against .* in fp32 on 24 test images") as caught:
        export_bundle(classifier_run, tmp_path / "bundle.onnx", precision=Precision.FP16)
    assert caught.value.exit_code == ExitCode.CONFIGURATION
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("figure", "fine"), [(0.7, True), (0.695, True), (0.71, True), (0.6949, False)])
def test_half_a_point_may_be_lost(figure: float, fine: bool) -> None:
    compared = Comparison(Precision.INT8, "accuracy", "test", 10_000, 0.7, figure, None)
    if fine:
        compared.check()
    else:
        with pytest.raises(BundleError, match=r"0\.6949 in int8 against 0\.7000 in fp32 .* 0\.51 points less"):
            compared.check()


def test_a_run_whose_images_are_gone_can_only_be_exported_in_fp32(classifier_run: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    checkpoint = load(classifier_run)
    save(replace(checkpoint, data=checkpoint.data | {"train": [str(tmp_path / "gone")]}), tmp_path / "run")
    with pytest.raises(InputError, match="only --precision fp32 is possible"):
        export_bundle(tmp_path / "run", tmp_path / "bundle.onnx", precision=Precision.INT8)


def test_a_run_that_names_no_images_it_was_trained_on_can_only_be_exported_in_fp32(
    classifier_run: Path, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    checkpoint = load(classifier_run)
    save(replace(checkpoint, data=checkpoint.data | {"train": []}), tmp_path / "run")
    with pytest.raises(InputError, match=r"names no images that it was trained on; .* only --precision fp32"):
        export_bundle(tmp_path / "run", tmp_path / "bundle.onnx", precision=Precision.INT8)


def test_layers_stay_in_float_where_all_in_eight_bits_cost_too_much(
    classifier_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def noted(prepared: onnx.ModelProto, ranges: dict[str, tuple[float, float]], kept: list[str]) -> onnx.ModelProto:
        tried.append(len(kept))
        # Where nothing stays in float, the ranges are so narrow that every image looks alike.
        return quantize(prepared, ranges if kept else dict.fromkeys(ranges, (0.0, 1e-6)), kept)

    monkeypatch.setattr(reduce, "quantize", noted)
    done = export_bundle(classifier_run, tmp_path / "bundle.onnx", precision=Precision.INT8)
    assert tried == [0, 0, 0, 2, 2, 2]
    metadata = {entry.key: entry.value for entry in onnx.load(tmp_path / "bundle.onnx").metadata_props}
    assert json.loads(metadata["provenance"])["precision"]["calibration"]["float_layers"] == 2
    assert done.comparison is not None
