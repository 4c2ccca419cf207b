"""What a card is asked for and called with, as far as it shows without one."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from bundles import write_classifier, write_segmenter
from hard_bundles import write_hungry_classifier
from hypothesis import given
from hypothesis import strategies as st

from tagmill.bundle import MASK, SCORES
from tagmill.errors import ConfigurationError, ExitCode
from tagmill.settings import Settings, load_settings
from worker import gpu
from worker.device import require_device
from worker.engine import Device
from worker.gpu import (
    CPU,
    CUDA,
    SHAPES,
    TENSORRT,
    CardOptions,
    cuda_options,
    pieces,
    provider_options,
    tensorrt_options,
    warming_order,
)
from worker.gpu_buffers import ShapedCalls, pinned_memory
from worker.loading import card_options
from worker.onnxruntime_engine import card_seen
from worker.session import Session

ROOT = Path(__file__).parents[2]
CARD = card_seen()


@given(st.integers(0, 500), st.sets(st.integers(1, 64), min_size=1).map(lambda found: tuple(sorted(found))))
def test_any_number_of_images_goes_through_in_the_fixed_shapes(images: int, shapes: tuple[int, ...]) -> None:
    calls = pieces(images, shapes)
    assert sum(count for count, _ in calls) == images
    assert all(1 <= count <= shape and shape in shapes for count, shape in calls)
    assert all(count == shapes[-1] for count, _ in calls[:-1])


def test_the_last_call_takes_the_next_shape_up() -> None:
    assert pieces(1, SHAPES) == [(1, 1)]
    assert pieces(9, SHAPES) == [(9, 32)]
    assert pieces(70, SHAPES) == [(64, 64), (6, 8)]


def test_the_ends_are_warmed_first_so_that_tensorrt_builds_for_their_range() -> None:
    assert warming_order(SHAPES) == [64, 1, 8, 32]
    assert warming_order((16,)) == [16]


def test_a_device_is_read_as_the_settings_read_it() -> None:
    assert Device.parse("tensorrt:2") == Device("tensorrt", 2)
    assert (str(Device.parse("cuda")), str(Device.parse("openvino"))) == ("cuda:0", "openvino")
    for text in ("gpu", "cuda:", "cpu:0", "openvino:1", "cuda:x", "CUDA", "auto:0", "cuda:\u0663"):
        with pytest.raises(ConfigurationError, match="must be auto, cpu"):
            Device.parse(text)
        with pytest.raises(ConfigurationError, match="TAGMILL_DEVICE: must be auto, cpu"):
            load_settings(device=text)


def test_each_device_asks_for_its_provider_and_those_that_take_what_it_cannot_run() -> None:
    def names(device: str) -> list[str]:
        providers = provider_options(Device.parse(device), CardOptions())
        return [entry if isinstance(entry, str) else entry[0] for entry in providers]

    assert names("cpu") == [CPU]
    assert names("cuda:1") == [CUDA, CPU]
    assert names("tensorrt") == [TENSORRT, CUDA, CPU]


def test_cuda_takes_no_more_memory_than_it_is_given_and_searches_by_rules() -> None:
    plain = cuda_options(1, CardOptions())
    assert plain["device_id"] == "1"
    assert (plain["arena_extend_strategy"], plain["cudnn_conv_algo_search"]) == ("kSameAsRequested", "HEURISTIC")
    assert not {"gpu_mem_limit", "enable_cuda_graph"} & set(plain)
    full = cuda_options(0, CardOptions(memory=2**32, graphs=True))
    assert (full["gpu_mem_limit"], full["enable_cuda_graph"]) == (str(2**32), "1")


def test_tensorrt_keeps_its_engines_and_computes_in_float16_for_a_float16_bundle_alone() -> None:
    plain, half = tensorrt_options(0, CardOptions()), tensorrt_options(0, CardOptions(cache=Path("/e"), half=True))
    assert "trt_fp16_enable" not in plain
    assert "trt_engine_cache_enable" not in plain
    assert (half["trt_fp16_enable"], half["trt_engine_cache_enable"], half["trt_engine_cache_path"]) == ("1", "1", "/e")


def test_the_settings_say_how_a_card_is_used(tmp_path: Path) -> None:
    found = card_options(Settings(gpu_memory=10**9, cuda_graphs=True, cache_folder=tmp_path))
    assert (found.memory, found.graphs, found.cache) == (10**9, True, tmp_path / "tensorrt")
    assert card_options(Settings()).memory == 0


@pytest.mark.parametrize("graphs", [False, True])
@pytest.mark.parametrize("count", [1, 3, 8, 20, 70])
def test_padded_calls_through_kept_buffers_answer_as_plain_calls_do(count: int, graphs: bool, tmp_path: Path) -> None:
    pictures = np.random.default_rng(count).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    path = write_segmenter(tmp_path / "s.onnx")
    plain = Session(path, "cpu", 1).run(pictures)
    session = ort.InferenceSession(str(path), providers=[CPU])
    calls = ShapedCalls(session, 0, CardOptions(graphs=graphs), place="cpu")
    for _ in range(2):
        scores, mask = calls.run([SCORES, MASK], pictures, ort.RunOptions())
        assert scores == pytest.approx(plain.scores, abs=1e-6)
        assert (mask == plain.mask).all()
    (alone,) = calls.run([SCORES], pictures[::-1], ort.RunOptions())
    assert alone == pytest.approx(plain.scores[::-1], abs=1e-6)


def test_what_was_answered_is_not_written_over_by_the_next_call(tmp_path: Path) -> None:
    session = ort.InferenceSession(str(write_classifier(tmp_path / "c.onnx")), providers=[CPU])
    calls = ShapedCalls(session, 0, CardOptions(), place="cpu")
    red, blue = np.zeros((8, 16, 16, 3), np.uint8), np.zeros((8, 16, 16, 3), np.uint8)
    red[..., 0] = blue[..., 2] = 255
    (first,) = calls.run([SCORES], red, ort.RunOptions())
    before = first.copy()
    calls.run([SCORES], blue, ort.RunOptions())
    assert (first == before).all()


def test_a_shape_for_which_there_is_no_memory_is_left_out(tmp_path: Path) -> None:
    path = write_hungry_classifier(tmp_path / "hungry.onnx", most=8)
    calls = ShapedCalls(ort.InferenceSession(str(path), providers=[CPU]), 0, CardOptions(), place="cpu")
    assert calls.shapes == (1, 8)
    (scores,) = calls.run([SCORES], np.zeros((20, 16, 16, 3), np.uint8), ort.RunOptions())
    assert scores.shape == (20, 3)


@pytest.mark.skipif(CARD, reason="this machine has a card: benchmarks/gpu.py checks it")
def test_without_a_card_there_is_no_pinned_memory_and_each_device_ends_with_78(tmp_path: Path) -> None:
    assert pinned_memory(0) is None
    path = write_classifier(tmp_path / "c.onnx")
    for device, name in (("cuda:0", "not CUDA"), ("tensorrt:0", "not Tensorrt")):
        with pytest.raises(ConfigurationError, match=name) as caught:
            Session(path, device)
        assert caught.value.exit_code == ExitCode.CONFIGURATION
    with pytest.raises(ConfigurationError, match="not Tensorrt"):
        require_device("tensorrt:0")


def test_auto_is_probed_where_there_is_a_card_which_may_be_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probed: list[list[str]] = []

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        probed.append(command)
        return real(command, **options)

    real = subprocess.run
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(gpu, "_DEVICE_FILES", tmp_path)
    require_device("auto")
    assert probed == []
    (tmp_path / "nvidia0").touch()
    require_device("auto")
    require_device("cpu")
    assert [command[-2:] for command in probed] == [["worker.device", "auto"]]


def test_openvino_is_probed_in_a_process_of_its_own() -> None:
    require_device("openvino")


@pytest.mark.skipif(CARD, reason="this machine has a card")
def test_the_gpu_benchmark_says_in_one_line_that_there_is_no_card() -> None:
    done = subprocess.run([sys.executable, "-m", "benchmarks.gpu"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == ExitCode.CONFIGURATION
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stderr.startswith("error: ")
    assert done.stdout == ""
