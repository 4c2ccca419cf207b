"""`tagmill export`: a bundle that agrees with torch and describes itself, or no bundle."""

import io
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner, Result
from onnx import numpy_helper
from support.checkpoints import short
from support.image_fixtures import draw_noisy, draw_shapes
from torch import nn

from export import build as build_module
from export.build import ExportResult, describe, export_bundle
from export.cli.export import export
from export.graph.embedding import Projection
from export.graph.torch_graph import build_graph
from export.precision.float16 import to_float16
from export.proof.parity import Parity, compare, torch_reference
from export.proof.sample_images import sample_images
from tagmill.bundles.metadata import BundleSpec, Precision
from tagmill.errors import BundleError, ExitCode, InputError
from tagmill.images.preprocess import Geometry, PreprocessSpec
from tagmill.records import ImageRow
from tagmill.tasks.base import ACTIVATION_MAP
from tagmill.tasks.classify import CLASSIFY
from tagmill.tasks.multilabel import MULTILABEL
from training.annotations.folders import Folders
from training.checkpoint import FILE, Checkpoint, load, save
from training.evaluation.calibration import probabilities
from training.evaluation.predict import all_logits, predict_masks
from training.models.build import build
from training.models.classifiers import Arch
from training.models.segmenters import SegmentArch
from training.recipes.cnn import DEFAULTS as CNN
from training.recipes.cnn import train_cnn
from training.recipes.segment import DEFAULTS as SEGMENT
from training.recipes.segment import train_segment
from worker.inference.session import Session
from worker.pipeline.batch_image import BatchImage
from worker.pipeline.infer import infer_images

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def classifier_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifier")
    data, test = draw_noisy(folder / "train", each=6), draw_noisy(folder / "images", each=6, seed=1)
    train_cnn(Folders((data,), (), (test,)), folder / "run", Arch.SIMPLE_CNN, short(CNN[Arch.SIMPLE_CNN], epochs=1))
    return folder / "run"


@pytest.fixture(scope="module")
def segmenter_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("segmenter")
    data = draw_shapes(folder / "images", 16)
    train_segment(Folders((data,)), folder / "run", SegmentArch.UNET, short(SEGMENT, size=64, epochs=2, batch_size=4))
    return folder / "run"


@dataclass(frozen=True)
class Made:
    run: Path
    bundle: Path
    done: ExportResult
    #: what the export wrote on standard output and error
    printed: str

    @property
    def spec(self) -> BundleSpec:
        return self.done.spec

    @property
    def parity(self) -> Parity:
        return self.done.parity

    @property
    def session(self) -> Session:
        return Session(self.bundle, device="cpu")


def exported(run: Path, printed: io.StringIO) -> Made:
    bundle = run.parent / "exported" / "bundle.onnx"
    bundle.parent.mkdir()
    with redirect_stdout(printed), redirect_stderr(printed):
        done = export_bundle(run, bundle, name="fine")
    return Made(run, bundle, done, printed.getvalue())


@pytest.fixture(scope="module")
def classifier(classifier_run: Path) -> Made:
    return exported(classifier_run, io.StringIO())


@pytest.fixture(scope="module")
def segmenter(segmenter_run: Path) -> Made:
    return exported(segmenter_run, io.StringIO())


def graph_with_weights_times(made: Made, factor: float) -> Callable[..., onnx.ModelProto]:
    """Return a `build_graph` that returns the graph of a bundle with its last weights scaled."""

    def tampered(*arguments: object) -> onnx.ModelProto:
        model = onnx.load(made.bundle)
        entry = [entry for entry in model.graph.initializer if len(entry.dims) > 1][-1]
        values = numpy_helper.to_array(entry) * np.float32(factor)
        entry.CopyFrom(numpy_helper.from_array(values.astype(np.float32), entry.name))
        return model

    return tampered


def test_a_classifier_bundle_predicts_as_torch_does(classifier: Made) -> None:
    assert classifier.parity.images == 18
    assert classifier.parity.max_score_difference < 1e-5
    checkpoint = load(classifier.run)
    images = sample_images(checkpoint)
    found = classifier.session.run(images)
    assert found.mask is None
    expected = probabilities(all_logits(checkpoint.network(), images), checkpoint.temperature)
    assert found.scores == pytest.approx(expected, abs=1e-5)
    assert found.scores.sum(1) == pytest.approx(1.0, abs=1e-5)
    assert classifier.spec.task is CLASSIFY


