"""`tagmill train`: a subcommand for each recipe."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from tagmill.cli.param_types import Finite, NamedPath
from tagmill.errors import ConfigurationError, ExitCode, InputError

PATH = NamedPath()

Command = TypeVar("Command", bound=Callable[..., Any])

#: what every recipe is told of its images, and where to write
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
#: each network has its own: a test holds the table there to them
TUNED = "[default: docs/training.md]"
#: what every network is told besides
SHARED = (
    *PLACES,
    click.option("--batch-size", type=click.IntRange(2), help=f"Images of one step  {TUNED}"),
    click.option("--lr", type=Finite(0, min_open=True), help=f"Highest rate of the one-cycle schedule  {TUNED}"),
    click.option("--weight-decay", type=Finite(0), help=f"What each step takes off the weights  {TUNED}"),
    click.option("--average", type=Finite(0, 0.99999), help=f"Decay of the weights' running mean; 0: none  {TUNED}"),
    click.option("--patience", type=click.IntRange(0), help="Epochs without gain that end it; 0: never  [default: 0]"),
    SEED,
    click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda:N", help="Where to train."),
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
    help=f"How an image is brought to --size  {TUNED}",
)
MULTILABEL = click.option("--multilabel", is_flag=True, help="An image may have any number of labels.")
BALANCE = click.option("--balance", is_flag=True, help="Draw each category of each --data equally often.")


def places(command: Command) -> Command:
    """Add the options that every recipe has."""
    for option in reversed(PLACES):
        command = option(command)
    return command


def shared(command: Command) -> Command:
    """Add the options that every network has."""
    for option in reversed(SHARED):
        command = option(command)
    return command


@click.group()
def train() -> None:
    """Train a model: one subcommand for each recipe. Each writes a run folder for `tagmill export`."""
    # Waiting threads sleep instead of spinning: on cores shared with others that was measured 1.7 times as fast, and no
    # slower on quiet ones. OpenMP reads it when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@train.command()
@LABELED
@shared
@click.option("--size", type=click.IntRange(4, 512), help="Pixels of both sides  [default: 28]")
@click.option("--epochs", type=click.IntRange(1), help="[default: 10]")
def mlp(**given: Any) -> None:
    """Train two dense layers on gray images, the tutorials' network for MNIST."""
    _train_cnn("mlp", **given)


@train.command()
@LABELED
@places
@click.option("--features", type=click.Choice(["pixels", "hog"]), help="What of an image is seen  [default: pixels]")
@click.option("--size", type=click.IntRange(4, 512), help="Pixels of both sides  [default: 28]")
@click.option("--c", type=Finite(0, min_open=True), help="Cost of an image on the wrong side  [default: 10]")
@click.option("--limit", type=click.IntRange(2), help="Images to train on, evenly of each category  [default: all]")
@SEED
def svc(data: tuple[Path, ...], validation: tuple[Path, ...], test: tuple[Path, ...], out: Path, **given: Any) -> None:
    """Train a support vector classifier on pixels or HOG features: a baseline to beat."""
    from training.models.svm import Features
    from training.recipes.svc import DEFAULTS, train_svc

    values = {name: value for name, value in given.items() if value is not None}
    hyper = replace(DEFAULTS, **values | {"features": Features(values.get("features", DEFAULTS.features))})
    folders = _folders(data, validation, test)
    with _keeping(out, "to train again, remove it or name another --out"):
        _say(out, train_svc(folders, out, hyper))


@train.command()
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
    _train_cnn(arch, **given)


