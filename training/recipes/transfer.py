r"""Train a classifier from a pretrained network: first a new head, then all layers at lower rates (fine-tuning).

    tagmill train transfer --weights runs/photos --data clothing/train --validation clothing/validation \
        --test clothing/test --out runs/clothing

The tutorials' VGG16 with frozen features, Dense 256 and Dense n:

    tagmill train transfer --backbone vgg16 --weights imagenet --head 256 --fine-tune-epochs 0 --data ... --out ...

Trained on 3,068 clothing photos: test accuracy 0.7876 from a run of `train cnn --arch resnet` on CIFAR-10, in 193 s;
0.6855 from scratch (n=1, seed 0). Measured on 2 shared vCPUs of an Intel Xeon (AVX-512, no AMX) with Python 3.11.7,
torch 2.15.0 and torchvision 0.29.2. docs/training.md has the command of each figure.
"""

from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tagmill.cli.terminal.progress import Display
from tagmill.errors import InputError
from tagmill.images.preprocess import Geometry, PreprocessSpec
from tagmill.tasks.classify import CLASSIFY
from tagmill.tasks.multilabel import MULTILABEL
from training.annotations.folders import Folders, short_name
from training.checkpoint import Checkpoint, claim_run, plain, versions
from training.data.arrays import LabeledSet, spread
from training.data.classification import read_labeled
from training.evaluation.predict import all_logits, device_for, to_pixels
from training.loop.augment import STRENGTHS, Augmentation, Strength
from training.loop.device_tensor import DeviceTensor
from training.loop.features import backbone_features
from training.loop.losses import count_correct, label_loss, validation_metrics
from training.loop.resume import stage_of
from training.loop.sampling import balancing_weights
from training.loop.training import LoopConfig, Training
from training.models.backbones import Transfer, build_transfer, matching_weights, parameter_groups
from training.models.classifiers import BUILDERS, fit_to_pixels, parameters
from training.models.timm_backbones import LITE
from training.recipes.cnn import fit
from training.recipes.finish import TrainingCost, finish_classifier
from training.recipes.pretrained import IMAGENET, NONE, Pretrained, find_weights


@dataclass(frozen=True)
class TransferHyperparameters:
    """The settings of a training."""

    #: the fine-tuning; 0 epochs leave the backbone frozen
    loop: LoopConfig
    #: epochs of the head alone, on the frozen backbone's features
    head_epochs: int
    #: pixels of both sides
    size: int
    #: pixels of both sides while all layers are fine-tuned, 0 for the same
    train_size: int
    geometry: Geometry
    #: width of a dense layer in the head, 0 for none
    head: int
    #: highest learning rate while the head is trained alone
    head_lr: float
    #: highest learning rate of the head while all layers are fine-tuned
    lr: float
    #: learning rate of each stage of the backbone, as a share of that of the stage above
    lr_decay: float
    #: first stages of the backbone that are not fine-tuned
    frozen: int
    #: whether the logits are the mean over the image and its mirror image
    mirror: bool
    weight_decay: float
    label_smoothing: float
    augmentation: Augmentation | None
    #: draw every (training folder, category) equally often
    balance: bool = False


DEFAULTS = TransferHyperparameters(
    LoopConfig(epochs=20, batch_size=64, seed=0, average=0.998),
    head_epochs=10,
    size=96,
    train_size=0,
    geometry=Geometry.LETTERBOX,
    head=0,
    head_lr=3e-3,
    lr=3e-3,
    lr_decay=0.8,
    frozen=0,
    mirror=False,
    weight_decay=0.02,
    label_smoothing=0.1,
    augmentation=STRENGTHS[Strength.STRONG],
)

#: EfficientNet-Lite. It is fine-tuned at a lower resolution than it is used at, which costs less, and random crops make
#: things look larger there than they will be (FixRes, Touvron et al. 2019, arXiv 1906.06423)
LITE_DEFAULTS = replace(
    DEFAULTS,
    loop=LoopConfig(epochs=8, batch_size=32, seed=0, average=0.99),
    head_epochs=6,
    size=192,
    train_size=160,
    lr=1e-3,
    lr_decay=0.85,
    frozen=4,
    mirror=True,
    weight_decay=0.05,
)

#: --train-size of EfficientNet-Lite as a share of --size
TRAINED_SHARE = LITE_DEFAULTS.train_size / LITE_DEFAULTS.size

#: names of the two stages of a training in its state
HEAD, FINE_TUNE = "head", "fine-tune"
#: number of images that the normalization is measured on
MEASURED_ON = 2000


def defaults_for(arch: str, size: int | None = None) -> TransferHyperparameters:
    """Return the settings that a backbone was tuned with; at another `size` the size in fine-tuning follows it."""
    if arch not in LITE:
        return DEFAULTS
    if size is None:
        return LITE_DEFAULTS
    return replace(LITE_DEFAULTS, size=size, train_size=round(size * TRAINED_SHARE))


