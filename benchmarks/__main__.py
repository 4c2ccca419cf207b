"""`make bench`: compare Tagmill with the limit of this machine and with other tools.

Print Markdown tables of ratios within rounds (median and range); write a chart and, with --json, the medians.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.support.bundles import make_bundle
from benchmarks.support.catalogs import images_in, write_set
from benchmarks.support.chart import draw
from benchmarks.support.comparing import Comparison, compare, table
from benchmarks.support.contenders import BATCH_SIZE, Contender, NaiveCelery, Script, Tagmill
from benchmarks.support.job import Job
from benchmarks.support.machine import CORES, machine, tell

TAGMILL = "tagmill"
#: the peers whose ratios `--json` writes, with the last part of their key
KEYS = {
    "raw limit": "raw",
    "Ray Data, fused actor": "ray",
    "DataLoader, ONNX Runtime": "dataloader-ort",
    "Celery, a task an image, ONNX Runtime": "celery-naive-ort",
    "Celery, a task an image, torch": "celery-naive-torch",
}


def main() -> None:
    """Run the comparisons, print their tables and draw the chart."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="only the comparison with other tools, 600 images")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=2000, help="images per round")
    parser.add_argument("--folder", type=Path, help="folder of real images for one more comparison")
    parser.add_argument("--work", type=Path, default=Path("bench"), help="folder for images, bundles and the chart")
    parser.add_argument("--json", type=Path, help="file to write the medians of Tagmill's ratios to")
    parser.add_argument("--only", default="", help="run only comparisons whose title contains this")
    options = parser.parse_args()
    started = time.monotonic()
    images = 600 if options.quick else options.images
    print(machine(), flush=True)
    tell("drawing images and making bundles")
    photos = write_set("photos", options.work, images)
    made = partial(make_bundle, folder=options.work / "bundles", images=photos[0].parent)
    plans = [peers(photos, made)]
    if not options.quick:
        plans += against_the_limit(options.work, images, photos, made, options.folder)
    done = []
    for plan in plans:
        if options.only in plan.title:
            done.append(run(plan, options.rounds))
            print(table(done[-1], TAGMILL) + "\n", flush=True)
    chart = options.work / "benchmark.png"
    draw(done, TAGMILL, chart)
    if options.json:
        options.json.write_text(json.dumps(medians(done[0]), indent=2) + "\n")
    print(f"{chart}; {options.rounds} rounds, {(time.monotonic() - started) / 60:.0f} minutes")


@dataclass(frozen=True)
class Plan:
    """One comparison: a job and its contenders."""

    title: str
    job: Job
    contenders: Sequence[Contender]


def peers(photos: Sequence[Path], made: Callable[[str], Path]) -> Plan:
    """Return the comparison of Tagmill with the limit and with other tools."""
    bundle = str(made("mobilenet"))
    raw, ray, loader, naive_ort, naive_torch = KEYS
    contenders = [
        Tagmill(TAGMILL, [bundle]),
        Script(raw, "support.raw"),
        Script("raw limit, plain ONNX Runtime and INTER_AREA", "support.raw", "plain"),
        Script(ray, "peers.ray_fused"),
        Script("Ray Data, read_images", "peers.ray_images"),
        Script(loader, "peers.loader", "ort"),
        Script("DataLoader, torch", "peers.loader", "torch"),
        NaiveCelery(naive_ort, bundle, "ort", CORES),
        NaiveCelery(naive_torch, bundle, "torch", CORES),
    ]
    return Plan(f"MobileNetV3-small, {len(photos)} JPEGs of 800x800", _job(photos, bundle), contenders)


def against_the_limit(
    work: Path, images: int, photos: Sequence[Path], made: Callable[[str], Path], folder: Path | None
) -> list[Plan]:
    """Return the comparisons of Tagmill with the limit for other models and images."""
    mobilenet, simple, resnet, segmenter = (
        str(made(name)) for name in ("mobilenet", "simple-cnn", "resnet50", "segmenter")
    )
    few = photos[: max(64, images // 10)]
    small, mix = write_set("small", work, 10 * images), write_set("mix", work, images // 2)
    plans = [
        _limit(f"MobileNetV3-small, {images} JPEGs of 800x800, without servers", photos, mobilenet, embedded=True),
        _limit(f"MobileNetV3-small and U-Net, {len(photos)} JPEGs of 800x800", photos, mobilenet, segmenter),
        _limit(f"simple CNN, {len(small)} JPEGs of 32x32", small, simple),
        _limit(f"simple CNN, {len(small)} JPEGs of 32x32, 512 a message", small, simple, batch_size=512),
        _limit(f"MobileNetV3-small, {len(mix)} JPEG, PNG and WebP of 800x800", mix, mobilenet),
        _limit(f"ResNet-50, {len(few)} JPEGs of 800x800", few, resnet),
    ]
    if folder:
        real = images_in(folder)[:images]
        plans.append(_limit(f"MobileNetV3-small, {len(real)} images of {folder.name}", real, mobilenet))
    return plans


def _limit(
    title: str, files: Sequence[Path], *bundles: str, embedded: bool = False, batch_size: int = BATCH_SIZE
) -> Plan:
    own = Script(TAGMILL, "support.embedded") if embedded else Tagmill(TAGMILL, list(bundles), batch_size)
    parts = [Script(f"{part} alone", "support.raw", part) for part in ("decode", "infer")]
    return Plan(title, _job(files, *bundles), [own, Script("raw limit", "support.raw"), *parts])


def _job(files: Sequence[Path], *bundles: str) -> Job:
    return Job([str(file.resolve()) for file in files], [str(Path(bundle).resolve()) for bundle in bundles], CORES)


def run(plan: Plan, rounds: int) -> Comparison:
    """Start the contenders, measure them in rounds and stop them."""
    with ExitStack() as stack:
        for contender in plan.contenders:
            stack.enter_context(contender)
        return compare(plan.title, plan.contenders, plan.job, rounds, tell)


def medians(comparison: Comparison) -> dict[str, float]:
    """Return the median ratio of Tagmill's rate to the rate of each peer."""
    return {
        f"{TAGMILL}/{key}": round(statistics.median(comparison.ratios(TAGMILL, name)), 3) for name, key in KEYS.items()
    }


if __name__ == "__main__":
    main()
