"""Check and time inference on a GPU in a few minutes; print Markdown.

`pip install 'tagmill[gpu,gpu-decode,train]'`, then `python -m benchmarks.gpu > gpu.md`. If ONNX Runtime does not use a
GPU, the command ends with one line and exit code 78. `--bundle FILE.onnx` measures your own bundle instead of
MobileNetV3 and ResNet-50. These have random weights, which are as fast as trained ones.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.support.machine import tell
from tagmill.bundles.metadata import BundleSpec, Precision
from tagmill.bundles.onnx_file import read_metadata
from tagmill.bundles.starter import starter_bundles
from tagmill.device import Device
from tagmill.errors import TagmillError, first_line
from tagmill.images.decode import decode
from tagmill.images.image import DecodedImage
from tagmill.images.preprocess import PreprocessSpec, fit
from tagmill.machine import usable_cores
from tagmill.sample.catalog import write_catalog
from worker.devices.cuda_thread import gpu_thread
from worker.devices.pinned_memory import pinned_buffer
from worker.devices.provider_options import GpuOptions
from worker.inference.golden_check import tolerance
from worker.inference.session import Session
from worker.inference.tuned_settings import this_machine
from worker.pipeline.gpu_jpeg_decoder import gpu_jpeg_decoder

PACKAGES = (
    "onnxruntime-gpu",
    "onnxruntime",
    "tensorrt-cu13-libs",
    "nvidia-nvimgcodec-cu13",
    "torch",
    "torchvision",
    "simplejpeg",
    "numpy",
)
SHAPES = (1, 8, 32, 64, 128)
#: rounds of each cell, in turns with the others
ROUNDS = 3
#: number of images to draw
IMAGES = 256

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Mode:
    """One way to run a bundle."""

    name: str
    half: bool
    options: GpuOptions


MODES = (
    Mode("plain", False, GpuOptions(io_binding=False)),
    Mode("IO binding", False, GpuOptions()),
    Mode("and CUDA graphs", False, GpuOptions(graphs=True)),
    Mode("fp16, plain", True, GpuOptions(io_binding=False)),
    Mode("fp16, IO binding", True, GpuOptions()),
    Mode("and CUDA graphs", True, GpuOptions(graphs=True)),
)


def main() -> None:
    """Measure on `--device`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--bundle", type=Path, action="append", default=[])
    parser.add_argument("--seconds", type=float, default=0.7, help="seconds per cell and round")
    given = parser.parse_args()
    try:
        first = Session(starter_bundles()[0], given.device)
        with tempfile.TemporaryDirectory(prefix="tagmill-gpu-") as folder:
            measure(Path(folder), given.device, first, given.bundle, given.seconds)
    except TagmillError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def measure(folder: Path, device: str, starter: Session, bundles: Sequence[Path], seconds: float) -> None:
    """Measure, and print all tables."""
    machine = this_machine(Device.parse(device))
    print(f"# {machine.gpu or device}, {machine.cores} x {machine.cpu}\n")
    print(", ".join(f"{name} {found}" for name in PACKAGES if (found := _version(name))) + "\n")
    _pinned(device)
    tell("drawing images")
    write_catalog(folder / "catalog", IMAGES, 7, 0, lambda _: None)
    files = sorted(path for path in (folder / "catalog" / "images").rglob("*") if path.is_file())
    named = list(bundles) or _made(folder, files[0].parent.parent)
    halves = {bundle: half_bundle(bundle, folder / f"{bundle.stem}-fp16.onnx") for bundle in named}
    _check_table(device, [starter.path, *named, *halves.values()])
    _tensorrt(device, starter.path, folder)
    for bundle in named:
        _shape_table(device, bundle, halves[bundle], files, seconds)
    _overlap_table(device, named[-1], files, 4 * seconds)
    _jpeg_table(device, files, 4 * seconds)


def half_bundle(bundle: Path, out: Path) -> Path:
    """Write a bundle in float16 with the golden samples of the original, which the session then compares it with."""
    import onnx

    from export.precision.float16 import to_float16

    model = to_float16(onnx.load(bundle))
    for entry in model.metadata_props:
        if entry.key == "precision":
            entry.value = json.dumps(Precision.FP16)
    onnx.save(model, out)
    return out


def _made(folder: Path, images: Path) -> list[Path]:
    from benchmarks.support.bundles import make_bundle

    made = []
    for name in ("mobilenet", "resnet50"):
        tell(f"making {name}")
        made.append(make_bundle(name, folder, images))
    return made


