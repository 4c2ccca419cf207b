"""Options and calls of a GPU, as far as they can be tested without one."""

import _ctypes
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from support.bundles import BAD_RED, write_classifier, write_fussy_classifier, write_hungry_classifier, write_segmenter

from tagmill.bundles.starter import starter_bundles
from tagmill.device import Device
from tagmill.errors import BundleError, ConfigurationError, ExitCode
from tagmill.settings import Settings, load_settings
from tagmill.tasks.base import MASK, SCORES
from worker.devices import provider_options as provider_options_module
from worker.devices.cuda_libraries import load_tensorrt
from worker.devices.cuda_thread import gpu_thread
from worker.devices.pinned_memory import pin, pinned_buffer
from worker.devices.provider_options import (
    CPU,
    CUDA,
    TENSORRT,
    GpuOptions,
    cuda_options,
    provider_options,
    tensorrt_options,
)
from worker.devices.resolve import gpu_visible
from worker.inference.call_tracker import CallTracker
from worker.inference.gpu_buffers import ShapedCalls, largest_fitting
from worker.inference.onnxruntime_backend import OnnxRuntimeBackend, session_options
from worker.inference.session import Session
from worker.inference.session_loader import gpu_options
from worker.supervision.device_check import require_device
from worker.timeout_pool import TimeoutPool

ROOT = Path(__file__).parents[4]
NO_GPU = pytest.mark.skipif(gpu_visible(), reason="this machine has a GPU: benchmarks/gpu.py checks it")


def shaped(path: Path, batch: int, fixed: bool = False) -> ShapedCalls:
    """Return the calls of a GPU session, but on the CPU; with `fixed` the graph has a fixed batch size."""
    options = ort.SessionOptions()
    if fixed:
        options.add_free_dimension_override_by_name("n", batch)
    return ShapedCalls(ort.InferenceSession(str(path), options, providers=[CPU]), batch, 0, place="cpu")


def test_each_device_asks_for_its_provider_and_those_that_take_what_it_cannot_run() -> None:
    def names(device: str) -> list[str]:
        providers = provider_options(Device.parse(device), GpuOptions())
        return [entry if isinstance(entry, str) else entry[0] for entry in providers]

    assert names("cpu") == [CPU]
    assert names("cuda:1") == [CUDA, CPU]
    assert names("tensorrt") == [TENSORRT, CUDA, CPU]


def test_cuda_has_a_memory_limit_and_a_heuristic_algorithm_search() -> None:
    plain = cuda_options(1, GpuOptions())
    assert plain["device_id"] == "1"
    assert (plain["arena_extend_strategy"], plain["cudnn_conv_algo_search"]) == ("kSameAsRequested", "HEURISTIC")
    assert not {"gpu_mem_limit", "enable_cuda_graph"} & set(plain)
    full = cuda_options(0, GpuOptions(memory=2**32, graphs=True))
    assert (full["gpu_mem_limit"], full["enable_cuda_graph"]) == (str(2**32), "1")


def test_tensorrt_caches_its_engines_and_uses_float16_only_for_a_float16_bundle() -> None:
    plain, half = tensorrt_options(0, GpuOptions()), tensorrt_options(0, GpuOptions(cache=Path("/e"), half=True))
    assert "trt_fp16_enable" not in plain
    assert "trt_engine_cache_enable" not in plain
    assert (half["trt_fp16_enable"], half["trt_engine_cache_enable"]) == ("1", "1")
    assert half["trt_engine_cache_path"] == "/e/64"


def test_with_tensorrt_cuda_records_no_graph() -> None:
    options = dict(provider_options(Device("tensorrt"), GpuOptions(graphs=True))[:2])  # type: ignore[arg-type]
    assert options[TENSORRT]["trt_cuda_graph_enable"] == "1"
    assert "enable_cuda_graph" not in options[CUDA]


def test_gpu_options_come_from_the_settings(tmp_path: Path) -> None:
    found = gpu_options(Settings(gpu_memory=10**9, cuda_graphs=True, cache_folder=tmp_path))
    assert (found.memory, found.graphs, found.cache) == (10**9, True, tmp_path / "tensorrt")
    assert gpu_options(Settings()).memory == 0


@pytest.mark.parametrize("fixed", [False, True], ids=["any batch", "its batch"])
@pytest.mark.parametrize("count", [1, 3, 8, 20])
def test_padded_calls_through_bound_buffers_answer_as_plain_calls_do(count: int, fixed: bool, tmp_path: Path) -> None:
    images = np.random.default_rng(count).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    path = write_segmenter(tmp_path / "s.onnx")
    plain = Session(path, "cpu", 1).run(images)
    calls = shaped(path, 8, fixed)
    for _ in range(2):
        scores, mask = calls.run([SCORES, MASK], images, ort.RunOptions())
        assert scores == pytest.approx(plain.scores, abs=1e-6)
        assert (mask == plain.mask).all()
    (alone,) = calls.run([SCORES], images[::-1], ort.RunOptions())
    assert alone == pytest.approx(plain.scores[::-1], abs=1e-6)


