"""`make bench`: compare Tagmill with the limit of this machine and with other tools.

Every contender tags a few images and then all images, in each round. Its steady rate is the further images over the
further time; the rate of the whole run includes its start and its end. Print Markdown tables of ratios within rounds
(median and range); write a chart and, with --json, the medians.
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
RAW = "raw limit"
#: the same decoder and ONNX Runtime as Tagmill's, put together by hand in the tool's fastest way
DAFT, RAY = "Daft, one class UDF", "Ray Data, one actor pool"
#: as the tool's documents show it
DAFT_GUIDE, RAY_GUIDE = "Daft, as its guide", "Ray Data, as its guide"
LOADER = "DataLoader, ONNX Runtime"
#: the peers whose ratios `--json` writes, with the last part of their key
KEYS = {
    RAW: "raw",
    DAFT: "daft",
    RAY: "ray",
    LOADER: "dataloader-ort",
    DAFT_GUIDE: "daft-guide",
    RAY_GUIDE: "ray-guide",
}
#: images that a steady rate is measured with, and those of the shorter run
IMAGES, FEW = 4000, 1000
QUICK_IMAGES, QUICK_FEW = 2500, 500


def main() -> None:
    """Run the comparisons, print their tables and draw the chart."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    quick = f"only the fastest setup of each tool, {QUICK_FEW} and {QUICK_IMAGES} images"
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, help=f"images per round (default {IMAGES}); a quarter as the short run")
    parser.add_argument("--folder", type=Path, help="folder of real images for one more comparison")
    parser.add_argument("--work", type=Path, default=Path("bench"), help="folder for images, bundles and the chart")
    parser.add_argument("--json", type=Path, help="file to write the medians of Tagmill's ratios to")
    parser.add_argument("--only", default="", help="run only comparisons whose title contains this")
    options = parser.parse_args()
    started = time.monotonic()
    images, few = (QUICK_IMAGES, QUICK_FEW) if options.quick else (IMAGES, FEW)
    if options.images:
        images, few = options.images, options.images // 4
    print(machine(), flush=True)
    tell("drawing images and making bundles")
    photos = write_set("photos", options.work, images)
    made = partial(make_bundle, folder=options.work / "bundles", images=photos[0].parent)
    bundle = str(made("mobilenet"))
    plans = [Plan(f"MobileNetV3-small, JPEGs of 800x800, {few} and {images}", _job(photos, bundle), few, fused(bundle))]
    if not options.quick:
        plans[0].contenders.extend(by_guide(bundle))
        large = write_set("large", options.work, images // 4)
        title = f"MobileNetV3-small, JPEGs of 1600x1600, {few // 4} and {len(large)}"
        guides = [contender for contender in by_guide(bundle) if contender.name in {DAFT_GUIDE, RAY_GUIDE}]
        plans.append(Plan(title, _job(large, bundle), few // 4, fused(bundle) + guides))
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
    """One comparison: a job, the images of its shorter run, and its contenders."""

    title: str
    job: Job
    few: int
    contenders: list[Contender]


def fused(bundle: str) -> list[Contender]:
    """Return Tagmill, the limit, and the fastest setup of each tool."""
    return [
        Tagmill(TAGMILL, [bundle]),
        Script(RAW, "support.raw"),
        Script(DAFT, "peers.daft_fused"),
        Script(RAY, "peers.ray_fused"),
        Script(LOADER, "peers.loader", "ort"),
    ]


def by_guide(bundle: str) -> list[Contender]:
    """Return the tools as their documents show them, and the first attempts of many."""
    return [
        Script("raw limit, plain ONNX Runtime and INTER_AREA", "support.raw", "plain"),
        Script(DAFT_GUIDE, "peers.daft_images"),
        Script(RAY_GUIDE, "peers.ray_images"),
        Script("DataLoader, torch", "peers.loader", "torch"),
        NaiveCelery("Celery, a task an image, ONNX Runtime", bundle, "ort", CORES),
        NaiveCelery("Celery, a task an image, torch", bundle, "torch", CORES),
    ]


def against_the_limit(
    work: Path, images: int, photos: Sequence[Path], made: Callable[[str], Path], folder: Path | None
) -> list[Plan]:
    """Return the comparisons of Tagmill with the limit for other models and images."""
    mobilenet, simple, resnet, segmenter = (
        str(made(name)) for name in ("mobilenet", "simple-cnn", "resnet50", "segmenter")
    )
    half, tenth = photos[: images // 2], photos[: max(64, images // 20)]
    small, mix = write_set("small", work, 5 * images), write_set("mix", work, images // 4)
    plans = [
        _limit(f"MobileNetV3-small, {len(half)} JPEGs of 800x800, without servers", half, mobilenet, embedded=True),
        _limit(f"MobileNetV3-small and U-Net, {len(half)} JPEGs of 800x800", half, mobilenet, segmenter),
        _limit(f"simple CNN, {len(small)} JPEGs of 32x32", small, simple),
        _limit(f"simple CNN, {len(small)} JPEGs of 32x32, 512 a message", small, simple, batch_size=512),
        _limit(f"MobileNetV3-small, {len(mix)} JPEG, PNG and WebP of 800x800", mix, mobilenet),
        _limit(f"ResNet-50, {len(tenth)} JPEGs of 800x800", tenth, resnet),
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
    return Plan(title, _job(files, *bundles), len(files) // 4, [own, Script(RAW, "support.raw"), *parts])


def _job(files: Sequence[Path], *bundles: str) -> Job:
    return Job([str(file.resolve()) for file in files], [str(Path(bundle).resolve()) for bundle in bundles], CORES)


def run(plan: Plan, rounds: int) -> Comparison:
    """Start the contenders, measure them in rounds and stop them."""
    with ExitStack() as stack:
        for contender in plan.contenders:
            stack.enter_context(contender)
        return compare(plan.title, plan.contenders, plan.job, plan.few, rounds, tell)


def medians(comparison: Comparison) -> dict[str, float]:
    """Return the median ratio of Tagmill's rate to the rate of each peer, steady and of the whole run."""
    kinds = (("", False), (" whole run", True))
    return {
        f"{TAGMILL}/{key}{words}": round(statistics.median(comparison.ratios(TAGMILL, name, whole=whole)), 3)
        for words, whole in kinds
        for name, key in KEYS.items()
        if name in comparison.steady
    }


if __name__ == "__main__":
    main()