def test_a_segmenter_bundle_predicts_as_torch_does(segmenter: Made) -> None:
    assert segmenter.parity.mask_difference == pytest.approx(0.0, abs=1e-3)
    assert segmenter.spec.background == "background"
    checkpoint = load(segmenter.run)
    images = sample_images(checkpoint)
    found = segmenter.session.run(images)
    assert found.mask is not None
    assert found.mask.dtype == np.uint8
    assert (found.mask == predict_masks(checkpoint.network(), images)).mean() > 0.999
    for mask, scores in zip(found.mask, found.scores, strict=True):
        present = np.isin(np.arange(3), mask)
        assert (scores[~present] == 0).all()
        assert (scores[present] > 1 / 3).all()
        assert (scores[present] <= 1.00001).all()


def test_a_bundle_takes_any_number_of_images(classifier: Made, segmenter: Made) -> None:
    for made in (classifier, segmenter):
        images = sample_images(load(made.run))
        together = made.session.run(images[:7])
        for number in range(7):
            alone = made.session.run(images[number : number + 1])
            assert alone.scores[0] == pytest.approx(together.scores[number], abs=1e-5)


def test_a_bundle_describes_itself_and_its_origin(classifier: Made) -> None:
    read = classifier.session.spec
    assert read == BundleSpec.from_metadata(classifier.spec.to_metadata())
    assert read.name == "fine"
    assert read.labels == ("blue", "green", "red")
    assert read.preprocess == PreprocessSpec(32, 32, Geometry.STRETCH)
    assert read.metrics["images"] == 18
    assert read.metrics["accuracy"] == load(classifier.run).metrics["accuracy"]
    assert read.provenance["parity"]["images"] == 18
    assert read.provenance["exported_with"]["opset"] == onnx.load(classifier.bundle).opset_import[0].version
    assert read.provenance["hyperparameters"]["loop"]["seed"] == 0
    assert read.temperature == load(classifier.run).temperature != 1.0
    assert read.thresholds == load(classifier.run).thresholds
    assert read.precision is Precision.FP32


def test_a_bundle_does_not_reveal_the_machine_it_was_made_on(classifier: Made, segmenter: Made) -> None:
    for made in (classifier, segmenter):
        content = made.bundle.read_bytes()
        for private in (str(made.run.parent), str(Path(torch.__file__).parent), str(Path.cwd()), "site-packages"):
            assert private.encode() not in content


def test_the_same_checkpoint_gives_the_same_bytes(classifier: Made, tmp_path: Path) -> None:
    export_bundle(classifier.run, tmp_path / "second.onnx", name="fine")
    assert (tmp_path / "second.onnx").read_bytes() == classifier.bundle.read_bytes()


def test_a_bundle_is_one_file_that_onnx_accepts(classifier: Made, segmenter: Made) -> None:
    for made in (classifier, segmenter):
        assert [path.name for path in made.bundle.parent.iterdir()] == ["bundle.onnx"]
        onnx.checker.check_model(onnx.load(made.bundle), full_check=True)


def test_the_exporter_prints_nothing(classifier: Made, segmenter: Made) -> None:
    assert classifier.printed == segmenter.printed == ""


