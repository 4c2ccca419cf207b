"""`tagmill train transfer`."""

from pathlib import Path
from typing import Any

import click

from tagmill.cli.param_types import Finite
from tagmill.errors import InputError
from training.cli.options import (
    AUGMENT,
    BALANCE,
    DEFAULT_IN_DOCS,
    GEOMETRY,
    LABELED,
    MULTILABEL,
    check_device,
    find_folders,
    override,
    shared,
)
from training.cli.result import print_result, training_run


@click.command()
@LABELED
@shared
@click.option(
    "--weights",
    required=True,
    metavar="imagenet|none|PATH",
    help="Where to start: ImageNet weights, random ones, a run folder or a file of weights.",
)
@click.option(
    "--backbone",
    help="The network: efficientnet_lite0, resnet18, vgg16, any of torchvision's and timm's  "
    "[default: that of the run]",
)
@click.option("--head", type=click.IntRange(0), help="Width of a dense layer before the labels, 0: none  [default: 0]")
@click.option(
    "--head-epochs", type=click.IntRange(0), help=f"Epochs of the head on the frozen backbone  {DEFAULT_IN_DOCS}"
)
@click.option("--fine-tune-epochs", "epochs", type=click.IntRange(0), help=f"Epochs of all of it  {DEFAULT_IN_DOCS}")
@click.option("--head-lr", type=Finite(0, min_open=True), help="Highest rate of the head alone  [default: 0.003]")
@click.option("--lr-decay", type=Finite(0, 1), help=f"Rate of a stage: its share of the one above  {DEFAULT_IN_DOCS}")
@click.option("--frozen", type=click.IntRange(0), help=f"First stages that are not fine-tuned  {DEFAULT_IN_DOCS}")
@click.option(
    "--mirror/--no-mirror",
    default=None,
    help=f"Take the mean over an image and its mirror image, at twice the work  {DEFAULT_IN_DOCS}",
)
@AUGMENT
@click.option("--size", type=click.IntRange(17, 512), help=f"Pixels of both sides  {DEFAULT_IN_DOCS}")
@click.option(
    "--train-size",
    type=click.IntRange(17, 512),
    help=f"Pixels of both sides in fine-tuning, less than --size  {DEFAULT_IN_DOCS}",
)
@GEOMETRY
@MULTILABEL
@BALANCE
def transfer(
    data: tuple[Path, ...],
    validation: tuple[Path, ...],
    test: tuple[Path, ...],
    out: Path,
    weights: str,
    backbone: str | None,
    device: str,
    resume: bool,
    multilabel: bool,
    **given: Any,
) -> None:
    """Train a classifier out of a network that was trained before."""
    check_device(device)
    from training.recipes.pretrained import NONE, arch_of
    from training.recipes.transfer import defaults_for, train_transfer

    for name in ("head_epochs", "head_lr"):
        if weights == NONE and given[name]:
            option = f"--{name.replace('_', '-')}"
            raise InputError(f"{option} needs trained weights below the head, not --weights {NONE}; leave it out")
    hyper = override(defaults_for(arch_of(weights, backbone) or "", given["size"]), given)
    if hyper.train_size > hyper.size:
        raise InputError(f"--train-size {hyper.train_size}: must not be above --size, which is {hyper.size}")
    folders = find_folders(data, validation, test)
    with training_run(out):
        print_result(
            out,
            train_transfer(
                folders, out, weights, hyper, backbone, device, multilabel=multilabel, resume=resume
            ),
        )  # fmt: skip
