"""Golden samples: a bundle carries predictions, and a session that predicts something else refuses to load it."""

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import numpy_helper
from support.bundles import COLORS, write_classifier, write_logits, write_segmenter
from support.image_fixtures import write_image

from export.cli.model import model as model_command
from export.proof.golden import SAMPLES, golden_samples
from tagmill.bundles.golden import GoldenSamples
from tagmill.bundles.metadata import GOLDEN, BundleSpec, Precision
from tagmill.errors import BundleError, ConfigurationError, ExitCode
from tagmill.images.preprocess import PreprocessSpec
from tagmill.tasks.base import Prediction
from tagmill.tasks.classify import CLASSIFY
from tagmill.tasks.segment import SEGMENT
from worker.cli.predict import predict
from worker.inference.backend import Arithmetic
from worker.inference.golden_check import EIGHT_BITS, EXACT, SEVEN_BITS, TEN_BITS, check_answers, tolerance
from worker.inference.session import CPU, CUDA, Session

SPEC = BundleSpec("colors", CLASSIFY, COLORS, PreprocessSpec(5, 4))
MASKED = BundleSpec("masks", SEGMENT, COLORS, PreprocessSpec(5, 4))


def colored(count: int, size: int, seed: int = 0) -> np.ndarray:
    """Return noisy images that are red, green and blue in turn, each one less than the one before."""
    images = np.random.default_rng(seed).integers(0, 100, (count, size, size, 3), dtype=np.uint8)
    for number in range(count):
        images[number, ..., number % 3] += np.uint8(120 * (count - number) / count)
    return images


def with_golden(path: Path, images: np.ndarray, graph_bytes: int = 10**7) -> Path:
    """Put golden samples into a bundle."""
    samples = golden_samples(Session(path, "cpu"), images, graph_bytes)
    model = onnx.load(path)
    model.metadata_props.add(key=GOLDEN, value=samples.to_text())
    onnx.save(model, path)
    return path


def with_constant(path: Path, name: str, factor: float) -> Path:
    """Change what a bundle computes, but not its description."""
    model = onnx.load(path)
    entry = next(entry for entry in model.graph.initializer if entry.name == name)
    entry.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(entry) * np.float32(factor), name))
    onnx.save(model, path)
    return path


@given(
    arrays.arrays(np.uint8, (2, 5, 4, 3)),
    arrays.arrays(np.float32, (2, 3), elements=st.floats(0, 1, width=32)),
    st.none() | arrays.arrays(np.uint8, (2, 5, 4)),
)
def test_samples_survive_a_round_trip_through_text(
    images: np.ndarray, scores: np.ndarray, mask: np.ndarray | None
) -> None:
    text = GoldenSamples(images, scores, mask).to_text()
    read = GoldenSamples.from_text(text, SPEC if mask is None else MASKED)
    assert (read.images == images).all()
    assert read.scores == pytest.approx(scores, abs=1e-5)
    assert (read.mask is None) == (mask is None)
    assert mask is None or (read.mask == mask).all()


def test_a_bundle_that_predicts_as_it_did_is_loaded_and_reports_the_difference(tmp_path: Path) -> None:
    classifier = with_golden(write_classifier(tmp_path / "c.onnx"), colored(12, 16))
    segmenter = with_golden(write_segmenter(tmp_path / "s.onnx"), colored(12, 32))
    for path in (classifier, segmenter):
        difference = Session(path, "cpu").golden_difference
        assert difference is not None
        assert difference < EXACT.score
    assert Session(write_classifier(tmp_path / "without.onnx"), "cpu").golden_difference is None


def test_a_bundle_that_predicts_something_else_is_refused_with_provider_and_difference(tmp_path: Path) -> None:
    classifier = with_golden(write_classifier(tmp_path / "c.onnx"), colored(12, 16))
    with pytest.raises(BundleError, match=r"c\.onnx: on CPUExecutionProvider .* differ by 0\.\d+ in a score"):
        Session(with_constant(classifier, "scale", 1.1), "cpu")
    segmenter = with_golden(write_segmenter(tmp_path / "s.onnx"), colored(12, 32))
    with pytest.raises(BundleError, match=r"differ by 0\.\d+ of the mask pixels \(0\.001 allowed\)"):
        Session(with_constant(segmenter, "almost_white", 0.2), "cpu")


