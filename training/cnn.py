"""Train a classifier on a folder of pictures for each category.

    tagmill train cnn --data cifar10 --test cifar10 --epochs 10 --out runs/cifar10

Result: 0.757 and 0.756 test accuracy on CIFAR-10 (stored as JPEG; 45,000 pictures to train on, 5,000 held out, 10,000
to test on), 122,570 parameters, 145 s for 10 epochs. 2 shared Xeon vCPUs without GPU, torch 2.15.0, n = 2 runs.
`--arch resnet`: docs/starter-bundles.md.
"""

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F  # noqa: N812  # the name every reader of torch code knows

from tagmill.errors import ConfigurationError, InputError
from tagmill.preprocess import Geometry, PreprocessSpec
from training.augment import Augmentation, augment
from training.checkpoint import Checkpoint, claim_run, copied_state, plain, save, versions
from training.curves import draw_curves, draw_predictions
from training.dataset import Arrays, Example, Folders, categories, load_categories, short_name, split
from training.inference import classify, device_for, fast_in_bf16, to_pixels
from training.metrics import classification, rounded
from training.networks import Arch, build, normalisation, parameters
from training.progress import Display
from training.sampling import balancing_weights, batches
from training.schedule import one_cycle


@dataclass(frozen=True)
class Hyperparameters:
    """What decides the result, apart from the pictures."""

    arch: Arch
    #: pixels of both sides
    size: int
    geometry: Geometry
    epochs: int
    batch_size: int
    #: the highest rate of the one-cycle schedule
    lr: float
    weight_decay: float
    label_smoothing: float
    augmentation: Augmentation | None
    #: draw each (source, category) equally often
    balance: bool
    seed: int


#: What each network was tuned to; the command line overrides single values.
DEFAULTS = {
    Arch.SEED: Hyperparameters(
        Arch.SEED,
        size=32,
        geometry=Geometry.STRETCH,
        epochs=10,
        batch_size=64,
        lr=2.5e-3,
        weight_decay=0.0,
        label_smoothing=0.0,
        augmentation=Augmentation(flip=0.5, shift=0.06),
        balance=False,
        seed=0,
    ),
    Arch.RESNET: Hyperparameters(
        Arch.RESNET,
        size=96,
        geometry=Geometry.LETTERBOX,
        epochs=30,
        batch_size=64,
        lr=4e-3,
        weight_decay=0.02,
        label_smoothing=0.1,
        augmentation=Augmentation(flip=0.5, shift=0.08, zoom=0.25, angle=12.0, colour=0.35, erase=0.35),
        balance=False,
        seed=0,
    ),
}

#: share of the training pictures held out where no --validation is named
HELD_OUT = 0.1
#: pictures that the normalisation is measured on
NORMALISED_ON = 2000


def train_cnn(
    folders: Folders, out: Path, hyper: Hyperparameters, device_name: str = "auto", display: Display | None = None
) -> dict[str, Any]:
    """Write checkpoint.pt, metrics.json, curves.png and predictions.png into `out`; return the metrics."""
    display = display or Display()
    device = device_for(device_name)
    spec = PreprocessSpec(hyper.size, hyper.size, hyper.geometry)
    claim_run(out)
    labels, train, validation, test = _read(folders, spec, hyper, display)

    torch.manual_seed(hyper.seed)
    network = _new_network(hyper, len(labels), train).to(memory_format=torch.channels_last).to(device)
    display.say(
        f"{hyper.arch}: {parameters(network):,} parameters, {len(labels)} labels; {len(train)} pictures to train on, "
        f"{len(validation)} held out, {len(test) if test else 0} to test on; {device}"
    )
    draft = Checkpoint(
        recipe="cnn",
        arch=hyper.arch,
        labels=labels,
        preprocess=spec,
        state={},
        hyperparameters=plain(asdict(hyper)),
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
        if entry["validation_accuracy"] >= best.metrics.get("validation_accuracy", 0.0):
            metrics = {"validation_accuracy": entry["validation_accuracy"], "validation_images": len(validation)}
            best = replace(draft, state=copied_state(network), epoch=int(entry["epoch"]), metrics=metrics)
            save(best, out)
    seconds = round(time.perf_counter() - started, 1)

    network.load_state_dict(best.state)
    shown = test or validation
    scores = classify(network, shown.pixels, device)
    best.metrics.update(_test_metrics(scores, test, labels, folders.test) if test else {})
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
    draw_curves(history, "accuracy", out / "curves.png")
    _draw_grid(shown, scores, labels, hyper.seed, out / "predictions.png")
    return report


def fit(
    network: nn.Module,
    train: Arrays,
    validation: Arrays,
    hyper: Hyperparameters,
    device: torch.device,
    display: Display,
) -> Iterator[dict[str, float]]:
    """Train in place; give the figures of each epoch as it ends."""
    generator = torch.Generator().manual_seed(hyper.seed)
    pixels, targets = torch.from_numpy(train.pixels), torch.from_numpy(train.targets)
    weights = balancing_weights(train.sources, train.targets) if hyper.balance else None
    steps = len(batches(len(train), hyper.batch_size, weights, torch.Generator()))
    optimiser = torch.optim.Adam(
        network.parameters(), lr=hyper.lr, weight_decay=hyper.weight_decay, decoupled_weight_decay=True, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: one_cycle(step, hyper.epochs * steps))
    bf16 = hyper.arch is not Arch.SEED and fast_in_bf16(device)
    with display.training(hyper.epochs, steps) as stepped:
        for epoch in range(1, hyper.epochs + 1):
            started = time.perf_counter()
            network.train()
            losses, right, seen = 0.0, 0, 0
            for chosen in batches(len(train), hyper.batch_size, weights, generator):
                batch, truth = to_pixels(pixels[chosen], device), targets[chosen].to(device)
                if hyper.augmentation:
                    batch, _ = augment(batch, None, hyper.augmentation, generator)
                with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                    logits = network(batch)
                loss = F.cross_entropy(logits.float(), truth, label_smoothing=hyper.label_smoothing)
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]  # torch leaves backward untyped
                optimiser.step()
                schedule.step()
                losses += loss.item() * len(chosen)
                right += int((logits.argmax(1) == truth).sum())
                seen += len(chosen)
                stepped(epoch, f"loss {losses / seen:.3f}  accuracy {right / seen:.3f}")
            if not math.isfinite(losses):
                raise ConfigurationError(f"the loss left the numbers in epoch {epoch}; try a --lr below {hyper.lr:g}")
            held = _validate(network, validation, device)
            entry = {"epoch": epoch, "loss": losses / seen, "accuracy": right / seen, **held}
            entry = {name: rounded(value) for name, value in entry.items()}
            entry["seconds"] = round(time.perf_counter() - started, 1)
            display.say(
                f"epoch {epoch}/{hyper.epochs}  loss {entry['loss']:.3f}  accuracy {entry['accuracy']:.3f}  "
                f"held out {entry['validation_accuracy']:.3f}  {entry['seconds']:.0f} s"
            )
            yield entry


