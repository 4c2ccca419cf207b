r"""Train a network that labels every pixel, on pictures with masks.

    tagmill train segment --start runs/classifier --epochs 6 --data drawn-train \
        --validation drawn-val --test drawn-test --out runs/segmenter

Result: mean IoU 0.929 over 11 labels, pixel accuracy 0.973, on 1,000 drawn pictures of a seed that was not
trained on; 507 s, 786,491 parameters. 8,000 drawn pictures to train on, 2 shared Xeon vCPUs without GPU, torch 2.15.0,
n = 1 run. docs/starter-bundles.md has all of it.
"""

import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  # the name every reader of torch code knows

from tagmill.errors import ConfigurationError, InputError
from tagmill.preprocess import Geometry, PreprocessSpec
from training.augment import Augmentation, augment
from training.checkpoint import Checkpoint, claim_run, copied_state, load, plain, save, versions
from training.curves import draw_curves, draw_masks
from training.dataset import (
    IGNORE,
    Arrays,
    Example,
    Folders,
    load_masks,
    mask_labels,
    masked_pictures,
    short_name,
    split,
    translation,
)
from training.inference import device_for, fast_in_bf16, segment, to_pixels
from training.metrics import confusion, rounded, segmentation
from training.networks import Arch, UNet, normalisation, parameters, unet
from training.progress import Display
from training.sampling import batches
from training.schedule import one_cycle


@dataclass(frozen=True)
class Hyperparameters:
    """What decides the result, apart from the pictures."""

    #: pixels of both sides
    size: int
    geometry: Geometry
    epochs: int
    batch_size: int
    #: the highest rate of the one-cycle schedule
    lr: float
    weight_decay: float
    #: share of the Dice loss beside cross-entropy
    dice: float
    augmentation: Augmentation | None
    seed: int


#: What the network was tuned to; the command line overrides single values.
DEFAULTS = Hyperparameters(
    size=256,
    geometry=Geometry.STRETCH,
    epochs=20,
    batch_size=16,
    lr=3e-3,
    weight_decay=0.02,
    dice=0.5,
    augmentation=Augmentation(flip=0.5, shift=0.06, zoom=0.2, angle=10.0, colour=0.3),
    seed=0,
)

#: share of the training pictures held out where no --validation is named
HELD_OUT = 0.1
#: pictures that normalisation and label weights are measured on
MEASURED_ON = 500