def test_scores_that_are_not_numbers_differ_by_the_maximum(tmp_path: Path) -> None:
    classifier = with_golden(write_classifier(tmp_path / "c.onnx"), colored(12, 16))
    with pytest.raises(BundleError, match="differ by 1 in a score"):
        Session(with_constant(classifier, "scale", float("nan")), "cpu")


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "7", '[{"image": "!"}]', '[{"image": "aGVsbG8=", "scores": [1, 0, 0]}]'],
)
def test_samples_that_cannot_be_parsed_are_refused(text: str, tmp_path: Path) -> None:
    path = write_classifier(tmp_path / "c.onnx")
    model = onnx.load(path)
    model.metadata_props.add(key=GOLDEN, value=text)
    onnx.save(model, path)
    with pytest.raises(BundleError, match=r"c\.onnx: its golden samples are not understood: .*`tagmill export`"):
        Session(path, "cpu")


def test_samples_of_another_size_or_number_of_labels_are_refused() -> None:
    text = GoldenSamples(np.zeros((2, 6, 4, 3), np.uint8), np.zeros((2, 3), np.float32), None).to_text()
    with pytest.raises(BundleError, match="not understood"):
        GoldenSamples.from_text(text, SPEC)
    text = GoldenSamples(np.zeros((2, 5, 4, 3), np.uint8), np.zeros((2, 9), np.float32), None).to_text()
    with pytest.raises(BundleError, match="not understood"):
        GoldenSamples.from_text(text, SPEC)


def test_samples_are_the_least_certain_images_of_labels_that_are_far_apart(tmp_path: Path) -> None:
    session = Session(write_classifier(tmp_path / "c.onnx"), "cpu")
    images = colored(30, 16)
    found = golden_samples(session, images, 10**7)
    assert len(found.images) == SAMPLES
    assert set(found.scores.argmax(1).tolist()) == {0, 1, 2}
    scores = session.run(images).scores
    for label in range(3):
        own = scores[scores.argmax(1) == label, label]
        assert found.scores[found.scores.argmax(1) == label, label].min() == own.min()


def test_the_samples_of_a_segmenter_show_its_labels(tmp_path: Path) -> None:
    session = Session(write_segmenter(tmp_path / "s.onnx"), "cpu")
    found = golden_samples(session, colored(12, 32), 10**7)
    assert found.mask is not None
    assert found.mask.shape == (SAMPLES, 32, 32)
    assert set(np.unique(found.mask)) >= {1, 2, 3}


def test_all_images_are_taken_if_there_are_few(tmp_path: Path) -> None:
    session = Session(write_classifier(tmp_path / "c.onnx"), "cpu")
    assert len(golden_samples(session, colored(2, 16), 10**7).images) == 2


def test_images_that_are_too_large_lose_colors_and_then_become_fewer(tmp_path: Path) -> None:
    session = Session(write_classifier(tmp_path / "c.onnx", size=64), "cpu")
    images = colored(12, 64)
    whole = golden_samples(session, images, 10**8)
    fewer = golden_samples(session, images, 10**6)
    one = golden_samples(session, images, 1000)
    assert len(whole.to_text()) > 30_000 >= len(fewer.to_text())
    assert (len(whole.images), len(fewer.images), len(one.images)) == (4, 4, 1)
    assert len(np.unique(fewer.images[0].reshape(-1, 3), axis=0)) <= 256
    assert len(np.unique(one.images[0].reshape(-1, 3), axis=0)) <= 16
    assert fewer.scores == pytest.approx(session.run(fewer.images).scores)


def test_the_tolerance_is_tightest_for_float32_and_widest_for_8_bits() -> None:
    assert tolerance(Precision.FP32, Arithmetic.FLOAT32) is EXACT
    assert tolerance(Precision.FP32, Arithmetic.TF32) is tolerance(Precision.FP16, Arithmetic.FLOAT32) is TEN_BITS
    assert (
        tolerance(Precision.FP32, Arithmetic.BFLOAT16) is tolerance(Precision.FP16, Arithmetic.BFLOAT16) is SEVEN_BITS
    )
    assert all(tolerance(Precision.INT8, arithmetic) is EIGHT_BITS for arithmetic in Arithmetic)
    assert EXACT.score < TEN_BITS.score < SEVEN_BITS.score < EIGHT_BITS.score
    assert EXACT.mask < TEN_BITS.mask < SEVEN_BITS.mask <= EIGHT_BITS.mask


def test_cuda_may_differ_by_the_rounding_of_tf32_and_no_more() -> None:
    golden = GoldenSamples(np.zeros((1, 5, 4, 3), np.uint8), np.array([[0.5, 0.3, 0.2]], np.float32), None)
    allowed = tolerance(Precision.FP32, Arithmetic.TF32)
    near, far = golden.scores + np.float32(0.015), golden.scores + np.float32(0.025)
    assert check_answers(Path("c.onnx"), CUDA, CLASSIFY, golden, Prediction(near), allowed) == pytest.approx(0.015)
    with pytest.raises(BundleError, match=r"c\.onnx: on CUDAExecutionProvider its golden samples differ by 0\.025"):
        check_answers(Path("c.onnx"), CUDA, CLASSIFY, golden, Prediction(far), allowed)


