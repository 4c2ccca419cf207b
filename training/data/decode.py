"""Decode labeled images and masks, each once, into one uint8 array. Needs no torch."""

import hashlib
import math
import os
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
from tagmill.outcomes import ErrorCode, ImageFailure
from tagmill.tasks.figures import IGNORE
from training.annotations.types import Example, Labels, Target, Unreadable
from training.data.arrays import Arrays


def read_picture(path: Path, spec: PreprocessSpec) -> NDArray[np.uint8]:
    """Return uint8 [H, W, 3]. Raises ImageFailure."""
    return fit(decode(_bytes_of(path), spec.decode_side).rgb, spec)


def read_with_mask(
    example: Example, spec: PreprocessSpec, translate: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return uint8 [H, W, 3] and the mask as `read_mask` does. Raises ImageFailure."""
    picture = decode(_bytes_of(example.picture), spec.decode_side)
    return fit(picture.rgb, spec), read_mask(example.target, spec, translate, (picture.width, picture.height))


def read_mask(
    mask: Target, spec: PreprocessSpec, translate: NDArray[np.uint8], size: tuple[int, int]
) -> NDArray[np.uint8]:
    """Return uint8 [H, W]: the label indexes through `translate` (256 values), nearest pixel, borders ignored.

    Raises ImageFailure where a file is not a gray or palette image, where the mask is not of its picture's `size`
    (width, height), and where all of its pixels are ignored.
    """
    assert not isinstance(mask, str | tuple)
    stored = Image.fromarray(translate[_stored_mask(mask) if isinstance(mask, Path) else mask.draw()])
    if stored.size != size:
        raise ImageFailure(
            ErrorCode.CORRUPT, f"its mask has {stored.width}x{stored.height} pixels, the image {size[0]}x{size[1]}"
        )
    fitted = _fitted(stored, spec)
    if (fitted == IGNORE).all():
        raise ImageFailure(ErrorCode.CORRUPT, "every pixel of its mask is ignored: none has the number of a label")
    return fitted


def _fitted(stored: Image.Image, spec: PreprocessSpec) -> NDArray[np.uint8]:
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


def _stored_mask(path: Path) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as image:
            if image.mode not in {"P", "L", "1"}:
                raise ImageFailure(ErrorCode.NOT_AN_IMAGE, f"{path.name}: mask is {image.mode}, not palette or gray")
            return np.asarray(image).astype(np.uint8)
    except (OSError, ValueError, SyntaxError) as error:
        raise ImageFailure(ErrorCode.CORRUPT, f"{path.name}: {error}") from error


Step = Callable[[int], object]


def load_categories(
    examples: Sequence[Example], labels: Labels, spec: PreprocessSpec, step: Step = lambda done: None
) -> Arrays:
    """Decode every example on all cores; unreadable ones are left out and named. `step` is told how many are done."""
    return _load(examples, spec, category_targets(examples, labels), lambda position, picture: None, step)


def category_targets(examples: Sequence[Example], labels: Labels) -> NDArray[Any]:
    """Return int64 [N] for examples of one label, uint8 [N, labels] of 0 and 1 for those of any number."""
    numbers = {label: number for number, label in enumerate(labels)}
    if not any(isinstance(example.target, tuple) for example in examples):
        return np.array([numbers[str(example.target)] for example in examples], dtype=np.int64)
    targets = np.zeros((len(examples), len(labels)), dtype=np.uint8)
    for row, example in zip(targets, examples, strict=True):
        assert isinstance(example.target, tuple)
        row[[numbers[label] for label in example.target]] = 1
    return targets


def load_masks(
    examples: Sequence[Example],
    tables: Sequence[NDArray[np.uint8]],
    spec: PreprocessSpec,
    step: Step = lambda done: None,
) -> Arrays:
    """Decode images and masks; `tables` translate the mask values of each source."""
    targets = _room((len(examples), spec.height, spec.width))

    def read(position: int, picture: DecodedImage) -> None:
        example = examples[position]
        size = picture.width, picture.height
        targets[position] = read_mask(example.target, spec, tables[example.source], size)

    return _load(examples, spec, targets, read, step)


def in_parallel(count: int, work: Callable[[int], None]) -> Iterator[tuple[int, ImageFailure | None]]:
    """Call `work` for 0..count-1 on all cores; give, in order, what failed."""

    def attempt(position: int) -> ImageFailure | None:
        try:
            work(position)
        except ImageFailure as failure:
            return failure
        return None

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        try:
            yield from enumerate(pool.map(attempt, range(count)))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _room(shape: tuple[int, ...]) -> NDArray[np.uint8]:
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
    """Read each picture's bytes once, for its pixels and its digest."""
    pixels = _room((len(examples), spec.height, spec.width, 3))
    digests = [b""] * len(examples)

    def read(position: int) -> None:
        data = _bytes_of(examples[position].picture)
        picture = decode(data, spec.decode_side)
        read_target(position, picture)
        fit(picture.rgb, spec, out=pixels[position])
        digests[position] = hashlib.sha256(data).digest()

    unreadable = []
    readable = np.ones(len(examples), dtype=bool)
    for position, failure in in_parallel(len(examples), read):
        if failure is not None:
            readable[position] = False
            unreadable.append(Unreadable(examples[position].picture, str(failure)))
        step(position + 1)
    if not readable.any():
        raise NothingToDo(f"none of {len(examples)} images could be read; the first: {unreadable[0].reason}")
    sources = np.array([example.source for example in examples], dtype=np.int64)
    loaded = Arrays(pixels, targets, sources, list(examples), [], digests)
    return replace(loaded if readable.all() else loaded.part(np.flatnonzero(readable)), unreadable=unreadable)
