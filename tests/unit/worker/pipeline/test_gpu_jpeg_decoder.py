"""JPEG decoding on a GPU, with libjpeg in the GPU's place: which files it gets, and how its pixels are used."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support.image_fixtures import encoded, swapped_profile

from tagmill.errors import ConfigurationError, ExitCode
from tagmill.images.decode import decode
from tagmill.images.image import DecodeLimits, Pixels
from tagmill.outcomes import ErrorCode, ImageFailure
from tagmill.registry.store import ModelStore
from tagmill.settings import Settings
from worker.devices.resolve import gpu_visible
from worker.pipeline.gpu_jpeg_decoder import GpuJpegDecoder, Read, gpu_reader
from worker.pipeline.gpu_jpeg_scaling import DctScaler, scaling_matrix
from worker.pipeline.tagger import build_tagger
from worker.supervision.device_check import probe, require_device

SCALER = DctScaler(0, place="cpu")
NO_GPU = pytest.mark.skipif(gpu_visible(), reason="this machine has a GPU: benchmarks/gpu.py checks it")


def photo(width: int, height: int) -> Image.Image:
    """Return an image with colors, edges and a texture."""
    random = np.random.default_rng(7)
    colors = Image.fromarray(random.integers(0, 256, (3, 4, 3), np.uint8)).resize((width, height))
    gray = random.integers(0, 256, (height // 8 + 1, width // 8 + 1, 1), np.uint8).repeat(3, axis=2)
    texture = Image.fromarray(gray).resize((width, height))
    return Image.blend(colors, texture, 0.2)


def gpu(data: bytes, eighths: int) -> Pixels:
    """Do what nvImageCodec and the scaling graph do on a GPU."""
    whole: Pixels = simplejpeg.decode_jpeg(data, "RGB", strict=False)
    height, width = whole.shape[:2]
    return whole if eighths == 8 else SCALER.scale(whole.ctypes.data, height, width, eighths)


def without_adobe(data: bytes) -> bytes:
    """Return a JPEG without Adobe's marker: only the names of its channels then show the color space."""
    start = data.index(b"\xff\xee")
    return data[:start] + data[start + 2 + int.from_bytes(data[start + 2 : start + 4]) :]


def broken(data: bytes, eighths: int) -> Pixels:
    raise RuntimeError("out of memory\nat 0x1")


def never(data: bytes, eighths: int) -> Pixels:
    raise AssertionError("this file is not for the GPU")


def test_an_image_waits_for_a_limited_time_for_others_that_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.pipeline.gpu_jpeg_scaling._WAITING_SECONDS", 0.01)
    pixels = np.zeros((16, 16, 3), np.uint8)
    scaler = DctScaler(0, place="cpu")
    scaler.scale(pixels.ctypes.data, 16, 16, 4)
    for _ in range(2):  # as two calls that do not end
        scaler._turns.acquire()
    with pytest.raises(RuntimeError, match="did not scale earlier images"):
        scaler.scale(pixels.ctypes.data, 16, 16, 4)
    scaler._turns.release()
    assert scaler.scale(pixels.ctypes.data, 16, 16, 4).shape == (8, 8, 3)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 900), st.integers(1, 900), st.sampled_from([64, 224, 256]), st.integers(1, 8))
def test_images_from_the_gpu_have_the_size_of_those_from_the_cpu(width: int, height: int, side: int, turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    data = encoded(photo(width, height), "JPEG", exif=exif)
    ours, theirs = GpuJpegDecoder(gpu).decode(data, side), decode(data, side)
    assert (ours.width, ours.height, ours.format) == (theirs.width, theirs.height, theirs.format)
    assert ours.rgb.shape == theirs.rgb.shape


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("size", [(800, 800), (511, 400), (1201, 900), (300, 257), (100, 90)])
def test_images_from_the_gpu_have_the_pixels_of_those_from_the_cpu(size: tuple[int, int], turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    data = encoded(photo(*size), "JPEG", quality=90, exif=exif)
    ours, theirs = GpuJpegDecoder(gpu).decode(data, 256), decode(data, 256)
    assert np.abs(ours.rgb.astype(float) - theirs.rgb).mean() < 0.8


@pytest.mark.parametrize(
    "data",
    [
        encoded(photo(90, 70), "PNG"),
        encoded(photo(90, 70).convert("L"), "JPEG"),
        encoded(photo(90, 70).convert("CMYK"), "JPEG"),
        encoded(photo(90, 70), "JPEG", progressive=True),
        encoded(photo(90, 70), "JPEG", keep_rgb=True),
        without_adobe(encoded(photo(90, 70), "JPEG", keep_rgb=True)),
        encoded(photo(90, 70), "JPEG", icc_profile=swapped_profile()),
        encoded(photo(90, 70), "JPEG") + b"\0",
    ],
    ids=["png", "gray", "cmyk", "progressive", "rgb", "rgb by its names", "profile", "stray byte"],
)
def test_a_file_that_is_not_a_plain_jpeg_is_decoded_on_the_cpu(data: bytes) -> None:
    found, expected = GpuJpegDecoder(never).decode(data, 32), decode(data, 32)
    assert np.array_equal(found.rgb, expected.rgb)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", ErrorCode.EMPTY),
        (b"\xff\xd8\xff\xd9", ErrorCode.CORRUPT),
        (encoded(photo(90, 70), "JPEG")[:-300], ErrorCode.TRUNCATED),
    ],
)
def test_a_damaged_file_gets_the_error_code_of_the_cpu(data: bytes, code: ErrorCode) -> None:
    with pytest.raises(ImageFailure) as caught:
        GpuJpegDecoder(never).decode(data, 32)
    assert caught.value.code is code


