"""`tagmill train segment`."""

from pathlib import Path
from typing import Any

import click

from training.cli.options import AUGMENT, PATH, check_device, find_folders, override, shared
from training.cli.result import print_result, training_run


@click.command()
@click.option(
    "--data", required=True, multiple=True, type=PATH,
    help="Images with masks: images/, masks/ and labels.json, COCO (docs/data.md), or voc. May be repeated.",
)  # fmt: skip
@shared
@click.option(
    "--arch",
    type=click.Choice(
        [
            "unet",
            "context-unet",
            "simple-unet",
            "lraspp_mobilenet_v3_large",
            "deeplabv3_mobilenet_v3_large",
            "deeplabv3_resnet50",
        ]
    ),
    default="unet",
    show_default=True,
    help="The network.",
)
@click.option("--start", type=PATH, help="Start from a run of the same network or of `train cnn --arch resnet`.")
@AUGMENT
@click.option("--size", type=click.IntRange(64, 1024), help="Pixels of both sides  [default: 256]")
@click.option(
    "--shrink", type=click.IntRange(1, 4), help="The unets work at this part of the size  [default: 2; context-unet 1]"
)
@click.option("--epochs", type=click.IntRange(1), help="[default: 20; context-unet 90]")
def segment(
    data: tuple[Path, ...],
    validation: tuple[Path, ...],
    test: tuple[Path, ...],
    out: Path,
    arch: str,
    start: Path | None,
    device: str,
    resume: bool,
    **given: Any,
) -> None:
    """Train a network that labels every pixel."""
    check_device(device)
    from training.recipes.segment import defaults, train_segment

    hyper = override(defaults(arch), given)
    folders = find_folders(data, validation, test)
    with training_run(out):
        print_result(out, train_segment(folders, out, arch, hyper, device, start=start, resume=resume))