@pytest.mark.parametrize("kind", ["classifier", "segmenter"])
def test_a_graph_whose_last_weights_are_a_percent_off_is_refused_and_leaves_no_file(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: Made = request.getfixturevalue(kind)
    monkeypatch.setattr(build_module, "build_graph", graph_with_weights_times(made, 1.01))
    with pytest.raises(BundleError, match=r"differs from torch|gives another label than torch") as caught:
        export_bundle(made.run, tmp_path / "bundle.onnx")
    assert caught.value.exit_code == ExitCode.CONFIGURATION
    assert list(tmp_path.iterdir()) == []


def test_a_graph_with_other_weights_is_refused(classifier: Made) -> None:
    checkpoint = load(classifier.run)
    changed = checkpoint.network()
    with torch.no_grad():
        next(changed.parameters()).add_(1e-2)
    parity = compare(classifier.session, torch_reference(changed, classifier.spec), sample_images(checkpoint))
    with pytest.raises(BundleError, match="differs from torch"):
        parity.check()


def test_scores_that_are_not_numbers_are_refused(
    classifier: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_module, "build_graph", graph_with_weights_times(classifier, float("nan")))
    with pytest.raises(BundleError, match="no numbers"):
        export_bundle(classifier.run, tmp_path / "bundle.onnx")


def test_a_refused_export_keeps_the_existing_bundle(
    classifier: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bundle.onnx").write_bytes(before := b"the bundle in production")
    monkeypatch.setattr(build_module, "build_graph", graph_with_weights_times(classifier, 2.0))
    with pytest.raises(BundleError, match="differs from torch"):
        export_bundle(classifier.run, tmp_path / "bundle.onnx")
    assert (tmp_path / "bundle.onnx").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("parity", "fine"),
    [
        (Parity(1, 1e-4), True),
        (Parity(1, 1.1e-4), False),
        (Parity(1, float("nan")), False),
        (Parity(1, 0.0, 0.001), True),
        (Parity(1, 0.0, 0.0011), False),
    ],
)
def test_parity_has_limits(parity: Parity, fine: bool) -> None:
    if fine:
        parity.check()
    else:
        with pytest.raises(BundleError, match="no bundle written"):
            parity.check()


def test_a_run_whose_images_are_gone_asks_for_samples(classifier_run: Path, tmp_path: Path) -> None:
    checkpoint = load(classifier_run)
    (tmp_path / "run").mkdir()
    save(replace(checkpoint, data={"train": [str(tmp_path / "gone")]}), tmp_path / "run")
    with pytest.raises(InputError, match=r"are gone .*--samples"):
        export_bundle(tmp_path / "run", tmp_path / "bundle.onnx")
    save(replace(checkpoint, data={}), tmp_path / "run")
    with pytest.raises(InputError, match=r"names no images; .*--samples"):
        export_bundle(tmp_path / "run", tmp_path / "bundle.onnx")
    others = draw_noisy(tmp_path / "other", each=1)
    assert export_bundle(tmp_path / "run", tmp_path / "bundle.onnx", samples=others).parity.images == 3


def test_at_most_two_hundred_images_of_all_categories_are_compared(classifier_run: Path, tmp_path: Path) -> None:
    images = sample_images(load(classifier_run), draw_noisy(tmp_path / "many", each=90))
    assert len(images) == 200
    assert set(images.mean((1, 2)).argmax(1).tolist()) == {0, 1, 2}


@pytest.mark.parametrize("arch", [Arch.SIMPLE_CNN, Arch.RESNET])
def test_an_untrained_network_of_every_arch_exports(arch: Arch, classifier_run: Path, tmp_path: Path) -> None:
    known = load(classifier_run)
    network = build(arch, 40, 4)
    fields = vars(known) | {"arch": arch, "labels": ("a", "b", "c", "d"), "preprocess": PreprocessSpec(40, 40)}
    save(Checkpoint(**(fields | {"state": network.state_dict()})), tmp_path)
    assert export_bundle(tmp_path, tmp_path / "bundle.onnx").spec.labels == ("a", "b", "c", "d")


def test_a_segmenter_that_mirrors_its_images_exports(segmenter_run: Path, tmp_path: Path) -> None:
    known = load(segmenter_run)
    arch, options = SegmentArch.CONTEXT_UNET, {"shrink": 1}
    network = build(arch, known.preprocess.height, len(known.labels), **options)
    save(replace(known, arch=arch, options=options, state=network.state_dict()), tmp_path)
    done = export_bundle(tmp_path, tmp_path / "bundle.onnx")
    assert done.parity.mask_difference is not None
    assert done.parity.mask_difference < 0.001


@pytest.fixture(scope="module")
def multilabel_run(classifier_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of the same network as a multi-label model with another temperature."""
    run = tmp_path_factory.mktemp("multilabel") / "run"
    run.mkdir()
    save(replace(load(classifier_run), task=MULTILABEL, temperature=2.5), run)
    return run


@pytest.fixture(scope="module")
def multilabel(multilabel_run: Path) -> Made:
    return exported(multilabel_run, io.StringIO())


def test_a_multilabel_bundle_gives_each_label_a_calibrated_score(multilabel: Made) -> None:
    session = multilabel.session
    assert (session.spec.task, session.spec.temperature) == (MULTILABEL, 2.5)
    images = sample_images(load(multilabel.run))
    expected = probabilities(all_logits(load(multilabel.run).network(), images), 2.5, multilabel=True)
    assert session.run(images).scores == pytest.approx(expected, abs=1e-5)
    assert multilabel.parity.label_agreement == 1.0


def test_a_graph_that_picks_the_best_labels_gives_the_worker_the_same_rows(
    multilabel: Made, classifier: Made, tmp_path: Path
) -> None:
    for made in (multilabel, classifier):
        run = made.run
        export_bundle(run, tmp_path / "best.onnx", name="fine", top_k=2)
        whole, best = made.session, Session(tmp_path / "best.onnx", "cpu")
        assert (whole.top_k, best.top_k) == (0, 2)
        images = []
        for number, pixels in enumerate(sample_images(load(run))):
            facts = ImageRow(str(number), 32, 32, "png", 1)
            image = BatchImage(number, "", sha256=facts.sha256, missing=[whole, best], facts=facts)
            image.inputs = {best.spec.preprocess: pixels}
            images.append(image)
        for one, other in (image.answers for image in infer_images(images, [whole, best])):
            assert [label for label, _ in other.labels] == [label for label, _ in one.labels[:2]]
            assert [score for _, score in other.labels] == pytest.approx([score for _, score in one.labels[:2]])
        assert best.run(sample_images(load(run))).scores.shape[1] == 3


def test_top_k_must_be_below_the_number_of_labels_and_is_not_for_masks(
    classifier: Made, segmenter: Made, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="--top-k 3: the run has 3 labels, so it must be below that"):
        export_bundle(classifier.run, tmp_path / "bundle.onnx", top_k=3)
    with pytest.raises(InputError, match="a segmenter gives a label for each pixel"):
        export_bundle(segmenter.run, tmp_path / "bundle.onnx", top_k=1)


def test_top_k_labels_that_do_not_have_the_best_scores_are_refused(
    classifier: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def smallest_first(network: nn.Module, spec: BundleSpec, top_k: int, *further: Any) -> onnx.ModelProto:
        model = build_graph(network, spec, top_k, *further)
        node = next(node for node in model.graph.node if node.op_type == "TopK")
        next(attribute for attribute in node.attribute if attribute.name == "largest").i = 0
        return model

    monkeypatch.setattr(build_module, "build_graph", smallest_first)
    with pytest.raises(BundleError, match="top-k is not the best of its own scores"):
        export_bundle(classifier.run, tmp_path / "bundle.onnx", top_k=2)


def test_a_description_keeps_only_the_end_of_each_path(classifier_run: Path) -> None:
    checkpoint = replace(load(classifier_run), data={"train": ["/home/ada/secret/shop/train"], "test": []})
    assert describe(checkpoint, "shop").provenance["data"] == {"train": ["shop/train"]}


def test_the_command_writes_the_same_bytes_and_prints_their_difference_from_torch(
    segmenter: Made, tmp_path: Path
) -> None:
    done = CliRunner().invoke(export, [str(segmenter.run), "-o", str(tmp_path / "shapes.onnx"), "--name", "fine"])
    assert done.exit_code == 0, done.output
    assert "segment bundle fine, 3 labels" in done.stdout
    assert "16 images" in done.stdout
    assert (tmp_path / "shapes.onnx").read_bytes() == segmenter.bundle.read_bytes()


def test_a_bad_name_is_refused_before_a_graph_is_built(
    classifier_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[Path] = []
    monkeypatch.setattr(build_module, "sample_images", lambda *_: built.append(tmp_path))
    with pytest.raises(InputError, match=r"model name 'shirts \(2\)' must begin with .*`export --name` give another"):
        export_bundle(classifier_run, tmp_path / "shirts (2).onnx")
    assert built == []


def test_a_name_that_does_not_end_in_onnx_or_a_missing_folder_is_refused(classifier_run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ends in \.onnx"):
        export_bundle(classifier_run, tmp_path / "bundle")
    with pytest.raises(InputError, match="is not a folder; create it"):
        export_bundle(classifier_run, tmp_path / "nowhere" / "bundle.onnx")


def test_a_folder_at_the_path_of_the_bundle_is_refused_before_the_work(
    classifier_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shirts.onnx").mkdir()
    monkeypatch.setattr(build_module, "build_graph", None)
    with pytest.raises(InputError, match=r"shirts\.onnx: is a folder; name the file to write with -o, or remove"):
        export_bundle(classifier_run, tmp_path / "shirts.onnx")


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"damaged")
    with pytest.raises(InputError, match="is damaged"):
        export_bundle(tmp_path, tmp_path / "bundle.onnx")


def test_an_embedding_is_of_unit_length_and_what_torch_gives(classifier_run: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "looks.onnx"
    done = export_bundle(classifier_run, bundle, embedding=12)  # 18 images choose its components
    assert done.spec.embedding == 12
    session = Session(bundle, device="cpu")
    images = sample_images(load(classifier_run))
    found = session.run(images).embedding
    assert found is not None
    assert found.shape == (18, 12)
    assert np.linalg.norm(found, axis=1) == pytest.approx(1.0, abs=1e-5)
    assert session.run(images[3:4]).embedding == pytest.approx(found[3:4], abs=1e-5)


def test_an_embedding_that_differs_from_torch_writes_no_bundle(
    classifier_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = build_module._build_graph

    def turned(
        network: nn.Module, spec: BundleSpec, top_k: int, projection: Projection | None, place: None
    ) -> onnx.ModelProto:
        assert projection is not None
        other = replace(projection, components=projection.components[:, ::-1].copy())
        return real(network, spec, top_k, other, place)

    monkeypatch.setattr(build_module, "_build_graph", turned)
    with pytest.raises(BundleError, match="in an embedding"):
        export_bundle(classifier_run, tmp_path / "looks.onnx", embedding=12)
    assert list(tmp_path.iterdir()) == []


def test_an_embedding_that_the_run_cannot_give_is_refused(
    classifier_run: Path, segmenter_run: Path, tmp_path: Path
) -> None:
    for run, width, said in (
        (classifier_run, 513, "at most 512 numbers are stored"),
        (classifier_run, 100, "18 images to choose them from|choose from them; at most 18 are possible"),
        (segmenter_run, 12, "a segmenter and an SVC have none"),
    ):
        with pytest.raises(InputError, match=said):
            export_bundle(run, tmp_path / "looks.onnx", embedding=width)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def pooled_run(classifier_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run of an untrained residual network, which averages its last feature map."""
    run = tmp_path_factory.mktemp("pooled")
    known, network = load(classifier_run), build(Arch.RESNET, 64, 3)
    fields = vars(known) | {"arch": Arch.RESNET, "preprocess": PreprocessSpec(64, 64), "state": network.state_dict()}
    save(Checkpoint(**fields), run)
    return run


@dataclass(frozen=True)
class Mapped:
    """The bundle that the command wrote of a run, with an activation map beside all other outputs."""

    run: Path
    bundle: Path
    done: Result


@pytest.fixture(scope="module")
def mapped(pooled_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapped:
    bundle = tmp_path_factory.mktemp("mapped") / "why.onnx"
    options = [str(pooled_run), "-o", str(bundle), "--top-k", "2", "--embedding", "4", "--activation-map"]
    return Mapped(pooled_run, bundle, CliRunner().invoke(export, options))


def test_an_activation_map_comes_beside_the_other_outputs_and_survives_float16(mapped: Mapped, tmp_path: Path) -> None:
    assert mapped.done.exit_code == 0, mapped.done.output
    session = Session(mapped.bundle, device="cpu")
    images = sample_images(load(mapped.run))
    found = session.run(images, best_only=True)
    assert found.embedding is not None
    assert found.activation_map is not None
    assert found.activation_map.dtype == np.uint8
    assert found.activation_map.shape[0] == 18
    assert min(found.activation_map.shape) > 1
    assert set(found.activation_map.max((1, 2)).tolist()) <= {0, 255}
    assert np.array_equal(found.at(slice(3, 5)).activation_map, found.activation_map[3:5])
    half = tmp_path / "half.onnx"
    reduced = to_float16(onnx.load(mapped.bundle))
    onnx.helper.set_model_props(reduced, replace(session.spec, precision=Precision.FP16).to_metadata())
    onnx.save(reduced, half)
    again = Session(half, device="cpu").run(images).activation_map
    assert again is not None
    assert again.shape == found.activation_map.shape


def test_an_activation_map_that_differs_from_torch_writes_no_bundle(
    mapped: Mapped, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def negative(*arguments: object) -> onnx.ModelProto:
        model = onnx.load(mapped.bundle)
        last = next(node for node in model.graph.node if ACTIVATION_MAP in node.output)
        last.output[:] = ["positive" if name == ACTIVATION_MAP else name for name in last.output]
        model.graph.node.append(onnx.helper.make_node("BitwiseNot", ["positive"], [ACTIVATION_MAP]))
        return model

    monkeypatch.setattr(build_module, "_build_graph", negative)
    with pytest.raises(BundleError, match="of the cells of its activation maps"):
        export_bundle(mapped.run, tmp_path / "why.onnx", top_k=2, embedding=4, activation_map=True)
    assert list(tmp_path.iterdir()) == []


def test_an_activation_map_that_the_run_cannot_give_is_refused(
    classifier_run: Path, segmenter_run: Path, tmp_path: Path
) -> None:
    for run, said in ((classifier_run, "averages its last feature map"), (segmenter_run, "a segmenter and an SVC")):
        with pytest.raises(InputError, match=said):
            export_bundle(run, tmp_path / "why.onnx", activation_map=True)
    assert list(tmp_path.iterdir()) == []
