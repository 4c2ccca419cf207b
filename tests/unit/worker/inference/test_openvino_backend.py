"""OpenVINO as a session's backend: the same answers, deadlines and errors as ONNX Runtime."""

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper
from support.bundles import write_classifier, write_segmenter, write_tagger
from support.image_fixtures import write_image

from tagmill import machine
from tagmill.bundles.metadata import INPUT, BundleSpec
from tagmill.bundles.starter import starter_bundles
from tagmill.errors import BundleError, ConfigurationError, ExitCode
from tagmill.images.preprocess import PreprocessSpec
from tagmill.tasks.base import SCORES
from tagmill.tasks.classify import CLASSIFY
from worker.cli.predict import predict
from worker.inference.call_tracker import StalledCallError
from worker.inference.golden_check import SEVEN_BITS
from worker.inference.openvino_backend import PROVIDER, properties
from worker.inference.session import Session

pytest.importorskip("openvino")


def noise(count: int, size: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def write_slow_classifier(path: Path, layers: int = 400, size: int = 64) -> Path:
    """Write a classifier of many layers, each of which takes some milliseconds."""
    nodes = [
        helper.make_node("Cast", [INPUT], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["x0"], perm=[0, 3, 1, 2]),
        *(helper.make_node("Conv", [f"x{n}", "kernel"], [f"x{n + 1}"], pads=[3, 3, 3, 3]) for n in range(layers)),
        helper.make_node("ReduceMean", [f"x{layers}", "axes"], ["mean"], keepdims=0),
        helper.make_node("Softmax", ["mean"], [SCORES], axis=1),
    ]
    constants = {
        "kernel": np.full((3, 3, 7, 7), 1 / 147, dtype=np.float32),
        "axes": np.array([2, 3], dtype=np.int64),
    }
    spec = BundleSpec("slow", CLASSIFY, ("a", "b", "c"), PreprocessSpec(size, size))
    made = helper.make_graph(
        nodes,
        "slow",
        [helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["n", size, size, 3])],
        [helper.make_tensor_value_info(SCORES, TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    helper.set_model_props(model, spec.to_metadata())
    onnx.save(model, path)
    return path


def test_it_names_its_provider_and_gives_the_answers_of_onnx_runtime(tmp_path: Path) -> None:
    for path in (write_classifier(tmp_path / "c.onnx"), write_tagger(tmp_path / "t.onnx")):
        here, there = Session(path, "openvino", 1), Session(path, "cpu", 1)
        assert (here.provider, here.spec, here.sha256, here.top_k) == (PROVIDER, there.spec, there.sha256, there.top_k)
        found = here.run(noise(5, 16))
        assert found.scores.dtype == np.float32
        assert found.scores == pytest.approx(there.run(noise(5, 16)).scores, abs=SEVEN_BITS.score)


def test_a_segmenter_returns_its_mask(tmp_path: Path) -> None:
    path = write_segmenter(tmp_path / "s.onnx")
    found, expected = Session(path, "openvino", 1).run(noise(2, 32)), Session(path, "cpu", 1).run(noise(2, 32))
    assert found.mask is not None
    assert (found.mask.dtype, found.mask.shape) == (np.uint8, (2, 32, 32))
    assert (found.mask != expected.mask).mean() <= SEVEN_BITS.mask


def test_the_starter_bundle_passes_its_golden_samples() -> None:
    difference = Session(starter_bundles()[0], "openvino").golden_difference
    assert difference is not None
    assert difference <= SEVEN_BITS.score


def test_any_number_of_threads_may_call_and_each_gets_its_own_answer(tmp_path: Path) -> None:
    session = Session(write_classifier(tmp_path / "c.onnx"), "openvino", 1)
    images = noise(64, 16)
    alone = [session.run(images[n : n + 1]).scores[0] for n in range(64)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda n: session.run(images[n : n + 1]).scores[0], range(64)))
    assert np.array(together) == pytest.approx(np.array(alone), abs=1e-6)


def test_images_that_are_not_contiguous_are_accepted(tmp_path: Path) -> None:
    session = Session(write_classifier(tmp_path / "c.onnx"), "openvino", 1)
    images = noise(8, 16)
    assert session.run(images[::2]).scores == pytest.approx(session.run(images[::2].copy()).scores)


def test_a_stalled_call_is_cancelled_and_the_session_still_works(tmp_path: Path) -> None:
    session = Session(write_slow_classifier(tmp_path / "slow.onnx"), "openvino", 1)
    stop = threading.Event()

    def check() -> None:
        while not stop.wait(0.02):
            session.calls.cancel_stalled(0.2)

    thread = threading.Thread(target=check)
    thread.start()
    started = time.monotonic()
    try:
        with pytest.raises(StalledCallError):
            session.run(noise(512, 64))
    finally:
        stop.set()
        thread.join()
    assert time.monotonic() - started < 60  # all of it would take minutes
    assert session.calls.longest_overdue() == 0.0
    assert session.run(noise(1, 64)).scores.shape == (1, 3)


def test_weights_in_another_file_are_refused_although_openvino_would_read_them(tmp_path: Path) -> None:
    import openvino

    path = write_classifier(tmp_path / "c.onnx")
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    openvino.Core().read_model(path)  # it does
    with pytest.raises(BundleError, match="its weights lie in another file"):
        Session(path, "openvino")


def test_a_graph_with_an_unknown_operator_is_refused_in_one_line(tmp_path: Path) -> None:
    path = write_classifier(tmp_path / "c.onnx")
    model = onnx.load(path)
    model.graph.node[-1].op_type = "SoftmaxOfTomorrow"
    onnx.save(model, path)
    with pytest.raises(BundleError, match=r"c\.onnx: OpenVINO cannot load it: ") as caught:
        Session(path, "openvino")
    assert "\n" not in str(caught.value)


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'tagmill\[openvino\]'") as caught:
        Session(write_classifier(tmp_path / "c.onnx"), "openvino")
    assert caught.value.exit_code == ExitCode.CONFIGURATION


def test_calls_share_the_cores_and_no_thread_is_pinned() -> None:
    alone, shared = properties(8, 1), properties(2, 4)
    assert (alone["PERFORMANCE_HINT"], alone["NUM_STREAMS"], alone["INFERENCE_NUM_THREADS"]) == ("LATENCY", 1, 8)
    assert (shared["PERFORMANCE_HINT"], shared["NUM_STREAMS"], shared["INFERENCE_NUM_THREADS"]) == ("THROUGHPUT", 4, 8)
    assert alone["ENABLE_CPU_PINNING"] is shared["ENABLE_CPU_PINNING"] is False


@pytest.mark.parametrize(
    ("flags", "precision"),
    [
        ("flags\t\t: avx2 avx512_bf16 avx512_vnni", "f32"),
        ("flags\t\t: avx512_bf16 amx_bf16 amx_tile", None),
        ("flags\t\t: avx2", None),
        (None, None),
    ],
)
def test_bfloat16_is_used_only_on_cpus_that_are_fast_at_it(
    flags: str | None, precision: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    described = tmp_path / "cpuinfo"
    if flags is not None:
        described.write_text(f"processor\t: 0\n{flags}\n\nprocessor\t: 1\n{flags}\n")
    monkeypatch.setattr(machine, "_CPU_INFO", described)
    machine.cpu_flags.cache_clear()
    assert properties(1, 2).get("INFERENCE_PRECISION_HINT") == precision


def test_openvino_is_a_device_of_the_commands(tmp_path: Path) -> None:
    path, image = write_classifier(tmp_path / "c.onnx"), write_image(tmp_path / "red.png", "red")
    done = CliRunner().invoke(predict, [str(image), "--bundle", str(path), "--device", "openvino"])
    assert "colors: red" in done.output
