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

#: pixels; those of CIFAR-10
SIDE = 32


@dataclass(frozen=True)
class Catalog:
    """A manifest over images."""

    manifest: Path
    #: folder that holds the images which are not beside the manifest
    root: Path
    pictures: tuple[Path, ...]


def drawn_catalog(folder: Path, images: int, seed: int) -> Catalog:
    """Draw images that are all different."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    paths = [folder / f"{number:06d}.jpg" for number in range(images)]
    for path in paths:
        patches = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        patches.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(path, quality=90)
    return _catalog(folder / "manifest.csv", folder, paths)


def chosen_catalog(folder: Path, images: int, seed: int, pictures: Path) -> Catalog:
    """Take so many of the JPEG images below `pictures`, in an order drawn by `seed`."""
    root = pictures.resolve()
    found = sorted(itertools.chain(root.rglob("*.jpg"), root.rglob("*.jpeg")))
    if len(found) < images:
        raise SystemExit(f"{pictures}: {len(found)} JPEG images, {images} are needed; name another folder")
    folder.mkdir(parents=True)
    return _catalog(folder / "manifest.csv", root, random.Random(seed).sample(found, images))


def poisoned(catalog: Catalog, seed: int) -> Catalog:
    """Return the same catalog with one image, at a place drawn by `seed`, that kills every process which reads it."""
    pictures = list(catalog.pictures)
    place = random.Random(seed).randrange(len(pictures))
    bad = catalog.manifest.with_name("poison.jpg")
    bad.write_bytes(pictures[place].read_bytes() + KILLS)
    pictures[place] = bad
    return _catalog(catalog.manifest.with_name("poisoned.csv"), catalog.root, pictures)


def _catalog(manifest: Path, root: Path, pictures: Sequence[Path]) -> Catalog:
    with manifest.open("w", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["image_key", "uri"])
        rows.writerows([f"item-{place:06d}", path] for place, path in enumerate(pictures))
    return Catalog(manifest, root, tuple(pictures))