def _validate(network: nn.Module, validation: Arrays, device: torch.device) -> dict[str, float]:
    scores = classify(network, validation.pixels, device)
    chosen = scores[np.arange(len(scores)), validation.targets]
    right = float((scores.argmax(1) == validation.targets).mean())
    return {"validation_loss": float(-np.log(np.maximum(chosen, 1e-12)).mean()), "validation_accuracy": right}


def _read(
    folders: Folders, spec: PreprocessSpec, hyper: Hyperparameters, display: Display
) -> tuple[tuple[str, ...], Arrays, Arrays, Arrays | None]:
    """Return the labels and the decoded pictures to train on, to hold out, and to test on."""
    examples = _merged(folders.data)
    labels = tuple(sorted({str(example.target) for example in examples}))
    if len(labels) < 2:
        raise InputError(f"{folders.data[0]}: holds one category, {labels[0]}; a classifier needs at least two")
    held = _known(folders.validation, labels) if folders.validation else None
    tests = _known(folders.test, labels) if folders.test else None

    def read(name: str, found: list[Example]) -> Arrays:
        with display.reading(name, len(found)) as step:
            arrays = load_categories(found, labels, spec, step)
        display.name_unreadable(arrays.unreadable)
        return arrays

    train = read("training pictures", examples)
    if held:
        validation = read("validation pictures", held)
    else:
        kept, out = split(train.sources * len(labels) + train.targets, HELD_OUT, hyper.seed)
        train, validation = replace(train.part(kept), unreadable=train.unreadable), train.part(out)
    if not len(validation) or len(np.unique(train.targets)) < 2:
        raise InputError(f"{folders.data[0]}: too few readable pictures; each category needs two or more")
    return labels, train, validation, read("test pictures", tests) if tests else None


def _merged(directories: Sequence[Path]) -> list[Example]:
    found = []
    for source, directory in enumerate(directories):
        for category, examples in categories(directory, source).items():
            if not examples:
                raise InputError(f"{directory}: category {category} holds no picture; add some or remove the folder")
            found += examples
    return found


def _known(directories: Sequence[Path], labels: tuple[str, ...]) -> list[Example]:
    found = []
    for source, directory in enumerate(directories):
        for category, examples in categories(directory, source).items():
            if examples and category not in labels:
                raise InputError(
                    f"{directory}: category {category} is not one of the training pictures': {', '.join(labels)}"
                )
            found += examples
    return found


def _new_network(hyper: Hyperparameters, labels: int, train: Arrays) -> nn.Module:
    try:
        network = build(hyper.arch, hyper.size, labels)
    except ValueError as error:
        raise InputError(f"{error}; choose another --size or --arch") from error
    some = to_pixels(train.pixels[:: max(1, len(train) // NORMALISED_ON)])
    normalisation(network).fit(some.mean(dim=(0, 2, 3)), some.std(dim=(0, 2, 3)))
    return network


def _test_metrics(
    scores: NDArray[np.float32], test: Arrays, labels: tuple[str, ...], names: Sequence[Path]
) -> dict[str, Any]:
    """Return the figures over all test pictures and, where they come from several folders, for each folder."""
    metrics = classification(scores, test.targets, labels)
    if len(names) > 1:
        parts = {}
        for source, folder in enumerate(names):
            inside = test.sources == source
            found = classification(scores[inside], test.targets[inside], labels)
            parts[short_name(folder)] = {key: found[key] for key in ("accuracy", "images", "macro_f1")}
        metrics["folders"] = parts
    return metrics


def _draw_grid(shown: Arrays, scores: NDArray[np.float32], labels: tuple[str, ...], seed: int, path: Path) -> None:
    chosen = np.random.default_rng(seed).permutation(len(shown))[:25]
    predicted = [labels[index] for index in scores[chosen].argmax(1)]
    true = [labels[index] for index in shown.targets[chosen]]
    draw_predictions(shown.pixels[chosen], predicted, true, scores[chosen].max(1).tolist(), path)
