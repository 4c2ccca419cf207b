"""`tagmill export` and `tagmill evaluate`: bundles out of training runs, and how good they are."""

import json
from pathlib import Path
from typing import Any

import click

from tagmill.errors import InputError
from training.option_types import NamedPath

FILE = FOLDER = NamedPath()

#: what `tagmill evaluate` shows of a report, and how its figures a label are called
SHARES = (
    *("accuracy", "top5", "mean_ap", "macro_f1", "mean_iou", "pixel_accuracy"),
    *("ece", "ece_by_chance", "ece_uncalibrated"),
)
PER_CLASS = {"per_class": "accuracy", "per_class_ap": "average precision", "per_class_iou": "IoU"}


@click.command()
@click.argument("run", type=FOLDER)
@click.option("-o", "--out", required=True, type=FILE, help="The bundle to write, FILE.onnx.")
@click.option("--name", help="Name in the bundle  [default: that of the file]")
@click.option("--samples", type=FOLDER, help="Pictures to prove the bundle on, where the run's own are gone.")
@click.option("--precision", type=click.Choice(["fp32", "fp16", "int8"]), default="fp32", show_default=True,
              help="Bits of the weights; what fewer cost is measured.")  # fmt: skip
@click.option("--top-k", type=click.IntRange(1), help="Let the graph pick out the best K labels of each picture.")
def export(run: Path, out: Path, name: str | None, samples: Path | None, precision: str, top_k: int | None) -> None:
    """Make a bundle out of a training run.

    RUN is the folder that `tagmill train` wrote. The bundle is compared with torch on up to 200 pictures,
    and is written only where both agree. With --precision fp16 or int8 it is written only where its accuracy, mean
    average precision or mean IoU on the run's test pictures falls by no more than 0.5 points.
    """
    from export.bundle_file import export_bundle
    from tagmill.bundle import Precision

    done = export_bundle(run, out, name, samples, Precision(precision), top_k or 0)
    spec, parity = done.spec, done.parity
    masks = "" if parity.mask_difference is None else f", masks by {parity.mask_difference:.4%} of the pixels"
    click.echo(
        f"{out}: {spec.task} bundle {spec.name}, {len(spec.labels)} labels, {out.stat().st_size / 2**20:.2f} MiB"
    )
    click.echo(
        f"scores differ from torch by at most {parity.max_score_difference:.1e}{masks} ({parity.images} pictures)"
    )
    if done.comparison is not None:
        cost = done.comparison
        click.echo(
            f"{cost.metric.replace('_', ' ')} {cost.figure:.4f} in {spec.precision}, {cost.fp32:.4f} in fp32 "
            f"({cost.images} {cost.use} pictures); {done.size_ratio:.2f} of the size"
        )


@click.command()
@click.argument("bundle", type=FILE, metavar="FILE.onnx")
@click.option("--data", "data", required=True, multiple=True, type=FOLDER, help="Labelled pictures; may be repeated.")
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda:N", help="Where inference runs.")
@click.option("--out", type=FOLDER, help="Folder for figures and pictures with predicted titles or masks.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def evaluate(bundle: Path, data: tuple[Path, ...], device: str, out: Path | None, as_json: bool) -> None:
    """Measure a bundle on labelled pictures.

    --data is any kind of labelled pictures that training takes: folders, CSV, COCO, a reviewed run, or the name of a
    known data set, whose test pictures are measured (docs/data.md).
    """
    from export.evaluate import BATCH
    from export.evaluate import evaluate as measure
    from training.downloads import for_testing
    from worker.session import Session

    if device not in {"auto", "cpu", "cuda"} and not device.startswith("cuda:"):
        raise InputError(f"--device {device}: must be auto, cpu or cuda:N")
    report = measure(Session(bundle, device=device, batch=BATCH), for_testing(data), out=out)
    if as_json:
        click.echo(json.dumps(report))
    else:
        _print(report)


def _print(report: dict[str, Any]) -> None:
    from rich.table import Table

    from tagmill.console import open_console

    console = open_console()
    summary = Table("metric", "value", title=report["bundle"]["name"])
    for key in SHARES:
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