def _train_cnn(
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
    _check_device(device)
    from training.models.classifiers import Arch
    from training.recipes.cnn import DEFAULTS, train_cnn

    hyper = _chosen(DEFAULTS[Arch(arch)], given)
    folders = _folders(data, validation, test)
    with _keeping(out):
        _say(out, train_cnn(folders, out, Arch(arch), hyper, device, multilabel=multilabel, resume=resume))


@train.command()
@LABELED
@shared
@click.option(
    "--weights",
    required=True,
    metavar="imagenet|none|PATH",
    help="Where to start: torchvision's ImageNet weights, random ones, a run folder or a file of weights.",
)
@click.option("--backbone", help="The network: resnet18, vgg16, any of torchvision's  [default: that of the run]")
@click.option("--head", type=click.IntRange(0), help="Width of a dense layer before the labels, 0: none  [default: 0]")
@click.option("--head-epochs", type=click.IntRange(0), help="Epochs of the head on the frozen backbone  [default: 10]")
@click.option("--fine-tune-epochs", "epochs", type=click.IntRange(0), help="Epochs of all of it  [default: 20]")
@click.option("--head-lr", type=Finite(0, min_open=True), help="Highest rate of the head alone  [default: 0.003]")
@click.option("--lr-decay", type=Finite(0, 1), help="Rate of a stage: its share of the one above  [default: 0.8]")
@AUGMENT
@click.option("--size", type=click.IntRange(17, 512), help="Pixels of both sides  [default: 96]")
@GEOMETRY
@MULTILABEL
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
    _check_device(device)
    from training.recipes.pretrained import NONE
    from training.recipes.transfer import DEFAULTS, train_transfer

    for name in ("head_epochs", "head_lr"):
        if weights == NONE and given[name]:
            option = f"--{name.replace('_', '-')}"
            raise InputError(f"{option} needs trained weights below the head, not --weights {NONE}; leave it out")
    hyper = _chosen(DEFAULTS, given)
    folders = _folders(data, validation, test)
    with _keeping(out):
        _say(
            out,
            train_transfer(
                folders, out, weights, hyper, backbone, device, multilabel=multilabel, resume=resume
            ),
        )  # fmt: skip


@train.command()
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
    _check_device(device)
    from training.recipes.segment import defaults, train_segment

    hyper = _chosen(defaults(arch), given)
    folders = _folders(data, validation, test)
    with _keeping(out):
        _say(out, train_segment(folders, out, arch, hyper, device, start=start, resume=resume))


@contextmanager
def _keeping(out: Path, hint: str = "the same command with --resume goes on") -> Iterator[None]:
    """Say on Ctrl-C what is left of the training; leave no empty folder behind one that came to nothing."""
    made = False
    with suppress(OSError):
        made = not out.exists()
    try:
        yield
    except KeyboardInterrupt:
        from training.checkpoint import FILE

        if not (out / FILE).exists():
            raise
        click.echo(f"interrupted; {out} keeps its best weights so far, which `tagmill export` takes; {hint}", err=True)
        raise click.exceptions.Exit(ExitCode.INTERRUPTED) from None
    except RuntimeError as error:
        from torch import OutOfMemoryError

        if not isinstance(error, OutOfMemoryError):
            raise
        raise ConfigurationError("the GPU has too little memory; choose a smaller --batch-size or --size") from error
    finally:
        if made:
            with suppress(OSError):
                out.rmdir()  # only where it is empty


def _say(out: Path, report: dict[str, Any]) -> None:
    names = ("accuracy", "mean_ap", "mean_iou")
    figure = next(name for name in (*names, *(f"validation_{name}" for name in names)) if name in report)
    click.echo(f"{out}: {figure.replace('_', ' ')} {report[figure]:.4f} after {report['seconds']:.0f} s")


def _chosen(defaults: Any, given: dict[str, Any]) -> Any:
    """Return hyperparameters with what the command line says instead of the defaults."""
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


def _folders(data: tuple[Path, ...], validation: tuple[Path, ...], test: tuple[Path, ...]) -> Any:
    from training.annotations.folders import Folders
    from training.annotations.torchvision_datasets import resolve_folders

    return resolve_folders(Folders(data, validation, test))


def _check_device(device: str) -> None:
    if device not in {"auto", "cpu", "cuda"} and not device.startswith("cuda:"):
        raise InputError(f"--device {device}: must be auto, cpu or cuda:N")
