"""Compare providers and precisions on this CPU: inference alone, on all cores.

`python -m benchmarks.models.providers --model resnet50 --rounds 5` runs one network through plain ONNX Runtime, and
through Tagmill's sessions of ONNX Runtime and OpenVINO (extra `openvino`) in float32 and int8. The weights are random,
because only speed is measured. `tagmill export` measures the accuracy that int8 costs.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx

from benchmarks.peers.plain import new_session
from benchmarks.support.bundles import NETWORKS, make_bundle
from benchmarks.support.catalogs import write_set
from benchmarks.support.comparing import spread, turns
from benchmarks.support.machine import CORES, machine
from export.precision.calibration import Calibration, choose_range, observe_activations
from export.precision.int8 import activation_names, prepare, quantize
from tagmill.bundles.metadata import GOLDEN
from tagmill.images.decode import decode
from tagmill.images.image import Pixels
from tagmill.images.preprocess import PreprocessSpec, fit
from worker.inference.session import Session

#: images per call, images per round, and images that int8 is calibrated on
BATCH, IMAGES, CALIBRATED_ON = 16, 64, 32
PLAIN = "ONNX Runtime as it is, float32"

Call = Callable[[Pixels], object]


def in_int8(bundle: Path, images: Pixels) -> Path:
    """Return the bundle in int8. It has no golden samples, because its answers differ from the original."""
    out = bundle.with_name(f"{bundle.stem}-int8.onnx")
    if not out.exists():
        model = onnx.load(bundle)
        facts = {entry.key: entry.value for entry in model.metadata_props if entry.key != GOLDEN}
        prepared = prepare(model)
        seen = observe_activations(prepared, activation_names(prepared), images, seed=0)
        method = next(iter(Calibration))
        reduced = quantize(prepared, {name: choose_range(values, method) for name, values in seen.items()}, [])
        del reduced.metadata_props[:]
        onnx.helper.set_model_props(reduced, facts)
        onnx.save(reduced, out)
    return out


def images_per_second(call: Call, images: Pixels) -> float:
    """Time one pass over the images with one call per core at a time."""
    chunks = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
    with ThreadPoolExecutor(CORES) as pool:
        started = time.perf_counter()
        list(pool.map(call, chunks))
        return len(images) / (time.perf_counter() - started)


def rounds_of(calls: dict[str, Call], images: Pixels, rounds: int) -> dict[str, list[float]]:
    """Return the images/s of each call in each round."""
    rates: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call(images[:BATCH])
    for _, name in turns(list(calls), rounds):
        rates[name].append(images_per_second(calls[name], images))
    return rates


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=list(NETWORKS), default="resnet50")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", type=Path, default=Path("bench"), help="folder for images and bundles")
    options = parser.parse_args()
    print(machine(), flush=True)
    side = NETWORKS[options.model][2]
    spec = PreprocessSpec(side, side)
    photos = write_set("photos", options.work, IMAGES)
    images = np.stack([fit(decode(path.read_bytes(), spec.decode_side).rgb, spec) for path in photos])
    bundle = make_bundle(options.model, options.work / "bundles", photos[0].parent)
    plain = new_session(str(bundle))
    calls: dict[str, Call] = {PLAIN: lambda batch: plain.run(None, {"images": batch})}
    files = {"float32": bundle, "int8": in_int8(bundle, images[:CALIBRATED_ON])}
    for library, device in (("ONNX Runtime", "cpu"), ("OpenVINO", "openvino")):
        calls |= {f"{library}, {bits}": Session(file, device, threads=1).run for bits, file in files.items()}
    rates = rounds_of(calls, images, options.rounds)
    print(f"| {options.model}, {IMAGES} images, {CORES} calls at a time | images/s | times as fast as it is |")
    print("|---|---|---|")
    for name, found in rates.items():
        ratios = [own / plain for own, plain in zip(found, rates[PLAIN], strict=True)]
        print(f"| {name} | {statistics.median(found):.0f} | {spread(ratios)} |")


if __name__ == "__main__":
    main()