def _check_table(device: str, bundles: Sequence[Path]) -> None:
    """Print the provider of each bundle, the difference of its golden samples and the time it takes to load."""
    print("## Provider and golden samples\n\n| bundle | precision | provider | difference | allowed | loads in |")
    print("|---|---|---|---|---|---|")
    for bundle in bundles:
        tell(f"checking {bundle.name}")
        started = time.perf_counter()
        try:
            session = Session(bundle, device)
        except TagmillError as error:
            print(f"| {bundle.stem} | | **fails** | {error} | | |")
            continue
        allowed = tolerance(session.spec.precision, session.arithmetic).score
        off = "no samples" if session.golden_difference is None else f"{session.golden_difference:.2g}"
        took = f"{time.perf_counter() - started:.1f} s"
        print(f"| {bundle.stem} | {session.spec.precision} | {session.provider} | {off} | {allowed:g} | {took} |")
    print()


def _pinned(device: str) -> None:
    """Print whether the memory that images are copied from is pinned."""
    index = Device.parse(device).index
    buffer = gpu_thread(index).submit(pinned_buffer, index, (64, 224, 224, 3)).result()
    print(f"Host memory: {'pinned' if buffer.pinned else 'not pinned'}\n")


def _tensorrt(device: str, bundle: Path, folder: Path) -> None:
    """Load a bundle on TensorRT twice and print both times; the second load finds the engines in the cache."""
    wanted = Device.parse(device)
    if not wanted.on_gpu:
        return
    tell("trying TensorRT")
    options = GpuOptions(cache=folder / "engines")
    try:
        times = []
        for _ in range(2):
            started = time.perf_counter()
            Session(bundle, f"tensorrt:{wanted.index}", gpu=options)
            times.append(time.perf_counter() - started)
        print(f"TensorRT: active; {bundle.stem} loads in {times[0]:.1f} s, with cached engines in {times[1]:.1f} s\n")
    except TagmillError as error:
        print(f"TensorRT: not available: {error}\n")


def _shape_table(device: str, bundle: Path, half: Path, files: Sequence[Path], seconds: float) -> None:
    images = _decoded(files, BundleSpec.from_metadata(read_metadata(bundle)).preprocess)
    print(f"## {bundle.stem}: images/s by images per call, median of {ROUNDS} rounds of {seconds:g} s\n")
    print("| images | " + " | ".join(mode.name for mode in MODES) + " |\n|---|" + "---|" * len(MODES))
    remarks: list[str] = []
    for shape in SHAPES:
        tell(f"timing {bundle.stem}: {shape} images per call")
        rates = _mode_rates(device, (bundle, half), images[:shape], seconds, remarks)
        cells = (f"{statistics.median(rates[mode]):.0f}" if mode in rates else "-" for mode in MODES)
        print(f"| {shape} | " + " | ".join(cells) + " |")
    print("\n" + "\n".join(dict.fromkeys(remarks)) + "\n" if remarks else "")


def _mode_rates(
    device: str, bundles: tuple[Path, Path], images: Pixels, seconds: float, remarks: list[str]
) -> dict[Mode, list[float]]:
    """Return the images/s of the modes that work, in turns; add the errors of the others to `remarks`."""
    size = len(images)
    sessions: dict[Mode, Session] = {}
    rates: dict[Mode, list[float]] = {}
    for turn in range(ROUNDS):
        for mode in MODES if turn == 0 else list(sessions):
            try:
                if turn == 0:
                    sessions[mode] = Session(bundles[mode.half], device, batch=size, gpu=mode.options)
                if sessions[mode].best_batch != size:
                    raise MemoryError(f"{size} images do not fit the GPU")
                rate = _rate(_caller(sessions[mode], images), size, seconds)
                rates.setdefault(mode, []).append(rate)
            except Exception as error:  # the exceptions of onnxruntime have no common base class
                remarks.append(f"{mode.name}{' (fp16)' if mode.half else ''}: {first_line(error)}")
                sessions.pop(mode, None)
                rates.pop(mode, None)
    return rates


