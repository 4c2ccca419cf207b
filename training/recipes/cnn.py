"""Train a classifier from scratch on labeled images.

    tagmill train cnn --data cifar10/train --test cifar10/test --epochs 10 --out runs/cifar10

CIFAR-10 (JPEG) test accuracy 0.7597 with the simple CNN, the mean of seeds 0, 1 and 2 (0.7619, 0.7577, 0.7594), in
155-179 s. The TensorFlow tutorial, whose network it is, has 0.6927. Measured on 2 shared vCPUs of an Intel Xeon
(AVX-512, no AMX) with Python 3.11.7, torch 2.15.0 and torchvision 0.29.2. docs/training.md has the other networks.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  # the usual name in torch code

from tagmill.cli.terminal.progress import Display
from tagmill.errors import InputError
from tagmill.images.preprocess import Geometry, PreprocessSpec
from tagmill.tasks.classify import CLASSIFY
from tagmill.tasks.multilabel import MULTILABEL
from training.annotations.folders import Folders
from training.checkpoint import Checkpoint, claim_run, plain, versions
from training.data.arrays import Arrays, spread
from training.data.classification import read_labeled
from training.evaluation.predict import all_logits, device_for, to_pixels
from training.loop.augment import STRENGTHS, Augmentation, Strength, augment
from training.loop.device_tensor import DeviceTensor
from training.loop.losses import count_correct, label_loss, validate
from training.loop.optimizers import Optimizer, new_optimizer
from training.loop.sampling import balancing_weights
from training.loop.training import LoopConfig, Training
from training.models.classifiers import BUILDERS, Arch, fit_to_pixels, parameters
from training.recipes.finish import TrainingCost, finish_classifier


@dataclass(frozen=True)
class CnnHyperparameters:
    """The settings of a training."""

    loop: LoopConfig
    #: pixels of both sides
    size: int
    geometry: Geometry
    optimizer: Optimizer
    #: highest learning rate of the one-cycle schedule
    lr: float
    weight_decay: float
    label_smoothing: float
    augmentation: Augmentation | None
    #: draw each (source, category) equally often
    balance: bool = False


#: the tuned settings of each network; the command line overrides single values
DEFAULTS = {
    Arch.MLP: CnnHyperparameters(
        LoopConfig(epochs=10, batch_size=64, seed=0),
        size=28,
        geometry=Geometry.STRETCH,
        optimizer=Optimizer.ADAM,
        lr=2e-3,
        weight_decay=0.0,
        label_smoothing=0.0,
        augmentation=STRENGTHS[Strength.NONE],
    ),
    Arch.SIMPLE_CNN: CnnHyperparameters(
        LoopConfig(epochs=10, batch_size=64, seed=0),
        size=32,
        geometry=Geometry.STRETCH,
        optimizer=Optimizer.ADAM,
        lr=2.5e-3,
        weight_decay=0.0,
        label_smoothing=0.0,
        augmentation=STRENGTHS[Strength.LIGHT],
    ),
    Arch.RESNET: CnnHyperparameters(
        LoopConfig(epochs=30, batch_size=64, seed=0),
        size=96,
        geometry=Geometry.LETTERBOX,
        optimizer=Optimizer.ADAM,
        lr=4e-3,
        weight_decay=0.02,
        label_smoothing=0.1,
        augmentation=STRENGTHS[Strength.STRONG],
    ),
    # The learning rate, weight decay, momentum and smoothing of the airbench paper, for a mean loss.
    Arch.AIRBENCH: CnnHyperparameters(
        LoopConfig(epochs=11, batch_size=1024, seed=0, rising=0.23, average=0.99),
        size=32,
        geometry=Geometry.STRETCH,
        optimizer=Optimizer.SGD,
        lr=1.5,
        weight_decay=1.3e-3,
        label_smoothing=0.2,
        augmentation=STRENGTHS[Strength.LIGHT],
    ),
}

#: number of images that the normalization is measured on
MEASURED_ON = 2000


def train_cnn(
    folders: Folders,
    out: Path,
    arch: Arch,
    hyper: CnnHyperparameters,
    device_name: str = "auto",
    display: Display | None = None,
    multilabel: bool = False,
    resume: bool = False,
) -> dict[str, Any]:
    """Write the run folder `out` (checkpoint, figures, report); return the metrics."""
    display = display or Display()
    device = device_for(device_name)
    spec = PreprocessSpec(hyper.size, hyper.size, hyper.geometry)
    claim_run(out, folders, resume)
    data = read_labeled(folders, spec, hyper.loop.seed, display, multilabel)

    torch.manual_seed(hyper.loop.seed)
    network = new_network(arch, hyper.size, len(data.labels), data.train)
    network = network.to(memory_format=torch.channels_last).to(device)
    display.say(f"{arch}: {parameters(network):,} parameters, {data.summary()}; {device}")
    training = Training(
        network,
        new_optimizer(hyper.optimizer, network, hyper.lr, hyper.weight_decay),
        hyper.loop,
        len(data.train),
        Checkpoint(
            recipe="mlp" if arch is Arch.MLP else "cnn",
            task=MULTILABEL if multilabel else CLASSIFY,
            arch=arch,
            labels=data.labels,
            preprocess=spec,
            hyperparameters=plain(asdict(hyper)),
            data=folders.to_dict(),
            versions=versions(),
        ),
        out,
        display,
        metric="validation_mean_ap" if multilabel else "validation_accuracy",
        device=device,
        weights=balancing_weights(data.train) if hyper.balance else None,
        resume=resume,
    )
    fit(training, data.train, data.validation, hyper.augmentation, hyper.label_smoothing, device)
    checkpoint = training.finish()
    cost = TrainingCost(training.seconds, parameters(network), str(device), training.history)
    return finish_classifier(checkpoint, lambda p: all_logits(network, p, device), data, folders, cost, out)


def fit(
    training: Training, train: Arrays, validation: Arrays, augmentation: Augmentation | None, label_smoothing: float,
    device: torch.device, size: int = 0,
) -> None:  # fmt: skip
    """Train on `train` for all epochs, and validate after each.

    With `size`, training images are scaled to so many pixels on both sides after they were augmented.
    """
    pixels, targets = DeviceTensor(train.pixels, device), DeviceTensor(train.targets, device)
    for epoch in training.epochs():
        for chosen in training.batches():
            batch, truth = to_pixels(pixels.take(chosen), device), targets.take(chosen)
            if augmentation:
                batch, _ = augment(batch, None, augmentation, training.generator, size)
            if size and batch.shape[2] != size:
                batch = F.interpolate(batch, (size, size), mode="bilinear", antialias=True)
            logits = training.forward(batch)
            loss = label_loss(logits.float(), truth, label_smoothing)
            training.step(loss, len(chosen), accuracy=count_correct(logits, truth))
        training.end(epoch, **validate(training.evaluated, validation, device))


def new_network(arch: Arch, size: int, labels: int, train: Arrays) -> nn.Module:
    """Return a network with random weights, normalized to the training images.

    Raise InputError for a size that it cannot take.
    """
    try:
        network = BUILDERS[arch](size, labels)
    except ValueError as error:
        raise InputError(f"{error}; choose another --size or --arch") from error
    fit_to_pixels(network, to_pixels(spread(train.pixels, MEASURED_ON)))
    return network
