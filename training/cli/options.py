"""The options that the subcommands of `tagmill train` share, and what they are turned into."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from tagmill.cli.param_types import Finite, NonEmptyPath
from tagmill.device import TRAINING_DEVICES
from tagmill.errors import InputError

PATH = NonEmptyPath()

Command = TypeVar("Command", bound=Callable[..., Any])

#: the images of every recipe, and where it writes
PLACES = (
    click.option(
        "--validation",
        multiple=True,
        type=PATH,
        help="Held-out images. May be repeated.  [default: a tenth of --data]",
    ),
    click.option("--test", multiple=True, type=PATH, help="Images measured once, at the end. May be repeated."),
    click.option("--out", required=True, type=PATH, help="Run folder to write."),
)
SEED = click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="The same seed trains the same on a CPU.",
)
#: help text of an option whose default depends on the network; a test compares the table there with the defaults
DEFAULT_IN_DOCS = "[default: docs/training.md]"
#: the options of every neural network
SHARED = (
    *PLACES,
    click.option("--batch-size", type=click.IntRange(2), help=f"Images of one step  {DEFAULT_IN_DOCS}"),
    click.option(
        "--lr", type=Finite(0, min_open=True), help=f"Highest rate of the one-cycle schedule  {DEFAULT_IN_DOCS}"
    ),
    click.option("--weight-decay", type=Finite(0), help=f"What each step takes off the weights  {DEFAULT_IN_DOCS}"),
    click.option("--average", type=Finite(0, 0.99999), help=f"Decay of the weights' EMA; 0: none  {DEFAULT_IN_DOCS}"),
    click.option("--patience", type=click.IntRange(0), help="Epochs without gain that end it; 0: never  [default: 0]"),
    SEED,
    click.option("--device", default="auto", show_default=True, metavar=TRAINING_DEVICES, help="Where to train."),
    click.option("--resume", is_flag=True, help="Go on with the run in --out where it was stopped."),
)
LABELED = click.option(
    "--data", required=True, multiple=True, type=PATH,
    help="Labeled images: folders, CSV or COCO (docs/data.md), or a name such as cifar10. May be repeated.",
)  # fmt: skip
AUGMENT = click.option(
    "--augment",
    type=click.Choice(["none", "light", "medium", "strong"]),
    help="How much to change the images at random  [default: what the network was tuned to]",
)
GEOMETRY = click.option(
    "--geometry",
    type=click.Choice(["stretch", "letterbox", "center_crop"]),
    help=f"How an image is brought to --size  {DEFAULT_IN_DOCS}",
)
MULTILABEL = click.option("--multilabel", is_flag=True, help="An image may have any number of labels.")
BALANCE = click.option("--balance", is_flag=True, help="Draw each category of each --data equally often.")


def places(command: Command) -> Command:
    """Add the options that every recipe has."""
    for option in reversed(PLACES):
        command = option(command)
    return command


def shared(command: Command) -> Command:
    """Add the options that every neural network has."""
    for option in reversed(SHARED):
        command = option(command)
    return command


def override(defaults: Any, given: dict[str, Any]) -> Any:
    """Return the hyperparameters `defaults` with the options that were given; None is an option left out."""
    from tagmill.images.preprocess import Geometry
    from training.loop.augment import STRENGTHS, Strength

    values = {name: value for name, value in given.items() if value is not None}
    if "augment" in values:
        values["augmentation"] = STRENGTHS[Strength(values.pop("augment"))]
    if "geometry" in values:
        values["geometry"] = Geometry(values["geometry"])
    loop = {
        name: values.pop(name) for name in ("epochs", "batch_size", "seed", "average", "patience") if name in values
    }
    return replace(defaults, loop=replace(defaults.loop, **loop), **values)


def find_folders(data: tuple[Path, ...], validation: tuple[Path, ...], test: tuple[Path, ...]) -> Any:
    """Return the folders of images; data sets named by name, such as cifar10, are downloaded."""
    from training.annotations.folders import Folders
    from training.annotations.torchvision_datasets import resolve_folders

    return resolve_folders(Folders(data, validation, test))


def check_device(device: str) -> None:
    """Raise InputError for a --device that cannot be one, before torch is imported."""
    if device not in {"auto", "cpu", "cuda"} and not device.startswith("cuda:"):
        raise InputError(f"--device {device}: must be auto, cpu or cuda:N")