def test_an_answer_is_not_overwritten_by_the_next_call(tmp_path: Path) -> None:
    calls = shaped(write_classifier(tmp_path / "c.onnx"), 8)
    red, blue = np.zeros((8, 16, 16, 3), np.uint8), np.zeros((8, 16, 16, 3), np.uint8)
    red[..., 0] = blue[..., 2] = 255
    (first,) = calls.run([SCORES], red, ort.RunOptions())
    before = first.copy()
    calls.run([SCORES], blue, ort.RunOptions())
    assert (first == before).all()


def test_an_image_that_the_model_fails_on_does_not_stay_in_the_buffers(tmp_path: Path) -> None:
    calls = shaped(write_fussy_classifier(tmp_path / "fussy.onnx"), 8)
    images = np.zeros((6, 16, 16, 3), np.uint8)
    images[5, 0, 0, 0] = BAD_RED
    with pytest.raises(Exception, match="Gather"):
        calls.run([SCORES], images, ort.RunOptions())
    (scores,) = calls.run([SCORES], images[:3], ort.RunOptions())
    assert scores.shape == (3, 3)


@pytest.mark.parametrize("bundle", starter_bundles(), ids=lambda path: path.stem)
def test_a_gpus_graph_has_the_batch_size_in_the_dimension_that_export_names(bundle: Path) -> None:
    def sizes(gpu: GpuOptions) -> set[object]:
        options = session_options(bundle, Device("cuda"), 1, gpu)
        session = ort.InferenceSession(str(bundle), options, providers=[CPU])
        return {entry.shape[0] for entry in [*session.get_inputs(), *session.get_outputs()]}

    assert sizes(GpuOptions(batch=4)) == {4}
    assert sizes(GpuOptions(io_binding=False)) == {"n"}


def test_a_batch_that_does_not_fit_in_memory_is_halved_until_it_does(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_hungry_classifier(tmp_path / "hungry.onnx", most=9)
    calls = largest_fitting(lambda batch: shaped(path, batch, fixed=True), 64)
    assert calls.batch == 8
    assert [vars(record)["images"] for record in caplog.records] == [64, 32, 16]
    (scores,) = calls.run([SCORES], np.zeros((20, 16, 16, 3), np.uint8), ort.RunOptions())
    assert scores.shape == (20, 3)


@pytest.mark.parametrize(("reason", "tried"), [("out of memory", [4, 2, 1]), ("operation not permitted", [4])])
def test_an_error_that_a_smaller_batch_does_not_fix_is_raised(reason: str, tried: list[int]) -> None:
    batches: list[int] = []

    def make(batch: int) -> None:
        batches.append(batch)
        raise RuntimeError(f"CUDA failure: {reason}")

    with pytest.raises(RuntimeError, match=reason):
        largest_fitting(make, 4)
    assert batches == tried


def test_a_gpus_calls_run_in_its_thread_and_waiting_does_not_count_as_running(tmp_path: Path) -> None:
    path = write_classifier(tmp_path / "c.onnx")
    backend, calls, free = OnnxRuntimeBackend(path, Device("cpu"), 1, GpuOptions()), CallTracker(), threading.Event()
    threads: list[str] = []

    class Watched(ShapedCalls):
        def run(self, *given: Any) -> Any:
            threads.append(threading.current_thread().name)
            return super().run(*given)

    with TimeoutPool(1, "gpu") as gpu, ThreadPoolExecutor(2) as callers:
        backend._thread = gpu
        backend._shaped = gpu.submit(lambda: Watched(backend._session, 4, 0, "cpu")).result()
        gpu.submit(free.wait)
        answers = [callers.submit(backend.run, [SCORES], np.zeros((6, 16, 16, 3), np.uint8), calls) for _ in range(2)]
        time.sleep(0.1)
        assert calls.cancel_stalled(0) == 0
        free.set()
        assert [answer.result()[0].shape for answer in answers] == [(6, 3), (6, 3)]
        assert threads == ["gpu", "gpu"]
        with pytest.raises(ValueError, match="broadcast"):
            backend.run([SCORES], np.zeros((1, 2, 2, 3), np.uint8), calls)


def test_there_is_one_thread_for_each_gpu() -> None:
    assert gpu_thread(0) is gpu_thread(0)
    assert gpu_thread(0) is not gpu_thread(1)


def test_a_session_passes_on_its_batch_and_separates_engines_by_bundle_and_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[GpuOptions] = []

    def opened(path: Path, device: Device, threads: int, gpu: GpuOptions) -> OnnxRuntimeBackend:
        asked.append(gpu)
        backend = OnnxRuntimeBackend(path, Device("cpu"), 1, gpu)
        backend.fixed_batch = gpu.batch // 2  # as if no more fitted in memory
        return backend

    monkeypatch.setattr("worker.inference.session.open_backend", opened)
    path = write_classifier(tmp_path / "c.onnx")
    plain = Session(path, "cpu")
    small = Session(path, "cpu", batch=8, gpu=GpuOptions(cache=tmp_path))
    assert (plain.best_batch, small.best_batch, small.fixed_batch) == (32, 4, 4)
    assert asked[0].engines is None
    assert asked[1].engines == tmp_path / small.sha256[:12] / "8"


def test_a_session_that_cannot_be_created_is_an_error_with_its_reason_and_no_fallback_to_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*given: object) -> None:
        raise RuntimeError("CUDA failure 46: all devices are busy")

    monkeypatch.setattr(ort.InferenceSession, "_create_inference_session", fail)
    with pytest.raises(BundleError, match=r"c\.onnx: ONNX Runtime cannot load it: CUDA failure 46: .*; choose another"):
        Session(write_classifier(tmp_path / "c.onnx"), "cpu")
    assert capfd.readouterr().out == ""