def test_a_command_that_loads_such_a_bundle_exits_with_78(tmp_path: Path) -> None:
    path = with_constant(with_golden(write_classifier(tmp_path / "c.onnx"), colored(12, 16)), "scale", 2.0)
    image = write_image(tmp_path / "red.png", "red")
    error = CliRunner().invoke(predict, [str(image), "--bundle", str(path), "--device", "cpu"]).exception
    assert isinstance(error, BundleError)
    assert error.exit_code == ExitCode.CONFIGURATION
    assert "\n" not in str(error)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TAGMILL_DATABASE_URL", f"sqlite:///{tmp_path / 'tagmill.db'}")
    monkeypatch.setenv("TAGMILL_MODEL_STORE", str(tmp_path / "store"))
    from tagmill.db.connection import connect
    from tagmill.db.migrate import upgrade

    upgrade(connect(f"sqlite:///{tmp_path / 'tagmill.db'}"))
    return tmp_path / "store"


def run_model(*words: str) -> str:
    done = CliRunner().invoke(model_command, list(words))
    if done.exception is not None:
        raise done.exception
    return done.stdout


def test_a_registered_model_is_verified_by_its_file_and_its_golden_samples(store: Path, tmp_path: Path) -> None:
    run_model("add", str(with_golden(write_classifier(tmp_path / "c.onnx"), colored(12, 16))), "--name", "shirts")
    run_model("add", str(write_classifier(tmp_path / "old.onnx", name="old")))
    printed = run_model("verify", "shirts", "--device", "cpu")
    assert f"shirts@1: the file is the registered one; on {CPU} its golden samples differ by at most" in printed
    assert "it has no golden samples" in run_model("verify", "old@1", "--device", "cpu")
    sha256 = json.loads(run_model("show", "shirts"))["sha256"]
    with_constant(store / f"{sha256}.onnx", "scale", 1.5)
    with pytest.raises(BundleError, match="sha256 differs from the registered one"):
        run_model("verify", "shirts", "--device", "cpu")


def test_verify_loads_a_model_as_a_worker_does(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    run_model("add", str(with_golden(write_classifier(tmp_path / "c.onnx"), colored(12, 16))), "--name", "shirts")
    assert "on OpenVINO" in run_model("verify", "shirts", "--device", "openvino")
    monkeypatch.setenv("TAGMILL_DEVICE", "openvino")
    assert "on OpenVINO" in run_model("verify", "shirts")
    with pytest.raises(
        ConfigurationError, match=r"^TAGMILL_DEVICE: must be auto, cpu, cuda:N, tensorrt:N or openvino$"
    ):
        run_model("verify", "shirts", "--device", "gpu")


@pytest.mark.parametrize(
    ("factor", "scores"), [(1.0, "0 to 255"), (-0.01, "-2.55 to -0"), (float("nan"), "nan to nan")]
)
def test_a_graph_whose_scores_leave_0_to_1_is_refused(store: Path, tmp_path: Path, factor: float, scores: str) -> None:
    bundle = write_logits(tmp_path / "logits.onnx", factor)
    message = f"logits.onnx: on CPUExecutionProvider its scores are {scores}, not 0 to 1; the graph must end with"
    for command, words in ((model_command, ["add", str(bundle)]), (predict, [str(bundle), "--bundle", str(bundle)])):
        done = CliRunner().invoke(command, words)
        assert isinstance(done.exception, BundleError)
        assert re.search(message, str(done.exception))
    assert not list(store.glob("*.onnx"))


def test_golden_samples_with_scores_that_leave_0_to_1_are_refused(tmp_path: Path) -> None:
    with_golden(write_logits(tmp_path / "good.onnx", 1 / 255), colored(3, 16))
    assert Session(tmp_path / "good.onnx", "cpu").golden_difference is not None
    bundle = write_logits(tmp_path / "logits.onnx", 1.0)
    samples = GoldenSamples(colored(3, 16), Session(bundle, "cpu").run(colored(3, 16)).scores, None)
    model = onnx.load(bundle)
    model.metadata_props.add(key=GOLDEN, value=samples.to_text())
    onnx.save(model, bundle)
    with pytest.raises(BundleError, match="not 0 to 1"):
        Session(bundle, "cpu")
