"""`tagmill export --precision`: float16 and 8 bits, the measured loss, and when it is too large."""

import json
from collections import Counter
from dataclasses import replace
from math import prod
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
from torch import nn

from export.build import export_bundle
from export.cli.export import export
from export.graph.torch_graph import build_graph
from export.precision import reduce
from export.precision.calibration import Calibration, ObservedValues, choose_range, observe_activations
from export.precision.float16 import to_float16
from export.precision.int8 import activation_names, first_and_last_layer, prepare, quantize
from export.precision.quantizable import quantizable_nodes, weight_layers
from export.precision.reduce import Comparison
from export.proof.sample_images import sample_images
from tagmill.bundles.metadata import INPUT, BundleSpec, Precision
from tagmill.errors import BundleError, ExitCode, InputError
from tagmill.images.preprocess import PreprocessSpec
from tagmill.tasks.base import SCORES
from tagmill.tasks.classify import CLASSIFY
from tagmill.tasks.multilabel import MULTILABEL
from training.annotations.folders import Folders
from training.checkpoint import load, save
from training.models.backbones import build_transfer
from training.models.build import build
from training.models.classifiers import Arch
from worker.inference.session import Session

torch.set_num_threads(1)

pytestmark = pytest.mark.usefixtures("graphs_once")

SPEC = BundleSpec("colors", CLASSIFY, ("a", "b", "c"), PreprocessSpec(32, 32), temperature=2.0)


@pytest.fixture(scope="module")
def classifier_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifier")
    data, test = draw_noisy(folder / "train", each=20), draw_noisy(folder / "test", each=8, seed=1)
    return write_classifier_run(folder / "run", Folders((data,), (), (test,)))


@pytest.fixture(scope="module")
def segmenter_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("segmenter")
    return write_segmenter_run(folder / "run", Folders((draw_shapes(folder / "images", 20),)))


@pytest.fixture(scope="module")
def graph() -> onnx.ModelProto:
    torch.manual_seed(0)
    return build_graph(build(Arch.RESNET, 32, 3).eval(), SPEC)


