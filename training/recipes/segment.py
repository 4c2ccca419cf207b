r"""Train a network that labels every pixel, on images with masks.

    tagmill train segment --backbone efficientnet_lite0 --weights imagenet --data street/train \
        --validation street/validation --test street/test --out runs/street

Trained on 702 street photos with 21 labels, and stopped after 20 of its 40 epochs: mean IoU 0.4183, pixel accuracy
0.9003 on the test photos, in 2200 s (n=1, seed 0). Measured on 2 shared vCPUs of an AMD EPYC with Python 3.11.7, torch
2.15.0 and timm 1.0.31. docs/training.md has the other networks.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  # the usual name in torch code

from tagmill.cli.terminal.progress import Display
from tagmill.images.preprocess import Geometry, PreprocessSpec
from tagmill.tasks.metrics import IGNORE, mask_confusion, segmentation
from tagmill.tasks.segment import SEGMENT
from training.annotations.folders import Folders, short_name
from training.checkpoint import Checkpoint, claim_run, plain, versions
from training.data.arrays import Arrays, spread
from training.data.segmentation import pixels_per_value, read_masked
from training.evaluation.pixel_scores import sampled_pixels
from training.evaluation.predict import device_for, predict_masks, to_pixels
from training.loop.augment import Augmentation, augment
from training.loop.device_tensor import DeviceTensor
from training.loop.optimizers import Optimizer, new_optimizer
from training.loop.training import LoopConfig, Training
from training.models.classifiers import parameters
from training.models.pyramid import Pyramid
from training.models.segmenters import SegmentArch
from training.recipes.finish import TrainingCost, finish_segmenter
from training.recipes.pretrained import IMAGENET, NONE
from training.recipes.segment_network import (
    MEASURED_ON,
    AnySegmenter,
    Origin,
    PyramidShape,
    find_origin,
    new_network,
    options_of,
    pyramid_optimizer,
)


@dataclass(frozen=True)
class SegmentHyperparameters:
    """The settings of a training."""

    loop: LoopConfig
    #: pixels of both sides
    size: int
    geometry: Geometry
    #: the unets downscale the image by this factor before their first layer
    shrink: int
    #: highest learning rate of the one-cycle schedule
    lr: float
    weight_decay: float
    #: share of the Dice loss; the rest is cross-entropy
    dice: float
    #: exponent of 1 / (a label's share of the pixels) in its weight in the cross-entropy; 0 weighs all labels alike
    rarity: float
    augmentation: Augmentation | None
    #: scales of a pyramid: from 1 / `finest` to 1 / `coarsest` of the size that it works at
    finest: int = 4
    coarsest: int = 32
    #: whether the masks of a pyramid are the mean over the image and its mirror image
    mirror: bool = True
    #: highest learning rate of a pyramid's body, as a share of `lr`
    body_lr: float = 1.0
    #: stages of a pyramid's body that are not trained
    frozen: int = 0


_GEOMETRIC = Augmentation(flip=0.5, shift=0.06, zoom=0.2, angle=10.0, color=0.3)
#: the tuned settings of the unet, which the other networks start from; the command line overrides single values
DEFAULTS = SegmentHyperparameters(
    LoopConfig(epochs=20, batch_size=16, seed=0),
    size=256,
    geometry=Geometry.STRETCH,
    shrink=2,
    lr=3e-3,
    weight_decay=0.02,
    dice=0.5,
    rarity=0.25,
    augmentation=_GEOMETRIC,
)
#: the settings of the context-unet, tuned on street photos
CONTEXT_DEFAULTS = replace(
    DEFAULTS,
    loop=LoopConfig(epochs=90, batch_size=16, seed=0, average=0.998),
    shrink=1,
    weight_decay=0.1,
    dice=0.3,
    rarity=0.05,
    augmentation=replace(_GEOMETRIC, paste=0.75),
)

#: the settings of the pyramid, tuned on street photos
PYRAMID_DEFAULTS = replace(
    DEFAULTS,
    loop=LoopConfig(epochs=40, batch_size=16, seed=0, average=0.995),
    shrink=1,
    lr=5e-3,
    weight_decay=0.05,
    rarity=0.1,
    augmentation=replace(_GEOMETRIC, paste=0.75),
    body_lr=0.3,
    frozen=2,
)
_DEFAULTS = {SegmentArch.CONTEXT_UNET: CONTEXT_DEFAULTS, SegmentArch.PYRAMID: PYRAMID_DEFAULTS}


def defaults(arch: str) -> SegmentHyperparameters:
    """Return the default settings of a network."""
    return _DEFAULTS.get(arch, DEFAULTS)  # type: ignore[call-overload,no-any-return]  # a StrEnum is a str


def train_segment(
    folders: Folders,
    out: Path,
    arch: str,
    hyper: SegmentHyperparameters,
    device_name: str = "auto",
    display: Display | None = None,
    start: Path | None = None,
    resume: bool = False,
    backbone: str | None = None,
    weights: str | None = None,
) -> dict[str, Any]:
    """Write the run folder `out` (checkpoint, figures, report); return the metrics.

    `start` is a run to start from: of the same network, of a resnet classifier, whose body the unet copies, or of
    `train transfer` on the body of a pyramid. `backbone` and `weights` name the body of a pyramid as `find_weights`
    takes them.
    """
    display = display or Display()
    device = device_for(device_name)
    origin = find_origin(arch, start, backbone, weights)
    options = options_of(arch, hyper.shrink, PyramidShape(hyper.finest, hyper.coarsest, hyper.mirror), origin)
    spec = PreprocessSpec(hyper.size, hyper.size, hyper.geometry)
    claim_run(out, folders, resume)
    data = read_masked(folders, spec, hyper.loop.seed, display)

    torch.manual_seed(hyper.loop.seed)
    network = new_network(arch, hyper.size, options, len(data.labels), data.train, origin)
    network = network.to(memory_format=torch.channels_last).to(device)
    display.say(f"{arch}: {parameters(network):,} parameters, {data.summary()}; {device}")
    training = Training(
        network,
        _optimizer(network, hyper, origin),
        hyper.loop,
        len(data.train),
        Checkpoint(
            recipe="segment",
            task=SEGMENT,
            arch=arch,
            options=options,
            labels=data.labels,
            preprocess=spec,
            hyperparameters=plain(asdict(hyper)) | _named(start, weights, origin),
            data=folders.to_dict(),
            versions=versions(),
        ),
        out,
        display,
        metric="validation_mean_iou",
        device=device,
        resume=resume,
    )
    fit(training, network, data.train, data.validation, len(data.labels), hyper, device)
    checkpoint = training.finish()
    cost = TrainingCost(training.seconds, parameters(network), str(device), training.history)
    return finish_segmenter(
        checkpoint,
        lambda pixels: predict_masks(network, pixels, device),
        lambda arrays: sampled_pixels(network, arrays, device, hyper.loop.seed),
        data,
        folders,
        cost,
        out,
    )


def _optimizer(network: AnySegmenter, hyper: SegmentHyperparameters, origin: Origin) -> torch.optim.Optimizer:
    if not isinstance(network, Pyramid) or not origin.trained:
        return new_optimizer(Optimizer.ADAM, network, hyper.lr, hyper.weight_decay)
    network.freeze(hyper.frozen)
    return pyramid_optimizer(network, hyper.lr, hyper.body_lr, hyper.weight_decay)


def _named(start: Path | None, weights: str | None, origin: Origin) -> dict[str, str | None]:
    """Return what the network starts from, as the checkpoint stores it: without the folders of this machine."""
    named = {"start": short_name(start) if start else None}
    if origin.body is None or start is not None:
        return named
    return named | {"weights": weights if weights in {NONE, IMAGENET} else short_name(Path(weights or IMAGENET))}


def fit(
    training: Training, network: AnySegmenter, train: Arrays, validation: Arrays, labels: int,
    hyper: SegmentHyperparameters, device: torch.device,
) -> None:  # fmt: skip
    """Train on `train` for all epochs, and validate after each."""
    pixels, masks = DeviceTensor(train.pixels, device), DeviceTensor(train.targets, device)
    names = [str(number) for number in range(labels)]
    weights = label_weights(train.targets, labels, hyper.rarity).to(device)
    for epoch in training.epochs():
        for chosen in training.batches():
            batch, truth = to_pixels(pixels.take(chosen), device), masks.take(chosen)
            if hyper.augmentation:
                batch, changed = augment(batch, truth, hyper.augmentation, training.generator)
                truth = truth if changed is None else changed
            logits = training.forward(batch)
            truth = _subsampled(truth, network.stride, training.generator)
            loss = segmentation_loss(logits.float(), truth, weights, hyper.dice)
            training.step(loss, len(chosen))
        confusion = mask_confusion(
            predict_masks(training.evaluated, validation.pixels, device), validation.targets, labels
        )
        metrics = segmentation(confusion, names, len(validation))
        iou, accuracy = metrics["mean_iou"], metrics["pixel_accuracy"]
        training.end(epoch, validation_mean_iou=iou, validation_pixel_accuracy=accuracy)


def segmentation_loss(logits: Tensor, truth: Tensor, weights: Tensor, dice: float) -> Tensor:
    """Return weighted cross-entropy plus Dice of logits [N, labels, H, W] for int64 [N, H, W]; 255 is ignored."""
    entropy = F.cross_entropy(logits, truth, weights, ignore_index=IGNORE)
    if not dice:
        return entropy
    counted = (truth != IGNORE)[:, None]
    probability = logits.softmax(1) * counted
    one_hot = torch.zeros_like(probability).scatter_(1, truth.where(truth != IGNORE, 0)[:, None], 1.0) * counted
    # Over the whole batch: a label that one image lacks would count as entirely wrong or entirely right.
    overlap, areas = (probability * one_hot).sum((0, 2, 3)), (probability + one_hot).sum((0, 2, 3))
    present = one_hot.sum((0, 2, 3)) > 0
    dice_loss = 1 - (2 * overlap + 1) / (areas + 1)
    return (1 - dice) * entropy + dice * dice_loss[present].mean()


def label_weights(masks: NDArray[np.uint8], labels: int, rarity: float) -> Tensor:
    """Return the weight of each label in the cross-entropy, float32 [labels], 1 on average.

    It is (share of the pixels) ** -rarity. The Dice loss already counts every label alike, and stronger weights lose
    more pixels of the common labels than they gain of the rare ones.
    """
    counts = pixels_per_value(spread(masks, MEASURED_ON))[:labels].astype(np.float64)
    weights = np.maximum(counts / max(1.0, counts.sum()), 1e-3) ** -rarity
    return torch.from_numpy(weights / weights.mean()).float()


def _subsampled(masks: Tensor, stride: int, generator: torch.Generator) -> Tensor:
    """Return every `stride`-th pixel of uint8 [N, H, W] as int64: one for each of the network's coarse logits.

    The loss on them is a fraction of the work. The offset is random for each batch: always the upper left pixel would
    teach shifted masks.
    """
    down, across = torch.randint(0, stride, (2,), generator=generator).tolist()
    return masks[:, down::stride, across::stride].long()
