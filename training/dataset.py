"""Find labelled pictures in folders and decode each once into one uint8 array. Needs no torch."""

import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tagmill.errors import ConfigurationError, InputError, NothingToDo
from tagmill.outcome import ErrorCode, ImageFailure
from tagmill.preprocess import Geometry, PreprocessSpec, content_box, decode, fit, source_box

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})
#: mask value of a pixel that counts neither in training nor in a metric
IGNORE = 255

Labels = tuple[str, ...]


@dataclass(frozen=True)
class Example:
    """One labelled picture. `target` is a category, or the path of a mask."""

    picture: Path
    target: str | Path
    #: position of the --data folder it came from
    source: int = 0


@dataclass(frozen=True)
class Unreadable:
    """A picture that was skipped, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Arrays:
    """Decoded examples. `pixels`: uint8 [N, H, W, 3]; `targets`: int64 [N] or uint8 [N, H, W]; `sources`: int64 [N]."""

    pixels: NDArray[np.uint8]
    targets: NDArray[Any]
    sources: NDArray[np.int64]
    examples: list[Example]
    unreadable: list[Unreadable]

    def __len__(self) -> int:
        return len(self.pixels)

    def part(self, chosen: NDArray[np.int64]) -> "Arrays":
        """Return the examples at these positions."""
        examples = [self.examples[index] for index in chosen]
        return Arrays(self.pixels[chosen], self.targets[chosen], self.sources[chosen], examples, [])


@dataclass(frozen=True)
class Folders:
    """Where the pictures are. Several folders of one use are merged."""

    data: tuple[Path, ...]
    validation: tuple[Path, ...] = ()
    test: tuple[Path, ...] = ()

    def to_dict(self) -> dict[str, list[str]]:
        """Return absolute paths, so that export finds them from anywhere."""
        uses = {"train": self.data, "validation": self.validation, "test": self.test}
        return {use: [str(folder.absolute()) for folder in folders] for use, folders in uses.items()}


def short_name(folder: Path) -> str:
    """Return the end of a path: what a reader of a bundle may know about the machine it was trained on."""
    return "/".join(folder.absolute().parts[-2:])


def categories(directory: Path, source: int = 0) -> dict[str, list[Example]]:
    """Return the pictures of each category: one folder each, which may be empty. A sample catalog's root works, too.

    Raises InputError for a missing directory, and NothingToDo where no picture is in it.
    """
    root = _existing(directory)
    if (root / "images").is_dir() and (root / "masks").is_dir():
        root = root / "images"
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise InputError(f"{directory}: holds no category; put the pictures of each category into a folder of its own")
    found = {folder.name: [Example(path, folder.name, source) for path in pictures_in(folder)] for folder in folders}
    if not any(found.values()):
        raise NothingToDo(f"{directory}: none of its {len(found)} folders holds a picture")
    return found


def masked_pictures(directory: Path, source: int = 0) -> list[Example]:
    """Return pictures below images/ that have a mask below masks/ of the same relative stem.

    Raises InputError where either folder is missing or holds no pair.
    """
    root = _existing(directory)
    for name in ("images", "masks"):
        if not (root / name).is_dir():
            raise InputError(f"{directory}: has no {name}/; a segmentation set is images/, masks/ and labels.json")
    examples = []
    for picture in pictures_in(root / "images"):
        mask = (root / "masks" / picture.relative_to(root / "images")).with_suffix(".png")
        if mask.is_file():
            examples.append(Example(picture, mask, source))
    if not examples:
        raise InputError(f"{directory}: no picture in images/ has a mask of the same name in masks/")
    return examples


def mask_labels(directory: Path) -> Labels:
    """Return labels.json: what each mask value means."""
    path = _existing(directory) / "labels.json"
    try:
        labels = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}; it must list the mask values' labels") from error
    except ValueError as error:
        raise InputError(f"{path}: is not JSON: {error}") from error
    if not isinstance(labels, list) or len(labels) < 2 or not all(isinstance(label, str) for label in labels):
        raise InputError(f"{path}: must be a JSON list of at least two labels")
    if len(labels) > IGNORE or len(set(labels)) != len(labels):
        raise InputError(f"{path}: labels must differ, and be at most {IGNORE}")
    return tuple(labels)


def pictures_in(folder: Path) -> list[Path]:
    """Return the picture files below a folder, sorted; hidden ones are passed over."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file())
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def read_picture(path: Path, spec: PreprocessSpec) -> NDArray[np.uint8]:
    """Return uint8 [H, W, 3]. Raises ImageFailure."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageFailure(ErrorCode.FETCH_FAILED, error.strerror or str(error)) from error
    return fit(decode(data, spec.decode_side).rgb, spec)


def read_mask(path: Path, spec: PreprocessSpec, translate: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return uint8 [H, W]: the stored indexes through `translate` (256 values), nearest pixel, borders ignored.

    Raises ImageFailure where the file is not a grey or palette picture of known indexes.
    """
    try:
        with Image.open(path) as image:
            if image.mode not in {"P", "L", "1"}:
                raise ImageFailure(ErrorCode.NOT_AN_IMAGE, f"{path.name}: mask is {image.mode}, not palette or grey")
            indexes = translate[np.asarray(image if image.mode != "1" else image.convert("L"))]
    except (OSError, ValueError, SyntaxError) as error:
        raise ImageFailure(ErrorCode.CORRUPT, f"{path.name}: {error}") from error
    stored = Image.fromarray(indexes)
    if spec.geometry is not Geometry.LETTERBOX:
        box = source_box(stored.width, stored.height, spec)
        return np.asarray(stored.resize((spec.width, spec.height), Image.Resampling.NEAREST, box=box))
    left, top, right, bottom = content_box(stored.width, stored.height, spec)
    canvas = np.full((spec.height, spec.width), IGNORE, dtype=np.uint8)
    canvas[top:bottom, left:right] = np.asarray(stored.resize((right - left, bottom - top), Image.Resampling.NEAREST))
    return canvas