def _overlap_table(device: str, bundle: Path, files: Sequence[Path], seconds: float) -> None:
    """Time decoding and inference one after the other and at the same time, with 64 images per call."""
    tell("timing the overlap of decoding and inference")
    session, size, cores = Session(bundle, device), 64, usable_cores()
    spec = session.spec.preprocess
    images = _decoded(files, spec)[:size]
    with ThreadPoolExecutor(cores) as pool, ThreadPoolExecutor(1) as caller:

        def decoded() -> Pixels:
            return np.stack(list(pool.map(lambda file: _read(file, spec), files[:size])))

        ahead: list[Future[object]] = [caller.submit(lambda: None)]

        def side_by_side() -> None:
            ready = decoded()
            ahead.pop().result()
            ahead.append(caller.submit(session.run, ready, True))

        ways: dict[str, Callable[[], object]] = {
            f"decode, {cores} cores": decoded,
            "infer": lambda: session.run(images, best_only=True),
            "one after the other": lambda: session.run(decoded(), best_only=True),
            "side by side": side_by_side,
        }
        rates: dict[str, list[float]] = {}
        for _ in range(ROUNDS):
            for name, call in ways.items():
                rates.setdefault(name, []).append(_rate(call, size, seconds / ROUNDS))
    print(f"## {bundle.stem}: decoding and inference, images/s\n\n| " + " | ".join(rates) + " |")
    print(
        "|" + "---|" * len(rates) + "\n| " + " | ".join(f"{statistics.median(r):.0f}" for r in rates.values()) + " |\n"
    )


def _jpeg_table(device: str, files: Sequence[Path], seconds: float) -> None:
    """Compare JPEG decoders on the GPU with the worker's on all cores, from full images to 224 pixels."""
    tell("timing JPEG decoders")
    jpegs = [file for file in files if file.suffix == ".jpg"][:64]
    cores, spec = usable_cores(), PreprocessSpec(224, 224)
    with ThreadPoolExecutor(cores) as pool:
        ours = _rate(lambda: list(pool.map(lambda file: _read(file, spec), jpegs)), len(jpegs), seconds)
        rows = [(f"the worker's, {cores} cores, scaled while decoding", f"{ours:.0f}")]
        try:
            gpu = gpu_jpeg_decoder(device)
            gpu.check()
            rate = _rate(lambda: list(pool.map(lambda file: _read(file, spec, gpu.decode), jpegs)), len(jpegs), seconds)
            rows.append((f"the worker's with TAGMILL_DECODE_ON_GPU and {cores} cores", f"{rate:.0f}"))
        except TagmillError as error:
            rows.append(("the worker's with TAGMILL_DECODE_ON_GPU", f"not available: {error}"))
    try:
        rows.append(
            ("torchvision.io.decode_jpeg on the GPU, and resize there", f"{_on_gpu(device, jpegs, seconds):.0f}")
        )
    except (ImportError, RuntimeError, AssertionError) as error:
        rows.append(("torchvision.io.decode_jpeg on the GPU", f"not available: {str(error).splitlines()[0]}"))
    print(f"## Decoding {len(jpegs)} JPEGs, images/s\n\n| decoder | images/s |\n|---|---|")
    for name, rate in rows:
        print(f"| {name} | {rate} |")


def _on_gpu(device: str, files: Sequence[Path], seconds: float) -> float:
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg, read_file
    from torchvision.transforms.v2.functional import resize

    if not torch.cuda.is_available():
        raise RuntimeError("torch sees no GPU")
    place = f"cuda:{Device.parse(device).index}"

    def decode_all() -> None:
        data = [read_file(str(file)) for file in files]
        for image in decode_jpeg(data, mode=ImageReadMode.RGB, device=place):
            resize(image, [224, 224])
        torch.cuda.synchronize(place)

    return _rate(decode_all, len(files), seconds)


def _caller(session: Session, images: Pixels) -> Callable[[], object]:
    return lambda: session.run(images, best_only=True)


def _rate(call: Callable[[], object], images: int, seconds: float) -> float:
    """Return the images/s of consecutive calls, after one warm-up call."""
    call()
    started = time.perf_counter()
    done = 0
    for _ in _until(started + seconds):
        call()
        done += images
    return done / (time.perf_counter() - started)


def _until(end: float) -> Iterator[None]:
    yield
    while time.perf_counter() < end:
        yield


def _decoded(files: Sequence[Path], spec: PreprocessSpec) -> Pixels:
    """Return as many images as the largest call takes, uint8 [N, height, width, 3]."""
    found = [_read(files[number % len(files)], spec) for number in range(SHAPES[-1])]
    return np.stack(found)


def _read(file: Path, spec: PreprocessSpec, decoding: Callable[[bytes, int], DecodedImage] = decode) -> Pixels:
    return fit(decoding(file.read_bytes(), spec.decode_side).rgb, spec)


def _version(package: str) -> str:
    with suppress(PackageNotFoundError):
        return version(package)
    return ""


if __name__ == "__main__":
    main()
