"""`tagmill evaluate`: how good a bundle is on labeled images."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from export.cli.options import FILE, FOLDER
from tagmill.cli.param_types import DEVICE

#: figures of a report that are printed, in this order
FIGURES = (
    *("accuracy", "top5", "mean_ap", "macro_f1", "mean_iou", "pixel_accuracy"),
    *("ece", "ece_by_chance", "ece_over_chance", "ece_uncalibrated"),
)
#: figures of each label, with their names in words
PER_CLASS = {"per_class": "accuracy", "per_class_ap": "average precision", "per_class_iou": "IoU"}


@click.command()
@click.argument("bundle", type=FILE, metavar="FILE.onnx")
@click.option("--data", "data", required=True, multiple=True, type=FOLDER, help="Labeled images; may be repeated.")
@DEVICE
@click.option("--out", type=FOLDER, help="Folder for figures and images with predicted titles or masks.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def evaluate(bundle: Path, data: tuple[Path, ...], device: str | None, out: Path | None, as_json: bool) -> None:
    """Measure a bundle on labeled images.

    --data is any kind of labeled images that training takes: folders, CSV, COCO, a reviewed run, or the name of a
    known data set, whose test images are measured (docs/data.md).
    """
    from export.evaluate import evaluate as measure
    from tagmill.settings import load_settings
    from training.annotations.torchvision_datasets import resolve_test_folders
    from worker.inference.session_cache import NamedBundles
    from worker.pipeline.tagger import build_tagger

    # One call at a time: it may use all cores, while the calls of a worker share them.
    # Labeled images are decoded as in training, so not on the GPU.
    settings = load_settings(device=device, concurrency=1, decode_on_gpu=False)
    files = NamedBundles.of([bundle])
    with closing(build_tagger(settings, files)) as tagger:
        (session,) = (tagger.sessions.get(sha256) for sha256 in files.files)
        report = measure(session, resolve_test_folders(data), out=out, pool=tagger.pools.decode)
    if as_json:
        click.echo(json.dumps(report))
    else:
        _print(report)


def _print(report: dict[str, Any]) -> None:
    from rich.table import Table

    from tagmill.cli.terminal.console import open_console

    console = open_console()
    summary = Table("metric", "value", title=report["bundle"]["name"])
    for key in FIGURES:
        if key in report:
            summary.add_row(key.replace("_", " "), f"{report[key]:.4f}")
    for key in ("images", "images_per_second"):
        summary.add_row(key.replace("_", " "), str(report[key]))
    summary.add_row("unreadable", str(len(report["failures"])))
    console.print(summary)
    kind = next(kind for kind in PER_CLASS if kind in report)
    table = Table("label", PER_CLASS[kind])
    for label, value in report[kind].items():
        table.add_row(label, f"{value:.4f}")
    console.print(table)
    for failure in report["failures"][:5]:
        console.print(f"skipped {failure['path']}: {failure['reason']}", soft_wrap=True)