def train_transfer(
    folders: Folders,
    out: Path,
    weights: str,
    hyper: TransferHyperparameters,
    backbone: str | None = None,
    device_name: str = "auto",
    display: Display | None = None,
    multilabel: bool = False,
    resume: bool = False,
) -> dict[str, Any]:
    """Write the run folder `out` (checkpoint, figures, report); return the metrics.

    `weights` are "none", "imagenet", a run folder or a file; `backbone` is the name of the network.
    """
    display = display or Display()
    device = device_for(device_name)
    head_epochs = head_epochs_of(weights, hyper)
    pretrained = find_weights(weights, backbone)
    origin = weights if weights in {NONE, IMAGENET} else short_name(Path(weights))
    spec = PreprocessSpec(hyper.size, hyper.size, hyper.geometry)
    claim_run(out, folders, resume)
    data = read_labeled(folders, spec, hyper.loop.seed, display, multilabel)

    torch.manual_seed(hyper.loop.seed)
    network = new_network(pretrained, hyper, data).to(memory_format=torch.channels_last).to(device)
    display.say(f"{pretrained.arch}: {parameters(network):,} parameters, {data.summary()}; {device}")
    draft = Checkpoint(
        recipe="transfer",
        task=MULTILABEL if multilabel else CLASSIFY,
        arch=pretrained.arch,
        options={"head": hyper.head, "mirror": hyper.mirror},
        labels=data.labels,
        preprocess=spec,
        hyperparameters=plain(asdict(hyper)) | {"weights": origin},
        data=folders.to_dict(),
        versions=versions(),
    )
    new = partial(
        Training,
        network,
        images=len(data.train),
        run=out,
        display=display,
        metric="validation_mean_ap" if multilabel else "validation_accuracy",
        device=device,
        weights=balancing_weights(data.train) if hyper.balance else None,
        resume=resume,
    )
    training, stage = None, stage_of(out, resume)
    if head_epochs and stage != FINE_TUNE:
        loop = replace(hyper.loop, epochs=head_epochs, average=0.0)
        optimizer = torch.optim.Adam(network.head.parameters(), lr=hyper.head_lr, fused=True)
        training = new(optimizer=optimizer, config=loop, draft=draft, stage=HEAD)
        fit_head(training, network, data, hyper, device, display)
        draft = training.finish()
    if hyper.loop.epochs or stage == FINE_TUNE:
        # Random stages must learn, too.
        network.freeze(hyper.frozen if pretrained.state is not None else 0)
        groups = parameter_groups(network, hyper.lr, hyper.lr_decay)
        optimizer = torch.optim.Adam(groups, weight_decay=hyper.weight_decay, decoupled_weight_decay=True, fused=True)
        training = new(optimizer=optimizer, config=hyper.loop, draft=draft, stage=FINE_TUNE, before=training)
        fit(training, data.train, data.validation, hyper.augmentation, hyper.label_smoothing, device, hyper.train_size)
    assert training is not None
    checkpoint = training.finish()
    cost = TrainingCost(training.seconds, parameters(network), str(device), training.history)
    return finish_classifier(checkpoint, lambda p: all_logits(network, p, device), data, folders, cost, out)


def head_epochs_of(weights: str, hyper: TransferHyperparameters) -> int:
    """Return the epochs of the head alone, 0 on random weights. Raise InputError if nothing would be trained."""
    epochs = 0 if weights == NONE else hyper.head_epochs
    if not epochs and not hyper.loop.epochs:
        why = f"--weights {NONE}" if weights == NONE else "--head-epochs 0"
        raise InputError(f"{why} --fine-tune-epochs 0: nothing would be trained; give --fine-tune-epochs 1 or more")
    return epochs


def fit_head(
    training: Training, network: Transfer, data: LabeledSet, hyper: TransferHyperparameters, device: torch.device,
    display: Display,
) -> None:  # fmt: skip
    """Train the head on features computed once: of each image and, if the augmentation flips, of its mirror image."""
    mirrored = hyper.augmentation is not None and hyper.augmentation.flip > 0
    views = [data.train.pixels]
    if mirrored:
        views.append(np.ascontiguousarray(data.train.pixels[:, :, ::-1]))
    features = DeviceTensor(torch.cat([_features(network, view, device, display) for view in views]), device)
    held_out = _features(network, data.validation.pixels, device, display).to(device)
    targets = DeviceTensor(data.train.targets, device)
    for epoch in training.epochs():
        for chosen in training.batches():
            view = torch.randint(0, len(views), chosen.shape, generator=training.generator)
            truth = targets.take(chosen)
            logits = network.head(features.take(view * len(data.train) + chosen))
            loss = label_loss(logits, truth, hyper.label_smoothing)
            training.step(loss, len(chosen), accuracy=count_correct(logits, truth))
        with torch.inference_mode():
            logits = network.head.eval()(held_out).float().cpu().numpy()
        training.end(epoch, **validation_metrics(logits, data.validation.targets))


def new_network(pretrained: Pretrained, hyper: TransferHyperparameters, data: LabeledSet) -> Transfer:
    """Return the backbone with its weights and a new head. Raise InputError if the weights do not fit the backbone."""
    try:
        network = build_transfer(pretrained.arch, hyper.size, len(data.labels), hyper.head, hyper.mirror)
        if pretrained.state is not None:
            weights = matching_weights(network, pretrained.state, pretrained.arch)
            network.load_state_dict(network.state_dict() | weights)
    except ValueError as error:
        raise InputError(f"{error}; choose another --backbone, --weights or --size") from error
    if pretrained.state is None and pretrained.arch in BUILDERS:
        fit_to_pixels(network, to_pixels(spread(data.train.pixels, MEASURED_ON)))
    return network


def _features(network: Transfer, pixels: Any, device: torch.device, display: Display) -> Tensor:
    with display.reading("features", len(pixels)) as step:
        return torch.from_numpy(backbone_features(network, pixels, device, step))
