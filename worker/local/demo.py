"""`tagmill demo`: draw a catalog, tag it with the starter bundles, and compare the results with the truth."""

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

from producer.output.image_grid import Cell, draw_grid
from producer.output.image_result import ImageResult
from producer.output.model_names import unique_names
from producer.output.read.runs import read_results
from producer.output.writers.mask_png_writer import index_map, write_masks
from producer.report.measure.truth import read_truth
from producer.report.write import ReportOptions, write_report
from tagmill.bundles.starter import starter_bundles
from tagmill.cli.sample import draw
from tagmill.cli.terminal.console import open_console
from tagmill.cli.terminal.run_display import counting_bar
from tagmill.registry.models import Model
from tagmill.sample.catalog import CATEGORIES
from tagmill.settings import Settings
from tagmill.tasks.base import task_named
from worker.local.tag import TaggedRun, local_settings

#: rows of the image grid, which has one column per category
GRID_ROWS = 4
#: broken files among the images, to show how failures are recorded
BROKEN = 5

Tag = Callable[[Settings, tuple[str, ...], tuple[Path, ...], int], TaggedRun]


@dataclass(frozen=True)
class Truth:
    """What is drawn on one image: its category ("" for a broken file), and the path of its mask."""

    category: str
    mask: Path | None


@dataclass
class Score:
    """The results of one run compared with the truth."""

    #: images by category
    images: Counter[str]
    #: correctly labeled images by category
    right: Counter[str]
    #: failed images by error code
    failures: Counter[str]
    #: [label, label]: pixels by true and predicted label of the segmenter
    confusion: NDArray[np.int64]

    @property
    def accuracy(self) -> float:
        """Share of the images whose best label is the true category."""
        return self.right.total() / max(1, self.images.total())

    def mean_iou(self) -> float:
        """Return the intersection over union over all pixels of the catalog, averaged over the labels."""
        both = np.diag(self.confusion)
        union = self.confusion.sum(0) + self.confusion.sum(1) - both
        return float(np.mean(both[union > 0] / union[union > 0]))


def run_demo(settings: Settings, images: int, seed: int, out: Path, as_json: bool, tag: Tag) -> None:
    """Draw, tag, score and print; all files are under `out`. A second run, or one after Ctrl-C, continues with them."""
    console = open_console(stderr=True)
    bundles = starter_bundles()
    console.print(f"drawing {images} images and {BROKEN} broken files into {out / 'catalog'}", soft_wrap=True)
    manifest = draw(out / "catalog", images, seed, BROKEN)
    url = f"sqlite:///{out / 'tagmill.db'}"
    console.print(f"tagging them with {' and '.join(path.name for path in bundles)} on one machine, no servers")
    done = tag(local_settings(settings, url), (str(manifest),), bundles, 32)
    names = [(unique_names(done.models)[model.sha256], model) for model in done.models]
    classifier = next(entry for entry in names if not task_named(entry[1].task).gives_masks)
    segmenter = next(entry for entry in names if task_named(entry[1].task).gives_masks)
    truth = _read_truth(manifest.parent)
    console.print("writing the masks at each image's own size")
    write_masks(_results(done), names, out / "masks")
    score, cells = _score(_results(done), truth, classifier[0], segmenter)
    title = f"Tagmill: {score.images.total()} drawn images, {score.accuracy:.1%} right, mask IoU {score.mean_iou():.2f}"
    draw_grid(cells, segmenter, len(CATEGORIES), title, out / "grid.png")
    options = ReportOptions(truth=read_truth(manifest.parent / "truth.csv"))
    write_report(done.engine, done.progress.run, out / "report.html", settings, options, counting_bar)
    if as_json:
        click.echo(json.dumps(_summary(done, score, out)))
    else:
        _print(open_console(), done, score, out)


def _results(done: TaggedRun) -> Iterator[ImageResult]:
    return read_results(done.engine, done.progress.run, done.models)


def _read_truth(folder: Path) -> dict[str, Truth]:
    with (folder / "truth.csv").open(newline="", encoding="utf-8") as file:
        return {
            row["image_key"]: Truth(row["category"], folder / row["mask"] if row["mask"] else None)
            for row in csv.DictReader(file)
        }


def _score(
    results: Iterator[ImageResult], truth: dict[str, Truth], classifier: str, segmenter: tuple[str, Model]
) -> tuple[Score, list[Cell]]:
    labels = segmenter[1].labels
    score = Score(Counter(), Counter(), Counter(), np.zeros((len(labels), len(labels)), dtype=np.int64))
    columns: dict[str, list[Cell]] = {category: [] for category in CATEGORIES}
    for result in results:
        known = truth[result.image_key]
        if result.error_code:
            score.failures[result.error_code] += 1
            continue
        title, confidence = result.labels[classifier][0]
        score.images[known.category] += 1
        score.right[known.category] += title == known.category
        _count_pixels(score, result, known, segmenter)
        column = columns[known.category]
        if len(column) < GRID_ROWS:
            column.append(Cell(result, title, confidence, known.category))
    rows = zip(*columns.values(), strict=False)
    return score, [cell for row in rows for cell in row]


def _count_pixels(score: Score, result: ImageResult, known: Truth, segmenter: tuple[str, Model]) -> None:
    name, model = segmenter
    assert known.mask is not None, "only broken files have no mask, and they fail"
    with Image.open(known.mask) as image:
        true = np.asarray(image)
    masks = result.masks.get(name, [])
    seen = index_map(masks, model, true.shape[1], true.shape[0]) if masks else np.zeros_like(true)
    size = len(model.labels)
    pairs = np.bincount(true.ravel().astype(np.int64) * size + seen.ravel(), minlength=size * size)
    score.confusion += pairs.reshape(size, size)


def _summary(done: TaggedRun, score: Score, out: Path) -> dict[str, object]:
    return {
        "accuracy": score.accuracy,
        "mean_iou": score.mean_iou(),
        "categories": {name: {"images": score.images[name], "right": score.right[name]} for name in CATEGORIES},
        "failures": dict(score.failures),
        "progress": done.progress.to_json(),
        "files": {name: str(path) for name, path in _files(out)},
    }


def _files(out: Path) -> Sequence[tuple[str, Path]]:
    return (
        ("report", out / "report.html"),
        ("image grid", out / "grid.png"),
        ("SQLite file", out / "tagmill.db"),
        ("masks", out / "masks"),
        ("catalog", out / "catalog"),
    )


def _print(console: Console, done: TaggedRun, score: Score, out: Path) -> None:
    progress = done.progress
    table = Table("category", "images", "right", title="What came out", title_justify="left")
    for name in CATEGORIES:
        table.add_row(name, str(score.images[name]), f"{score.right[name] / max(1, score.images[name]):.1%}")
    table.add_section()
    table.add_row("all", str(score.images.total()), f"{score.accuracy:.1%}")
    console.print(table)
    console.print(f"masks: mean IoU {score.mean_iou():.3f} over {len(score.confusion)} labels")
    failures = ", ".join(f"{count} {code}" for code, count in score.failures.items())
    console.print(f"failures: {score.failures.total()} broken files found and recorded: {failures}")
    new = f"{progress.inferences} inferences" if progress.inferences else "every result was known from an earlier run"
    console.print(f"speed: {progress.images_per_second:.0f} images/s, {progress.seconds:.1f} s, {new}")
    for name, path in _files(out):
        console.print(f"{name}: {path}", soft_wrap=True)
