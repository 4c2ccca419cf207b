"""Decode labeled images and masks, each file once, into uint8 arrays. Imports no torch."""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tagmill.errors import ConfigurationError, NothingToDo
from tagmill.images.decode import decode
from tagmill.images.image import DecodedImage
from tagmill.images.preprocess import Geometry, PreprocessSpec, content_box, fit, source_box
from tagmill.machine import usable_cores
from tagmill.outcomes import ErrorCode, ImageFailure
from tagmill.tasks.metrics import IGNORE
from training.annotations.types import Example, Labels, Target, Unreadable
from training.data.arrays import Arrays


def read_image(path: Path, spec: PreprocessSpec) -> NDArray[np.uint8]:
    """Return uint8 [H, W, 3]. Raise ImageFailure if the file is not a readable image."""
    return fit(decode(_bytes_of(path), spec.decode_side).rgb, spec)


def read_image_and_mask(
    example: Example, spec: PreprocessSpec, table: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return uint8 [H, W, 3] and the mask as `read_mask` does. Raise ImageFailure if one of them is not readable."""
    image = decode(_bytes_of(example.image), spec.decode_side)
    return fit(image.rgb, spec), read_mask(example.target, spec, table, (image.width, image.height))


def read_mask(mask: Target, spec: PreprocessSpec, table: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return a mask as uint8 [H, W] of label indexes, resized by nearest pixel; the borders of a letterbox are ignored.

    `table`, uint8 [256], gives the label index of each mask value. Raise ImageFailure if the file is not a gray or
    palette image, if its size is not the `size` (width, height) of its image, and if all of its pixels are ignored.
    """
    assert not isinstance(mask, str | tuple)
    stored = Image.fromarray(table[_read_mask_file(mask) if isinstance(mask, Path) else mask.draw()])
    if stored.size != size:
        raise ImageFailure(
            ErrorCode.CORRUPT, f"its mask has {stored.width}x{stored.height} pixels, the image {size[0]}x{size[1]}"
        )
    fitted = _resize(stored, spec)
    if (fitted == IGNORE).all():
        raise ImageFailure(ErrorCode.CORRUPT, "every pixel of its mask is ignored: none has the number of a label")
    return fitted


def _resize(stored: Image.Image, spec: PreprocessSpec) -> NDArray[np.uint8]:
    """Return a mask in the geometry that `tagmill.images.preprocess.fit` gives its image."""
    if spec.geometry is not Geometry.LETTERBOX:
        box = source_box(stored.width, stored.height, spec)
        return np.asarray(stored.resize((spec.width, spec.height), Image.Resampling.NEAREST, box=box))
    left, top, right, bottom = content_box(stored.width, stored.height, spec)
    canvas = np.full((spec.height, spec.width), IGNORE, dtype=np.uint8)
    canvas[top:bottom, left:right] = np.asarray(stored.resize((right - left, bottom - top), Image.Resampling.NEAREST))
    return canvas


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageFailure(ErrorCode.FETCH_FAILED, error.strerror or str(error)) from error


def _read_mask_file(path: Path) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as image:
            if image.mode not in {"P", "L", "1"}:
                raise ImageFailure(ErrorCode.NOT_AN_IMAGE, f"{path.name}: mask is {image.mode}, not palette or gray")
            return np.asarray(image).astype(np.uint8)
    except (OSError, ValueError, SyntaxError) as error:
        raise ImageFailure(ErrorCode.CORRUPT, f"{path.name}: {error}") from error


Step = Callable[[int], object]


def load_labeled(
    examples: Sequence[Example], labels: Labels, spec: PreprocessSpec, step: Step = lambda done: None
) -> Arrays:
    """Decode all examples on all cores; unreadable ones are left out and listed. `step` gets the number done."""
    return _load(examples, spec, label_targets(examples, labels), lambda position, image: None, step)


def label_targets(examples: Sequence[Example], labels: Labels) -> NDArray[Any]:
    """Return int64 [N] for examples of one label, uint8 [N, labels] of 0 and 1 for examples of any number."""
    numbers = {label: number for number, label in enumerate(labels)}
    if not any(isinstance(example.target, tuple) for example in examples):
        return np.array([numbers[str(example.target)] for example in examples], dtype=np.int64)
    targets = np.zeros((len(examples), len(labels)), dtype=np.uint8)
    for row, example in zip(targets, examples, strict=True):
        assert isinstance(example.target, tuple)
        row[[numbers[label] for label in example.target]] = 1
    return targets


def load_masked(
    examples: Sequence[Example],
    tables: Sequence[NDArray[np.uint8]],
    spec: PreprocessSpec,
    step: Step = lambda done: None,
) -> Arrays:
    """Decode images and masks on all cores; `tables` hold for each source the label index of each mask value."""
    targets = _allocate((len(examples), spec.height, spec.width))

    def read(position: int, image: DecodedImage) -> None:
        example = examples[position]
        size = image.width, image.height
        targets[position] = read_mask(example.target, spec, tables[example.source], size)

    return _load(examples, spec, targets, read, step)


def in_parallel(count: int, work: Callable[[int], None]) -> Iterator[tuple[int, ImageFailure | None]]:
    """Call `work` for 0..count-1 on all cores; yield each number with its failure or None, in order."""

    def attempt(position: int) -> ImageFailure | None:
        try:
            work(position)
        except ImageFailure as failure:
            return failure
        return None

    with ThreadPoolExecutor(usable_cores()) as pool:
        try:
            yield from enumerate(pool.map(attempt, range(count)))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _allocate(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return an uninitialized array [N, H, W, ...]. Raise ConfigurationError if there is not enough memory."""
    try:
        return np.empty(shape, dtype=np.uint8)
    except MemoryError as error:
        need = f"{math.prod(shape) / 2**30:.1f} GiB"
        raise ConfigurationError(
            f"{shape[0]} images of {shape[2]}x{shape[1]} pixels need {need} of memory; choose a smaller --size"
        ) from error


def _load(
    examples: Sequence[Example],
    spec: PreprocessSpec,
    targets: NDArray[Any],
    read_target: Callable[[int, DecodedImage], None],
    step: Step,
) -> Arrays:
    """Read the bytes of each image once, for its pixels and its digest."""
    pixels = _allocate((len(examples), spec.height, spec.width, 3))
    digests = [b""] * len(examples)

    def read(position: int) -> None:
        data = _bytes_of(examples[position].image)
        image = decode(data, spec.decode_side)
        read_target(position, image)
        fit(image.rgb, spec, out=pixels[position])
        digests[position] = hashlib.sha256(data).digest()

    unreadable = []
    readable = np.ones(len(examples), dtype=bool)
    for position, failure in in_parallel(len(examples), read):
        if failure is not None:
            readable[position] = False
            unreadable.append(Unreadable(examples[position].image, str(failure)))
        step(position + 1)
    if not readable.any():
        raise NothingToDo(f"none of {len(examples)} images could be read; the first: {unreadable[0].reason}")
    sources = np.array([example.source for example in examples], dtype=np.int64)
    loaded = Arrays(pixels, targets, sources, list(examples), [], digests)
    return replace(loaded if readable.all() else loaded.select(np.flatnonzero(readable)), unreadable=unreadable)
