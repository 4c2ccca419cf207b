"""Write the images of a benchmark into a folder, once. No two files have the same bytes."""

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from tagmill.files import atomic_write
from tagmill.machine import usable_cores

#: images drawn from noise; the other images of a set are these, turned, mirrored, shifted and brightened or darkened
DRAWN = 48
#: set -> pixels per side, and the formats that its files alternate between
SETS: dict[str, tuple[int, tuple[str, ...]]] = {
    "photos": (800, ("JPEG",)),
    "large": (1600, ("JPEG",)),
    "small": (32, ("JPEG",)),
    "mix": (800, ("JPEG", "PNG", "WEBP")),
}
SUFFIX = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp"}


def photo_like(side: int, seed: int) -> Image.Image:
    """Return an image of noise at all scales. It compresses about as well as a photo."""
    random = np.random.default_rng(seed)
    pixels = np.full((side, side, 3), 128.0)
    for cells in (4, 8, 16, 32, 64, 128, 256):
        noise = random.normal(0, 60 / cells**0.6, (cells, cells, 3))
        pixels += cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def write_set(name: str, folder: Path, count: int) -> list[Path]:
    """Return the paths of `count` images of a set below `folder`; write those that do not exist."""
    side, formats = SETS[name]
    directory = folder / name
    directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / f"{number:06d}{SUFFIX[formats[number % len(formats)]]}" for number in range(count)]
    missing = [number for number, path in enumerate(paths) if not path.exists()]
    groups: dict[int, list[int]] = {}
    for number in missing:
        groups.setdefault(number // len(formats) % DRAWN, []).append(number)
    if groups:
        with ProcessPoolExecutor(usable_cores()) as pool:
            list(pool.map(partial(_write, side=side, paths=paths), groups, groups.values()))
    return paths


def images_in(folder: Path) -> list[Path]:
    """Return the image files below a folder, sorted."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in {".jpg", ".jpeg", ".png", ".webp"})


def _write(seed: int, numbers: list[int], side: int, paths: list[Path]) -> None:
    drawn = np.asarray(photo_like(side, seed))
    for number in numbers:
        random = np.random.default_rng(number)
        turned = np.rot90(drawn, random.integers(4))[:, :: random.choice((-1, 1))]
        shifted = np.roll(turned, tuple(random.integers(side, size=2)), (0, 1))
        brighter = cv2.convertScaleAbs(shifted, alpha=random.uniform(0.8, 1.1))
        with atomic_write(paths[number]) as temporary:
            Image.fromarray(brighter).save(temporary, _format(paths[number]), quality=90)


def _format(path: Path) -> str:
    return next(name for name, suffix in SUFFIX.items() if suffix == path.suffix)
