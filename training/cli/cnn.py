"""`tagmill train mlp` and `tagmill train cnn`."""

from pathlib import Path
from typing import Any

import click

from training.cli.options import (
    AUGMENT,
    BALANCE,
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
@click.option("--size", type=click.IntRange(4, 512), help="Pixels of both sides  [default: 28]")
@click.option("--epochs", type=click.IntRange(1), help="[default: 10]")
def mlp(**given: Any) -> None:
    """Train two dense layers on gray images, the tutorials' network for MNIST."""
    train_network("mlp", **given)


@click.command()
@LABELED
@shared
@click.option(
    "--arch",
    type=click.Choice(["simple-cnn", "resnet", "airbench"]),
    default="simple-cnn",
    show_default=True,
    help="The network.",
)
@AUGMENT
@click.option("--size", type=click.IntRange(17, 512), help="Pixels of both sides  [default: 32, resnet 96]")
@GEOMETRY
@click.option("--epochs", type=click.IntRange(1), help="[default: simple-cnn 10, resnet 30, airbench 11]")
@MULTILABEL
@BALANCE
def cnn(arch: str, **given: Any) -> None:
    """Train a convolutional network from scratch."""
    train_network(arch, **given)


def train_network(
    arch: str,
    data: tuple[Path, ...],
    validation: tuple[Path, ...],
    test: tuple[Path, ...],
    out: Path,
    device: str,
    resume: bool,
    multilabel: bool = False,
    **given: Any,
) -> None:
    """Run the recipe of `mlp` and `cnn` with the options that were given."""
    check_device(device)
    from training.models.classifiers import Arch
    from training.recipes.cnn import DEFAULTS, train_cnn

    hyper = override(DEFAULTS[Arch(arch)], given)
    folders = find_folders(data, validation, test)
    with training_run(out):
        print_result(out, train_cnn(folders, out, Arch(arch), hyper, device, multilabel=multilabel, resume=resume))