def train_segment(
    folders: Folders,
    out: Path,
    hyper: Hyperparameters,
    device_name: str = "auto",
    display: Display | None = None,
    start: Path | None = None,
) -> dict[str, Any]:
    """Write checkpoint.pt, metrics.json, curves.png and predictions.png into `out`; return the metrics.

    `start` is the run of a resnet classifier whose body the network starts from.
    """
    display = display or Display()
    device = device_for(device_name)
    started_from = _resnet_state(start) if start else None
    spec = PreprocessSpec(hyper.size, hyper.size, hyper.geometry)
    claim_run(out)
    labels = mask_labels(folders.data[0])
    train, validation, test = _read(folders, labels, spec, hyper, display)

    torch.manual_seed(hyper.seed)
    network = _new_network(hyper, len(labels), train, started_from).to(memory_format=torch.channels_last).to(device)
    display.say(
        f"unet: {parameters(network):,} parameters, {len(labels)} labels; {len(train)} pictures to train on, "
        f"{len(validation)} held out, {len(test) if test else 0} to test on; {device}"
    )
    draft = Checkpoint(
        recipe="segment",
        arch=Arch.UNET,
        labels=labels,
        preprocess=spec,
        state={},
        hyperparameters=plain(asdict(hyper)) | {"start": short_name(start) if start else None},
        data=folders.to_dict(),
        epoch=0,
        metrics={},
        versions=versions(),
    )
    started = time.perf_counter()
    history: list[dict[str, float]] = []
    best = draft
    for entry in fit(network, train, validation, hyper, device, display):
        history.append(entry)
        # With a rate that falls to zero the last epochs differ little: of equals the later one is kept.
        if entry["validation_mean_iou"] >= best.metrics.get("validation_mean_iou", 0.0):
            metrics = {"validation_mean_iou": entry["validation_mean_iou"], "validation_images": len(validation)}
            best = replace(draft, state=copied_state(network), epoch=int(entry["epoch"]), metrics=metrics)
            save(best, out)
    seconds = round(time.perf_counter() - started, 1)

    network.load_state_dict(best.state)
    shown = test or validation
    predicted = segment(network, shown.pixels, device)
    if test:
        best.metrics.update(_test_metrics(predicted, test, labels, folders))
    save(best, out)
    report = {
        **best.metrics,
        "seconds": seconds,
        "epoch": best.epoch,
        "parameters": parameters(network),
        "labels": labels,
        "pictures": {"train": len(train), "validation": len(validation), "test": len(test) if test else 0},
        "unreadable": sum(len(arrays.unreadable) for arrays in (train, validation, test) if arrays),
        "device": str(device),
        "hyperparameters": best.hyperparameters,
        "versions": best.versions,
        "history": history,
    }
    (out / "metrics.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    draw_curves(history, "mean_iou", out / "curves.png")
    _draw_grid(shown, predicted, labels, hyper.seed, out / "predictions.png")
    return report


def fit(
    network: UNet,
    train: Arrays,
    validation: Arrays,
    hyper: Hyperparameters,
    device: torch.device,
    display: Display,
) -> Iterator[dict[str, float]]:
    """Train in place; give the figures of each epoch as it ends."""
    generator = torch.Generator().manual_seed(hyper.seed)
    pixels, masks = torch.from_numpy(train.pixels), torch.from_numpy(train.targets)
    weights = label_weights(train.targets, network.head.out_channels).to(device)
    steps = len(batches(len(train), hyper.batch_size, None, torch.Generator()))
    optimiser = torch.optim.Adam(
        network.parameters(), lr=hyper.lr, weight_decay=hyper.weight_decay, decoupled_weight_decay=True, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: one_cycle(step, hyper.epochs * steps))
    reached = 0.0
    bf16 = fast_in_bf16(device)
    with display.training(hyper.epochs, steps) as stepped:
        for epoch in range(1, hyper.epochs + 1):
            started = time.perf_counter()
            network.train()
            losses, seen = 0.0, 0
            for chosen in batches(len(train), hyper.batch_size, None, generator):
                batch, truth = to_pixels(pixels[chosen], device), masks[chosen].to(device)
                if hyper.augmentation:
                    batch, changed = augment(batch, truth, hyper.augmentation, generator)
                    truth = truth if changed is None else changed
                with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                    logits = network.coarse(batch)
                loss = segmentation_loss(logits.float(), _thinned(truth, generator), weights, hyper.dice)
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]  # torch leaves backward untyped
                optimiser.step()
                schedule.step()
                losses += loss.item() * len(chosen)
                seen += len(chosen)
                stepped(epoch, f"loss {losses / seen:.3f}  held out mean IoU {reached:.3f}")
            if not math.isfinite(losses):
                raise ConfigurationError(f"the loss left the numbers in epoch {epoch}; try a --lr below {hyper.lr:g}")
            held = segmentation(_table(network, validation, device), _names(network), len(validation))
            reached = held["mean_iou"]
            entry = {
                "epoch": epoch,
                "loss": rounded(losses / seen),
                "validation_mean_iou": held["mean_iou"],
                "validation_pixel_accuracy": held["pixel_accuracy"],
                "seconds": round(time.perf_counter() - started, 1),
            }
            display.say(
                f"epoch {epoch}/{hyper.epochs}  loss {entry['loss']:.3f}  held out: mean IoU {held['mean_iou']:.3f}, "
                f"pixels {held['pixel_accuracy']:.3f}  {entry['seconds']:.0f} s"
            )
            yield entry


def segmentation_loss(logits: Tensor, truth: Tensor, weights: Tensor, dice: float) -> Tensor:
    """Return weighted cross-entropy and Dice of logits [N, labels, H, W] for int64 [N, H, W]; 255 does not count."""
    entropy = F.cross_entropy(logits, truth, weights, ignore_index=IGNORE)
    if not dice:
        return entropy
    counted = (truth != IGNORE)[:, None]
    probability = logits.softmax(1) * counted
    own = torch.zeros_like(probability).scatter_(1, truth.where(truth != IGNORE, 0)[:, None], 1.0) * counted
    # Over the whole batch: a label that a single picture lacks would count as all wrong or all right.
    overlap, areas = (probability * own).sum((0, 2, 3)), (probability + own).sum((0, 2, 3))
    present = own.sum((0, 2, 3)) > 0
    share = 1 - (2 * overlap + 1) / (areas + 1)
    return (1 - dice) * entropy + dice * share[present].mean()


