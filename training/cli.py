"""`tagmill train`: a subcommand for each recipe."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from tagmill.errors import InputError

FOLDER = click.Path(path_type=Path)


@click.group()
def train() -> None:
    """Train a model: one subcommand for each recipe. Each writes a run folder for `tagmill export`."""
    # Waiting threads sleep instead of spinning: on cores shared with others that was measured 1.7 times as fast, and no
    # slower on quiet ones. OpenMP reads it when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@train.command()
@click.option(
    "--data",
    required=True,
    multiple=True,
    type=FOLDER,
    help="A folder for each category; cifar10 is downloaded. May be repeated.",
)
@click.option("--validation", multiple=True, type=FOLDER, help="Held-out pictures  [default: a tenth of --data]")
@click.option("--test", multiple=True, type=FOLDER, help="Pictures measured once, at the end. May be repeated.")
@click.option("--out", required=True, type=FOLDER, help="Run folder to write.")
@click.option("--arch", type=click.Choice(["seed", "resnet"]), default="seed", show_default=True, help="The network.")
@click.option("--size", type=click.IntRange(18, 512), help="Pixels of both sides  [default: seed 32, resnet 96]")
@click.option(
    "--geometry",
    type=click.Choice(["stretch", "letterbox", "center_crop"]),
    help="How a picture is brought to --size  [default: seed stretch, resnet letterbox]",
)
@click.option("--epochs", type=click.IntRange(1), help="[default: seed 10, resnet 30]")
@click.option("--batch-size", type=click.IntRange(2), help="[default: 64]")
@click.option("--lr", type=click.FloatRange(0, min_open=True), help="Highest learning rate of the one-cycle schedule.")
@click.option("--augment/--no-augment", default=True, show_default=True, help="Flip, shift and recolour the pictures.")
@click.option("--balance", is_flag=True, help="Draw each category of each --data folder equally often.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed trains the same network on a CPU.")
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda", help="Where to train.")
def cnn(
    data: tuple[Path, ...],
    validation: tuple[Path, ...],
    test: tuple[Path, ...],
    out: Path,
    arch: str,
    geometry: str | None,
    augment: bool,
    balance: bool,
    seed: int,
    device: str,
    **given: Any,
) -> None:
    """Train a classifier on a folder of pictures for each category."""
    _check_device(device)
    from tagmill.preprocess import Geometry
    from training.cnn import DEFAULTS, train_cnn
    from training.dataset import Folders
    from training.networks import Arch

    hyper = replace(DEFAULTS[Arch(arch)], balance=balance, seed=seed, **_chosen(given))
    if geometry:
        hyper = replace(hyper, geometry=Geometry(geometry))
    if not augment:
        hyper = replace(hyper, augmentation=None)
    with _keeping(out):
        report = train_cnn(_with_cifar10(Folders(data, validation, test)), out, hyper, device)
    figure = "accuracy" if "accuracy" in report else "validation_accuracy"
    click.echo(f"{out}: {figure.replace('_', ' ')} {report[figure]:.4f} after {report['seconds']:.0f} s")


@train.command()
@click.option(
    "--data", required=True, multiple=True, type=FOLDER, help="Holds images/, masks/ and labels.json. May be repeated."
)
@click.option("--validation", multiple=True, type=FOLDER, help="Held-out pictures  [default: a tenth of --data]")
@click.option("--test", multiple=True, type=FOLDER, help="Pictures measured once, at the end. May be repeated.")
@click.option("--out", required=True, type=FOLDER, help="Run folder to write.")
@click.option("--start", type=FOLDER, help="Start from the run of a `train cnn --arch resnet`.")
@click.option("--size", type=click.IntRange(64, 1024), help="Pixels of both sides, a multiple of 64  [default: 256]")
@click.option("--epochs", type=click.IntRange(1), help="[default: 20]")
@click.option("--batch-size", type=click.IntRange(2), help="[default: 16]")
@click.option("--lr", type=click.FloatRange(0, min_open=True), help="Highest learning rate of the one-cycle schedule.")
@click.option("--augment/--no-augment", default=True, show_default=True, help="Flip, turn and recolour the pictures.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed trains the same network on a CPU.")
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda", help="Where to train.")
def segment(
    data: tuple[Path, ...],
    validation: tuple[Path, ...],
    test: tuple[Path, ...],
    out: Path,
    start: Path | None,
    augment: bool,
    seed: int,
    device: str,
    **given: Any,
) -> None:
    """Train a network that labels every pixel."""
    _check_device(device)
    from training.dataset import Folders
    from training.segment import DEFAULTS, train_segment

    hyper = replace(DEFAULTS, seed=seed, **_chosen(given))
    if not augment:
        hyper = replace(hyper, augmentation=None)
    with _keeping(out):
        report = train_segment(Folders(data, validation, test), out, hyper, device, start=start)
    figure = "mean_iou" if "mean_iou" in report else "validation_mean_iou"
    click.echo(f"{out}: {figure.replace('_', ' ')} {report[figure]:.4f} after {report['seconds']:.0f} s")


@contextmanager
def _keeping(out: Path) -> Iterator[None]:
    """Say on Ctrl-C what is left of the training."""
    try:
        yield
    except KeyboardInterrupt:
        from training.checkpoint import FILE

        if (out / FILE).exists():
            click.echo(f"{out}: keeps its best epoch so far, which `tagmill export` takes", err=True)
        raise


def _chosen(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}


def _check_device(device: str) -> None:
    if device not in {"auto", "cpu", "cuda"} and not device.startswith("cuda:"):
        raise InputError(f"--device {device}: must be auto, cpu or cuda:N")


def _with_cifar10(folders: Any) -> Any:
    """Put the downloaded folders in the place of the name cifar10, unless a folder of that name is there."""
    from training.cifar10 import NAME, cifar10

    named = Path(NAME)
    if named.is_dir() or named not in {*folders.data, *folders.test}:
        return folders
    train_folder, test_folder = cifar10()
    data = tuple(train_folder if folder == named else folder for folder in folders.data)
    test = tuple(test_folder if folder == named else folder for folder in folders.test)
    return replace(folders, data=data, test=test or (test_folder,))