def test_a_cache_folder_that_cannot_be_created_is_an_error_that_names_the_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.inference.onnxruntime_backend.load_tensorrt", lambda: None)
    (tmp_path / "file").touch()
    path = write_classifier(tmp_path / "c.onnx")
    with pytest.raises(ConfigurationError, match="set TAGMILL_CACHE_FOLDER"):
        Session(path, "tensorrt:0", gpu=GpuOptions(cache=tmp_path / "file" / "tensorrt"))


def test_pips_tensorrt_is_loaded_from_its_folder_and_its_absence_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("libtagmilltest.so.10", "libtagmillparser.so.10")
    monkeypatch.setattr("worker.devices.cuda_libraries._TENSORRT", names)
    with pytest.raises(ConfigurationError, match=r"libtagmilltest\.so\.10: .* pip install 'tagmill\[gpu,tensorrt\]'"):
        load_tensorrt.__wrapped__()
    (tmp_path / "tensorrt_libs").mkdir()
    (tmp_path / "tensorrt_libs" / "__init__.py").touch()
    for name in names:
        shutil.copy(_ctypes.__file__, tmp_path / "tensorrt_libs" / name)
    monkeypatch.syspath_prepend(tmp_path)
    load_tensorrt.__wrapped__()
    loaded = Path("/proc/self/maps").read_text()
    assert all(f"{tmp_path}/tensorrt_libs/{name}" in loaded for name in names)


def test_cuda_graphs_and_decoding_on_the_gpu_exclude_each_other() -> None:
    assert load_settings(cuda_graphs=True).cuda_graphs
    assert load_settings(decode_on_gpu=True).decode_on_gpu
    with pytest.raises(ConfigurationError, match=r"^TAGMILL_DECODE_ON_GPU: .*TAGMILL_CUDA_GRAPHS.*false$") as caught:
        load_settings(cuda_graphs=True, decode_on_gpu=True)
    assert caught.value.exit_code == ExitCode.CONFIGURATION


@pytest.mark.parametrize(
    ("answer", "asked"), [(0, ["cudaHostRegister"]), (304, ["cudaHostRegister", "cudaGetLastError"])]
)
def test_memory_is_pinned_if_cuda_agrees_and_a_refusal_leaves_no_error_behind(
    answer: int, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Cuda:
        def __getattr__(self, name: str) -> Any:
            return lambda *given: calls.append(name) or answer  # type: ignore[func-returns-value]

    calls: list[str] = []
    monkeypatch.setattr("worker.devices.pinned_memory.ctypes.CDLL", lambda name: Cuda())
    assert pin(np.zeros(8, np.uint8)) is (answer == 0)
    assert calls == asked


@NO_GPU
def test_without_a_gpu_memory_is_not_pinned() -> None:
    assert not pin(np.zeros(2**20, np.uint8))
    buffer = pinned_buffer(0, (2, 4, 4, 3))
    assert (buffer.pixels.shape, buffer.pinned) == ((2, 4, 4, 3), False)
    assert pinned_buffer(0, (2, 4, 4, 3)) is buffer


@NO_GPU
def test_without_a_gpu_each_device_ends_with_78(tmp_path: Path) -> None:
    path = write_classifier(tmp_path / "c.onnx")
    no_tensorrt = r"libnvinfer\.so\.10|not Tensorrt"  # the first if it is not installed
    for device, reason in (("cuda:0", "not CUDA"), ("tensorrt:0", no_tensorrt)):
        with pytest.raises(ConfigurationError, match=reason) as caught:
            Session(path, device)
        assert caught.value.exit_code == ExitCode.CONFIGURATION
    with pytest.raises(ConfigurationError, match=no_tensorrt):
        require_device("tensorrt:0")


def test_auto_is_probed_on_a_machine_with_a_gpu_which_may_be_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probed: list[list[str]] = []

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        probed.append(command)
        return real(command, **options)

    real = subprocess.run
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(provider_options_module, "_DEVICE_FILES", tmp_path)
    require_device("auto")
    assert probed == []
    (tmp_path / "nvidia0").touch()
    require_device("auto")
    require_device("cpu")
    assert [command[-2:] for command in probed] == [["worker.supervision.device_check", "auto"]]


def test_openvino_is_probed_in_a_child_process() -> None:
    require_device("openvino")


@NO_GPU
def test_the_gpu_benchmark_says_in_one_line_that_there_is_no_gpu() -> None:
    done = subprocess.run([sys.executable, "-m", "benchmarks.gpu"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == ExitCode.CONFIGURATION
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stderr.startswith("error: ")
    assert done.stdout == ""