def translation(found: Labels, wanted: Labels, where: Path) -> NDArray[np.uint8]:
    """Return what turns mask values of one labels.json into those of another; unknown values are ignored pixels."""
    if missing := [label for label in found if label not in wanted]:
        raise InputError(f"{where}: label {missing[0]!r} is not one of the model's: {', '.join(wanted)}")
    table = np.full(256, IGNORE, dtype=np.uint8)
    table[: len(found)] = [wanted.index(label) for label in found]
    return table


Step = Callable[[int], object]


def load_categories(
    examples: Sequence[Example], labels: Labels, spec: PreprocessSpec, step: Step = lambda done: None
) -> Arrays:
    """Decode every example on all cores; unreadable ones are left out and named. `step` is told how many are done."""
    numbers = {label: number for number, label in enumerate(labels)}
    pixels = _room((len(examples), spec.height, spec.width, 3))
    targets = np.array([numbers[str(example.target)] for example in examples], dtype=np.int64)
    return _load(examples, pixels, targets, lambda position: _read_one(examples, pixels, spec, position), step)


def load_masks(
    examples: Sequence[Example],
    tables: Sequence[NDArray[np.uint8]],
    spec: PreprocessSpec,
    step: Step = lambda done: None,
) -> Arrays:
    """Decode pictures and masks; `tables` translate the mask values of each source."""
    pixels = _room((len(examples), spec.height, spec.width, 3))
    targets = _room((len(examples), spec.height, spec.width))

    def read(position: int) -> None:
        example = examples[position]
        targets[position] = read_mask(Path(example.target), spec, tables[example.source])
        _read_one(examples, pixels, spec, position)

    return _load(examples, pixels, targets, read, step)


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


def split(groups: NDArray[np.int64], share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the positions to train on and those held out: `share` of each group, at least one of any two or more."""
    random = np.random.default_rng(seed)
    held: list[NDArray[np.int64]] = []
    for group in np.unique(groups):
        members = random.permutation(np.flatnonzero(groups == group))
        held.append(members[: max(1, round(len(members) * share)) if len(members) > 1 else 0])
    chosen = np.sort(np.concatenate(held))
    return np.setdiff1d(np.arange(len(groups)), chosen), chosen


def _existing(directory: Path) -> Path:
    if not directory.is_dir():
        raise InputError(f"{directory}: is not a folder; name the folder that holds the pictures")
    return directory


def _room(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    try:
        return np.empty(shape, dtype=np.uint8)
    except MemoryError as error:
        need = f"{math.prod(shape) / 2**30:.1f} GiB"
        raise ConfigurationError(
            f"{shape[0]} pictures of {shape[2]}x{shape[1]} pixels need {need} of memory; choose a smaller --size"
        ) from error


def _read_one(examples: Sequence[Example], pixels: NDArray[np.uint8], spec: PreprocessSpec, position: int) -> None:
    pixels[position] = read_picture(examples[position].picture, spec)


def _load(
    examples: Sequence[Example],
    pixels: NDArray[np.uint8],
    targets: NDArray[Any],
    read: Callable[[int], None],
    step: Step,
) -> Arrays:
    unreadable = []
    readable = np.ones(len(examples), dtype=bool)
    for position, failure in in_parallel(len(examples), read):
        if failure is not None:
            readable[position] = False
            unreadable.append(Unreadable(examples[position].picture, str(failure)))
        step(position + 1)
    if not readable.any():
        raise NothingToDo(f"none of {len(examples)} pictures could be read; the first: {unreadable[0].reason}")
    sources = np.array([example.source for example in examples], dtype=np.int64)
    kept = [example for example, good in zip(examples, readable, strict=True) if good]
    if readable.all():
        return Arrays(pixels, targets, sources, kept, unreadable)
    return Arrays(pixels[readable], targets[readable], sources[readable], kept, unreadable)