def test_an_image_over_the_limits_never_reaches_the_gpu() -> None:
    with pytest.raises(ImageFailure) as caught:
        GpuJpegDecoder(never).decode(encoded(photo(90, 70), "JPEG"), 32, DecodeLimits(max_pixels=6000))
    assert caught.value.code is ErrorCode.TOO_MANY_PIXELS


@pytest.mark.parametrize(
    "read", [lambda data, k: None, lambda data, k: gpu(data, k)[1:], broken], ids=["refused", "other size", "broken"]
)
def test_an_image_that_the_gpu_cannot_decode_is_decoded_on_the_cpu(read: Read) -> None:
    data = encoded(photo(90, 70), "JPEG")
    assert np.array_equal(GpuJpegDecoder(read).decode(data, 32).rgb, decode(data, 32).rgb)


def test_a_gpu_that_fails_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    decoder = GpuJpegDecoder(broken)
    for _ in range(3):
        decoder.decode(encoded(photo(90, 70), "JPEG"), 32)
    assert [vars(record)["reason"] for record in caplog.records] == ["out of memory\nat 0x1"]


def test_a_gpu_is_checked_against_the_cpu() -> None:
    GpuJpegDecoder(gpu).check()
    with pytest.raises(ConfigurationError, match="reads no JPEG"):
        GpuJpegDecoder(lambda data, k: None).check()
    with pytest.raises(ConfigurationError, match="pixels are not the CPU's"):
        GpuJpegDecoder(lambda data, k: gpu(data, k)[:, :, ::-1]).check()
    with pytest.raises(ConfigurationError, match=r"the GPU fails: out of memory$"):
        GpuJpegDecoder(broken).check()


def test_nvimagecodec_itself_returns_the_stored_pixels_without_rotation() -> None:
    read = gpu_reader(0, cpu=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(photo(300, 200), "JPEG", exif=exif)
    for eighths in (8, 5):
        found = read(data, eighths)
        assert found is not None
        assert found.dtype == np.uint8
        assert np.array_equal(found, gpu(data, eighths))
    assert read(b"no image", 8) is None
    GpuJpegDecoder(read).check()
    with ThreadPoolExecutor(3) as pool:
        assert all(np.array_equal(other, found) for other in pool.map(read, [data] * 6, [5] * 6) if other is not None)


@pytest.mark.parametrize("eighths", range(1, 8))
def test_scaling_preserves_a_level_and_a_slope(eighths: int) -> None:
    samples = np.arange(8.0)
    assert np.allclose(scaling_matrix(eighths) @ np.ones(8), 1, atol=1e-6)
    slope = scaling_matrix(eighths) @ samples
    assert slope.mean() == pytest.approx(3.5)
    assert (np.diff(slope) > 0).all()


@NO_GPU
def test_without_a_gpu_creating_its_reader_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="no CUDA on GPU 0") as caught:
        gpu_reader(0)
    assert caught.value.exit_code == ExitCode.CONFIGURATION


@NO_GPU
def test_a_worker_told_to_decode_on_a_gpu_does_not_start_without_one() -> None:
    with pytest.raises(ConfigurationError, match="device cpu is no GPU"):
        require_device("auto", decode_on_gpu=True)


@NO_GPU
def test_the_decoder_is_checked_before_a_session_is_created_as_in_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    monkeypatch.setattr("worker.inference.session.Session", lambda *given: made.append(given))
    with pytest.raises(SystemExit, match="device cpu is no GPU"):
        probe("cpu", "decode")
    assert made == []


@NO_GPU
def test_scaling_on_a_gpu_loads_its_libraries_and_limits_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr("worker.pipeline.gpu_jpeg_scaling.load_cuda", lambda: seen.append("loaded"))
    monkeypatch.setattr(
        "worker.pipeline.gpu_jpeg_scaling.ort.InferenceSession", lambda *given, **more: seen.append(more)
    )
    with pytest.raises(AttributeError):  # there is no session
        gpu_reader(1, 2**30)
    assert seen[0] == "loaded"
    (_, options), _ = seen[1]["providers"]  # type: ignore[index]
    assert (options["device_id"], options["gpu_mem_limit"]) == ("1", str(2**30))
    assert seen[1]["enable_fallback"] == 0  # type: ignore[index]


def test_two_images_are_scaled_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now, most, lock, met = 0, 0, threading.Lock(), threading.Event()
    run = ort.InferenceSession.run_with_iobinding

    def watched(*given: Any) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
            if now == 2:
                met.set()
        assert met.wait(60)
        time.sleep(0.05)  # long enough for a third one to come in, if it could
        run(*given)
        with lock:
            now -= 1

    monkeypatch.setattr(ort.InferenceSession, "run_with_iobinding", watched)
    data = encoded(photo(90, 70), "JPEG")
    with ThreadPoolExecutor(6) as pool:
        assert len(list(pool.map(gpu, [data] * 6, [5] * 6))) == 6
    assert most == 2


@NO_GPU
def test_the_setting_reaches_the_pipeline(tmp_path: Path) -> None:
    wanted = Settings(decode_on_gpu=True)
    with pytest.raises(ConfigurationError, match="is no GPU"):
        build_tagger(wanted, ModelStore(tmp_path))
