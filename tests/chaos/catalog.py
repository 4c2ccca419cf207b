"""The catalog of a chaos run: many small JPEG images, drawn or from a folder, and one that kills its worker."""

import csv
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from support.faults.sitecustomize import KILLS

#: pixels, as in CIFAR-10
SIDE = 32


@dataclass(frozen=True)
class Catalog:
    """A manifest over images."""

    manifest: Path
    #: folder of the images, which may be outside the folder of the manifest
    root: Path
    images: tuple[Path, ...]


def draw_catalog(folder: Path, images: int, seed: int) -> Catalog:
    """Draw that many different images."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    paths = [folder / f"{number:06d}.jpg" for number in range(images)]
    for path in paths:
        patches = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        patches.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(path, quality=90)
    return _catalog(folder / "manifest.csv", folder, paths)


def sample_catalog(folder: Path, images: int, seed: int, image_folder: Path) -> Catalog:
    """Take that many of the JPEG images below `image_folder`, in an order drawn with `seed`."""
    root = image_folder.resolve()
    found = sorted(itertools.chain(root.rglob("*.jpg"), root.rglob("*.jpeg")))
    if len(found) < images:
        raise SystemExit(f"{image_folder}: {len(found)} JPEG images, {images} are needed; name another folder")
    folder.mkdir(parents=True)
    return _catalog(folder / "manifest.csv", root, random.Random(seed).sample(found, images))


def add_poison_image(catalog: Catalog, seed: int) -> Catalog:
    """Replace one image, drawn with `seed`, by one that kills every process that reads it."""
    images = list(catalog.images)
    place = random.Random(seed).randrange(len(images))
    bad = catalog.manifest.with_name("poison.jpg")
    bad.write_bytes(images[place].read_bytes() + KILLS)
    images[place] = bad
    return _catalog(catalog.manifest.with_name("poisoned.csv"), catalog.root, images)


def _catalog(manifest: Path, root: Path, images: Sequence[Path]) -> Catalog:
    with manifest.open("w", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["image_key", "uri"])
        rows.writerows([f"item-{place:06d}", path] for place, path in enumerate(images))
    return Catalog(manifest, root, tuple(images))