def scores_of(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run([SCORES], {INPUT: images})[0]


def random_images(count: int = 8, size: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def test_everything_from_the_first_to_the_last_layer_with_weights_is_quantizable(graph: onnx.ModelProto) -> None:
    quantizable = {node.name for node in quantizable_nodes(graph)}
    outside = Counter(node.op_type for node in graph.graph.node if node.name not in quantizable)
    assert outside == {"Transpose": 1, "Cast": 1, "Sub": 1, "Div": 2, "Softmax": 1}
    assert {node.op_type for node in weight_layers(graph)} == {"Conv", "Gemm"}


def test_a_network_that_looks_at_the_mirror_image_too_stores_its_weights_once_in_int8() -> None:
    torch.manual_seed(0)
    network = build_transfer("resnet", 32, 3, 0, mirror=True).eval()
    prepared = prepare(build_graph(network, SPEC))
    assert len(weight_layers(prepared)) == 2 * len(layer_weights(network))
    quantized = quantize(prepared, dict.fromkeys(activation_names(prepared), (-4.0, 4.0)))
    stored = [entry for entry in quantized.graph.initializer if entry.data_type == TensorProto.INT8]
    values = sum(prod(entry.dims) for entry in stored if len(entry.dims) > 1)
    assert values == sum(weight.numel() for weight in layer_weights(network))


def layer_weights(network: nn.Module) -> list[torch.Tensor]:
    return [weight for weight in network.parameters() if weight.ndim > 1]


def test_float16_takes_half_the_space_and_keeps_the_types_of_input_and_scores(graph: onnx.ModelProto) -> None:
    half = to_float16(graph)
    onnx.checker.check_model(half, full_check=True)
    assert half.ByteSize() / graph.ByteSize() < 0.51
    assert half.graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8
    assert half.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT
    assert scores_of(half, random_images()) == pytest.approx(scores_of(graph, random_images()), abs=1e-3)


def test_float16_rounds_nothing_outside_the_quantizable_nodes(graph: onnx.ModelProto) -> None:
    half = to_float16(graph)
    casts = [node for node in half.graph.node if node.op_type == "Cast"]
    assert [node.attribute[0].i for node in casts] == [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.FLOAT]
    kinds = {entry.name: entry.data_type for entry in half.graph.initializer}
    assert kinds["network.0.mean"] == kinds["network.0.deviation"] == TensorProto.FLOAT
    weights = {name for node in weight_layers(half) for name in node.input if name in kinds}
    assert {kinds[name] for name in weights} == {TensorProto.FLOAT16}


def test_eight_bits_are_unsigned_for_activations_and_signed_per_channel_for_weights(graph: onnx.ModelProto) -> None:
    prepared = prepare(graph)
    observed = observe_activations(prepared, activation_names(prepared), random_images(), seed=0)
    found = quantize(prepared, {name: choose_range(values, Calibration.MINMAX) for name, values in observed.items()})
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
    assert scores_of(found, random_images()) == pytest.approx(scores_of(graph, random_images()), abs=0.05)
    assert "Softmax" in {node.op_type for node in found.graph.node}


def test_the_first_and_the_last_layer_can_stay_in_float(graph: onnx.ModelProto) -> None:
    prepared = prepare(graph)
    float_layers = first_and_last_layer(prepared)
    observed = observe_activations(prepared, activation_names(prepared), random_images(), seed=0)
    found = quantize(
        prepared, {name: choose_range(values, Calibration.MINMAX) for name, values in observed.items()}, float_layers
    )
    floats = {entry.name for entry in found.graph.initializer if entry.data_type == TensorProto.FLOAT}
    assert [node.name for node in weight_layers(found) if node.input[1] in floats] == float_layers


def test_the_constants_that_normalize_pixels_are_repeated_over_a_row(graph: onnx.ModelProto) -> None:
    shapes = {entry.name: list(entry.dims) for entry in prepare(graph).graph.initializer}
    assert shapes["network.0.mean_32"] == [3, 1, 32]
    assert scores_of(prepare(graph), random_images()) == pytest.approx(scores_of(graph, random_images()), abs=1e-6)


def test_a_method_cuts_off_rare_values_and_keeps_zero_in_the_range() -> None:
    random = np.random.default_rng(0)
    values = np.append(random.normal(0, 1, 200_000), [90.0]).astype(np.float32)
    observed = ObservedValues(float(values.min()), 90.0, values)
    assert choose_range(observed, Calibration.MINMAX) == (observed.lowest, 90.0)
    for method in (Calibration.PERCENTILE, Calibration.ENTROPY):
        low, high = choose_range(observed, method)
        assert -6 < low < -2
        assert 2 < high < 12, method
    for method in Calibration:
        low, high = choose_range(ObservedValues(3.0, 5.0, np.array([3.0, 4.0, 5.0], dtype=np.float32)), method)
        assert low == 0.0
        assert 4.9 < high <= 5.0
        assert choose_range(ObservedValues(0.0, 0.0, np.zeros(9, dtype=np.float32)), method) == (0.0, 0.0)


@pytest.mark.parametrize("kind", [Precision.FP16, Precision.INT8])
def test_a_reduced_classifier_carries_its_loss_and_a_second_export_is_the_same_file(
    kind: Precision, classifier_run: Path, tmp_path: Path
) -> None:
    done = export_bundle(classifier_run, tmp_path / "one.onnx", name="colors", precision=kind)
    export_bundle(classifier_run, tmp_path / "whole.onnx", name="colors")
    export_bundle(classifier_run, tmp_path / "two.onnx", name="colors", precision=kind)
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()
    spec = Session(tmp_path / "one.onnx", "cpu").spec
    assert spec == done.spec
    assert spec.precision is kind
    comparison = spec.provenance["precision"]
    assert (comparison["metric"], comparison["use"], comparison["images"]) == ("accuracy", "test", 24)
    assert comparison["fp32"] - comparison["figure"] <= 0.005
    real = (tmp_path / "one.onnx").stat().st_size / (tmp_path / "whole.onnx").stat().st_size
    assert comparison["size_ratio"] == pytest.approx(real, abs=0.01)
    assert real < (0.55 if kind is Precision.FP16 else 0.36)
    assert spec.provenance["parity"]["images"] == 24
    assert spec.provenance["parity"]["label_agreement"] > 0.9
    if kind is Precision.INT8:
        assert comparison["calibration"]["method"] in set(Calibration)
        assert comparison["calibration"]["images"] == 54


@pytest.mark.parametrize("kind", [Precision.FP16, Precision.INT8])
def test_a_reduced_segmenter_is_measured_on_validation_images_if_there_are_no_test_images(
    kind: Precision, segmenter_run: Path, tmp_path: Path
) -> None:
    done = export_bundle(segmenter_run, tmp_path / "bundle.onnx", precision=kind)
    assert done.comparison is not None
    assert (done.comparison.metric, done.comparison.use) == ("mean_iou", "validation")
    assert done.parity.mask_difference is not None
    assert done.parity.mask_difference < 0.05
    assert Session(tmp_path / "bundle.onnx", "cpu").run(sample_images(load(segmenter_run))).mask is not None


def test_multilabel_top_k_temperature_and_eight_bits_combine(classifier_run: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    save(replace(load(classifier_run), task=MULTILABEL, temperature=3.0), tmp_path / "run")
    words = [str(tmp_path / "run"), "-o", str(tmp_path / "tags.onnx"), "--precision", "int8", "--top-k", "2"]
    done = CliRunner().invoke(export, words)
    assert done.exit_code == 0, done.output
    assert "multilabel bundle tags, 3 labels" in done.stdout
    assert "mean ap" in done.stdout
    assert "of the size" in done.stdout
    session = Session(tmp_path / "tags.onnx", "cpu")
    images = sample_images(load(classifier_run))
    best, all_scores = session.run(images, best_only=True), session.run(images).scores
    assert best.labels is not None
    assert np.take_along_axis(all_scores, best.labels, 1) == pytest.approx(best.scores)
    assert (session.spec.task, session.spec.precision, session.top_k) == (MULTILABEL, Precision.INT8, 2)


def test_too_large_a_loss_is_refused_in_one_line_and_leaves_no_file(
    classifier_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reduce, "MAX_POINTS_LOST", -101.0)
    with pytest.raises(BundleError, match=r"accuracy is .* in fp16 against .* in fp32 on 24 test images") as caught:
        export_bundle(classifier_run, tmp_path / "bundle.onnx", precision=Precision.FP16)
    assert caught.value.exit_code == ExitCode.CONFIGURATION
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("figure", "fine"), [(0.7, True), (0.695, True), (0.71, True), (0.6949, False)])
def test_half_a_point_may_be_lost(figure: float, fine: bool) -> None:
    comparison = Comparison(Precision.INT8, "accuracy", "test", 10_000, 0.7, figure, None)
    if fine:
        comparison.check()
    else:
        with pytest.raises(BundleError, match=r"0\.6949 in int8 against 0\.7000 in fp32 .* 0\.51 points less"):
            comparison.check()


def test_a_run_whose_images_are_gone_can_be_exported_only_in_fp32(classifier_run: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    checkpoint = load(classifier_run)
    save(replace(checkpoint, data=checkpoint.data | {"train": [str(tmp_path / "gone")]}), tmp_path / "run")
    with pytest.raises(InputError, match="only --precision fp32 is possible"):
        export_bundle(tmp_path / "run", tmp_path / "bundle.onnx", precision=Precision.INT8)


def test_a_run_that_names_no_training_images_can_be_exported_only_in_fp32(classifier_run: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    checkpoint = load(classifier_run)
    save(replace(checkpoint, data=checkpoint.data | {"train": []}), tmp_path / "run")
    with pytest.raises(InputError, match=r"names no images that it was trained on; .* only --precision fp32"):
        export_bundle(tmp_path / "run", tmp_path / "bundle.onnx", precision=Precision.INT8)


def test_layers_stay_in_float_if_all_in_eight_bits_lose_too_much(
    classifier_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def spy(
        prepared: onnx.ModelProto, ranges: dict[str, tuple[float, float]], float_layers: list[str]
    ) -> onnx.ModelProto:
        tried.append(len(float_layers))
        # Without float layers the ranges are so narrow that all images look the same.
        return quantize(prepared, ranges if float_layers else dict.fromkeys(ranges, (0.0, 1e-6)), float_layers)

    monkeypatch.setattr(reduce, "quantize", spy)
    done = export_bundle(classifier_run, tmp_path / "bundle.onnx", precision=Precision.INT8)
    assert tried == [0, 0, 0, 2, 2, 2]
    metadata = {entry.key: entry.value for entry in onnx.load(tmp_path / "bundle.onnx").metadata_props}
    assert json.loads(metadata["provenance"])["precision"]["calibration"]["float_layers"] == 2
    assert done.comparison is not None
