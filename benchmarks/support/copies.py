"""Copies of photos as shops meet them: smaller, recompressed, cropped by 5 %, mirrored."""

import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

#: quality of JPEG for every copy but the recompressed one
_FINE, _COARSE = 88, 30


def _smaller(image: Image.Image) -> Image.Image:
    return image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC)


def _cropped(image: Image.Image) -> Image.Image:
    """Cut 5 % of the width and of the height away, half of it on each side."""
    x, y = round(image.width * 0.025), round(image.height * 0.025)
    return image.crop((x, y, image.width - x, image.height - y))


#: name -> (what is done, quality of the JPEG)
COPIES: dict[str, tuple[Callable[[Image.Image], Image.Image], int]] = {
    "resized": (_smaller, _FINE),
    "recompressed": (lambda image: image, _COARSE),
    "cropped": (_cropped, _FINE),
    "mirrored": (ImageOps.mirror, _FINE),
}


def write_copies(photos: Sequence[Path], folder: Path) -> Iterator[tuple[int, str, Path]]:
    """Write four copies of each photo as JPEG; yield the number of the photo, the kind of copy and its path."""
    for number, photo in enumerate(photos):
        with Image.open(photo) as opened:
            image = ImageOps.exif_transpose(opened).convert("RGB")
        for kind, (change, quality) in COPIES.items():
            path = folder / f"{number:05d}-{kind}.jpg"
            file = io.BytesIO()
            change(image).save(file, "JPEG", quality=quality)
            path.write_bytes(file.getvalue())
            yield number, kind, path


def shuffled(folders: Sequence[Path], seed: int) -> list[Path]:
    """Return the JPEG files below folders in an order that the seed decides."""
    found = sorted(path for folder in folders for path in folder.rglob("*.jpg"))
    return [found[place] for place in np.random.default_rng(seed).permutation(len(found))]
