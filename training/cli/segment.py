"""`tagmill train segment`."""

from pathlib import Path
from typing import Any

import click

from tagmill.errors import InputError
from training.cli.options import AUGMENT, PATH, check_device, find_folders, override, shared
from training.cli.result import print_result, training_run

#: scales that a body has
SCALES = click.Choice([2, 4, 8, 16, 32])


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
            "pyramid",
            "lraspp_mobilenet_v3_large",
            "deeplabv3_mobilenet_v3_large",
            "deeplabv3_resnet50",
        ]
    ),
    help="The network  [default: unet; pyramid with --backbone or --weights]",
)
@click.option("--backbone", help="Body of the pyramid: efficientnet_lite0, 1 or 2, or another EfficientNet of timm")
@click.option(
    "--weights",
    metavar="imagenet|none|PATH",
    help="Where the body starts: ImageNet weights, random ones, a run of `train transfer` or a file of weights.",
)
@click.option(
    "--start",
    type=PATH,
    help="Start from a run of the same network; unets also from one of `train cnn --arch resnet`, the pyramid from one "
    "of `train transfer`.",
)
@AUGMENT
@click.option("--size", type=click.IntRange(64, 1024), help="Pixels of both sides  [default: 256]")
@click.option(
    "--shrink",
    type=click.IntRange(1, 4),
    help="Unets and pyramid work at this part of the size  [default: 2; context-unet and pyramid 1]",
)
@click.option("--finest", type=SCALES, help="A pyramid's finest scale: 1/2 of that size and so on  [default: 4]")
@click.option("--coarsest", type=SCALES, help="Its coarsest scale; 16 makes it small  [default: 32]")
@click.option(
    "--mirror/--no-mirror", default=None, help="Whether it also looks at the mirror image  [default: --mirror]"
)
@click.option("--epochs", type=click.IntRange(1), help="[default: 20; context-unet 90, pyramid 40]")
def segment(
    data: tuple[Path, ...],
    validation: tuple[Path, ...],
    test: tuple[Path, ...],
    out: Path,
    arch: str | None,
    backbone: str | None,
    weights: str | None,
    start: Path | None,
    device: str,
    resume: bool,
    **given: Any,
) -> None:
    """Train a network that labels every pixel."""
    check_device(device)
    from training.recipes.segment import defaults, train_segment

    arch = arch or ("pyramid" if backbone or weights else "unet")
    for name in ("finest", "coarsest", "mirror"):
        if given[name] is not None and arch != "pyramid":
            raise InputError(f"--{name} is for --arch pyramid, not for a {arch}; leave it out")
    hyper = override(defaults(arch), given)
    folders = find_folders(data, validation, test)
    with training_run(out):
        print_result(
            out,
            train_segment(
                folders, out, arch, hyper, device, start=start, resume=resume, backbone=backbone, weights=weights
            ),
        )