def label_weights(masks: NDArray[np.uint8], labels: int) -> Tensor:
    """Return a weight a label for cross-entropy, float32 [labels]: one over the root of its share, 1 on average."""
    some = masks[:: max(1, len(masks) // MEASURED_ON)]
    counts = np.bincount(some.ravel(), minlength=256)[:labels].astype(np.float64)
    weights = 1 / np.sqrt(np.maximum(counts / max(1.0, counts.sum()), 1e-3))
    return torch.from_numpy(weights / weights.mean()).float()


def _thinned(masks: Tensor, generator: torch.Generator) -> Tensor:
    """Return one pixel for each of the network's coarse logits, of uint8 [N, H, W], as int64.

    The loss on them is a sixteenth of the work. Which pixel is taken changes from batch to batch: always the upper left
    one would teach masks that are shifted.
    """
    stride = UNet.STRIDE
    down, across = torch.randint(0, stride, (2,), generator=generator).tolist()
    return masks[:, down::stride, across::stride].long()


def _names(network: UNet) -> list[str]:
    """Return a name for each output, where the real ones do not matter."""
    return [str(number) for number in range(network.head.out_channels)]


def _table(network: UNet, arrays: Arrays, device: torch.device) -> NDArray[np.int64]:
    return confusion(segment(network, arrays.pixels, device), arrays.targets, network.head.out_channels)


def _read(
    folders: Folders, labels: tuple[str, ...], spec: PreprocessSpec, hyper: Hyperparameters, display: Display
) -> tuple[Arrays, Arrays, Arrays | None]:
    """Return the decoded pictures to train on, to hold out, and to test on."""

    def read(name: str, directories: tuple[Path, ...]) -> Arrays:
        examples: list[Example] = []
        for source, directory in enumerate(directories):
            examples += masked_pictures(directory, source)
        tables = [translation(mask_labels(directory), labels, directory) for directory in directories]
        with display.reading(name, len(examples)) as step:
            arrays = load_masks(examples, tables, spec, step)
        display.name_unreadable(arrays.unreadable)
        return arrays

    if len(labels) < 2:
        raise InputError(f"{folders.data[0]}: names one label, {labels[0]}; a segmenter needs at least two")
    train = read("training pictures", folders.data)
    if folders.validation:
        validation = read("validation pictures", folders.validation)
    else:
        kept, out = split(_main_labels(train.targets), HELD_OUT, hyper.seed)
        train, validation = replace(train.part(kept), unreadable=train.unreadable), train.part(out)
    if not len(validation) or len(train) < 2:
        raise InputError(f"{folders.data[0]}: too few readable pictures; a training needs at least four")
    return train, validation, read("test pictures", folders.test) if folders.test else None


def _main_labels(masks: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the largest label of each picture apart from background, so that the split holds some of each."""
    found = []
    for mask in masks:
        areas = np.bincount(mask[(mask != IGNORE) & (mask != 0)], minlength=1)
        found.append(int(areas.argmax()))
    return np.array(found, dtype=np.int64)


def _resnet_state(run: Path) -> dict[str, Tensor]:
    checkpoint = load(run)
    if checkpoint.arch is not Arch.RESNET:
        raise InputError(f"{run}: holds a {checkpoint.arch} network; --start takes a run of `train cnn --arch resnet`")
    return checkpoint.state


def _new_network(hyper: Hyperparameters, labels: int, train: Arrays, start: dict[str, Tensor] | None) -> UNet:
    try:
        network = unet(hyper.size, labels)
    except ValueError as error:
        raise InputError(f"{error}; choose another --size") from error
    if start:
        network.take_body(start)
        return network
    some = to_pixels(train.pixels[:: max(1, len(train) // MEASURED_ON)])
    normalisation(network).fit(some.mean(dim=(0, 2, 3)), some.std(dim=(0, 2, 3)))
    return network


def _test_metrics(
    predicted: NDArray[np.uint8], test: Arrays, labels: tuple[str, ...], folders: Folders
) -> dict[str, Any]:
    """Return the figures over all test pictures and, where they come from several folders, for each folder."""
    metrics = segmentation(confusion(predicted, test.targets, len(labels)), labels, len(test))
    if len(folders.test) > 1:
        parts = {}
        for source, folder in enumerate(folders.test):
            inside = test.sources == source
            table = confusion(predicted[inside], test.targets[inside], len(labels))
            found = segmentation(table, labels, int(inside.sum()))
            parts[short_name(folder)] = {key: found[key] for key in ("mean_iou", "images", "pixel_accuracy")}
        metrics["folders"] = parts
    return metrics


def _draw_grid(shown: Arrays, predicted: NDArray[np.uint8], labels: tuple[str, ...], seed: int, path: Path) -> None:
    chosen = np.random.default_rng(seed).permutation(len(shown))[:25]
    ious = []
    for index in chosen:
        table = confusion(predicted[index], shown.targets[index], len(labels))
        ious.append(segmentation(table, labels, 1)["mean_iou"])
    draw_masks(shown.pixels[chosen], predicted[chosen], labels, ious, path)
