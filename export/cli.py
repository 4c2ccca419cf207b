"""`tagmill export` and `tagmill evaluate`: bundles out of training runs, and how good they are."""

import json
from pathlib import Path
from typing import Any

import click

from tagmill.errors import InputError

FILE = click.Path(path_type=Path)
FOLDER = click.Path(path_type=Path)


@click.command()
@click.argument("run", type=FOLDER)
@click.option("-o", "--out", required=True, type=FILE, help="The bundle to write, FILE.onnx.")
@click.option("--name", help="Name in the bundle  [default: that of the file]")
@click.option("--samples", type=FOLDER, help="Pictures to prove the bundle on, where the run's own are gone.")
def export(run: Path, out: Path, name: str | None, samples: Path | None) -> None:
    """Make a bundle out of a training run.

    RUN is the folder that `tagmill train` wrote. The bundle is compared with torch on up to 200 pictures,
    and is written only where both agree.
    """
    from export.bundle_file import export_bundle

    spec, parity = export_bundle(run, out, name, samples)
    masks = "" if parity.mask_difference is None else f", masks by {parity.mask_difference:.4%} of the pixels"
    click.echo(
        f"{out}: {spec.task} bundle {spec.name}, {len(spec.labels)} labels, {out.stat().st_size / 2**20:.2f} MiB"
    )
    click.echo(
        f"scores differ from torch by at most {parity.max_score_difference:.1e}{masks} ({parity.images} pictures)"
    )


@click.command()
@click.argument("bundle", type=FILE, metavar="FILE.onnx")
@click.option("--data", "data", required=True, multiple=True, type=FOLDER, help="Labelled pictures; may be repeated.")
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda", help="Where inference runs.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def evaluate(bundle: Path, data: tuple[Path, ...], device: str, as_json: bool) -> None:
    """Measure a bundle on labelled pictures.

    For a classifier --data is a folder with a folder for each category; for a segmenter it holds images/, masks/ and
    labels.json. A drawn sample catalog is both.
    """
    from export.evaluate import count
    from export.evaluate import evaluate as measure
    from training.progress import Display
    from worker.session import Session

    if device not in {"auto", "cpu", "cuda"} and not device.startswith("cuda:"):
        raise InputError(f"--device {device}: must be auto, cpu or cuda:N")
    session = Session(bundle, device=device)
    with Display().reading("pictures", count(session, data)) as step:
        report = measure(session, data, step)
    if as_json:
        click.echo(json.dumps(report))
    else:
        _print(report)


def _print(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    summary = Table("metric", "value", title=report["bundle"]["name"])
    for key in ("accuracy", "top5", "macro_f1", "mean_iou", "pixel_accuracy", "images", "images_per_second"):
        if key in report:
            value = report[key]
            summary.add_row(
                key.replace("_", " "), f"{value:.4f}" if key not in {"images", "images_per_second"} else str(value)
            )
    summary.add_row("unreadable", str(len(report["failures"])))
    console.print(summary)
    kind = "per_class" if "per_class" in report else "per_class_iou"
    table = Table("label", "accuracy" if kind == "per_class" else "IoU")
    for label, value in report[kind].items():
        table.add_row(label, f"{value:.4f}")
    console.print(table)
    for failure in report["failures"][:5]:
        console.print(f"skipped {failure['path']}: {failure['reason']}", markup=False, soft_wrap=True)
