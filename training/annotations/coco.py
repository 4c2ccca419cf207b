"""Read labeled images and masks from COCO JSON: images, annotations, categories (cocodataset.org, Data format)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tagmill.errors import InputError, NothingToDo
from tagmill.images.image import DecodeLimits
from tagmill.tasks.metrics import IGNORE
from tagmill.tasks.segment import BACKGROUND
from tagmill.text import normalize, trim
from training.annotations.coco_shapes import Shape, ShapeMask, parse_shape
from training.annotations.image_files import ImageFinder, LabeledImage, LabeledImages, merge_labels, require_any_file
from training.annotations.json_fields import LeftOut, field
from training.annotations.types import Example, Labels


@dataclass(frozen=True)
class CocoFile:
    """The content of a COCO file. Every image and category id that an annotation names exists.

    Wrong entries are left out. So is an image that a wrong annotation belongs to: its labels would be incomplete.
    """

    path: Path
    #: image files by image id
    files: dict[int, Path]
    #: entries of `images` by image id
    images: dict[int, dict[str, Any]]
    #: names by category id
    categories: dict[int, str]
    #: each with its place, for error messages
    annotations: list[tuple[str, dict[str, Any]]]
    left_out: LeftOut

    @classmethod
    def parse(cls, path: Path, content: dict[str, Any]) -> "CocoFile":
        """Check the content of a file. Raise InputError with the place of the first wrong entry if none is right."""
        left_out = LeftOut(path, "entries")
        images, files = _images(path, content, left_out)
        categories = _categories(path, content, left_out)
        annotations, dropped = [], set()
        entries = field(content, "annotations", list, str(path))
        for number, entry in enumerate(entries):
            place = f"{path}: annotation {entry.get('id', number) if isinstance(entry, dict) else number}"
            try:
                for name, known in (("image_id", images), ("category_id", categories)):
                    if (value := field(entry, name, int, place)) not in known:
                        raise InputError(f"{place}: there is no {name.removesuffix('_id')} {value}")
                annotations.append((place, entry))
            except InputError as error:
                left_out.add(error)
                dropped.add(str(entry.get("image_id")) if isinstance(entry, dict) else "")
        if entries and not annotations:
            left_out.raise_first()
        images = {key: image for key, image in images.items() if str(key) not in dropped}
        if not images:
            left_out.raise_first()
            raise NothingToDo(f"{path}: holds no image")
        kept = [(place, entry) for place, entry in annotations if entry["image_id"] in images]
        return cls(path, {key: files[key] for key in images}, images, categories, kept, left_out)

    def labeled_images(self) -> LabeledImages:
        """Return each image with the categories of its annotations."""
        entries = [LabeledImage(file, (), f"{self.path}: image {key}") for key, file in self.files.items()]
        for _, entry in self.annotations:
            label = self.categories[entry["category_id"]]
            key = entry["image_id"]
            entries.append(LabeledImage(self.files[key], (label,), f"{self.path}: image {key}"))
        return LabeledImages(merge_labels(entries, self.path), notes=self.left_out.notes())

    def mask_labels(self) -> Labels:
        """Return the label of each mask value: background, then the categories in the order of their ids.

        Raise InputError if two categories share a name, or if a mask cannot hold that many.
        """
        names = [self.categories[key] for key in sorted(self.categories)]
        if len(set(names)) != len(names):
            raise InputError(f"{self.path}: two categories have the same name")
        labels = (BACKGROUND, *(name for name in names if name != BACKGROUND))
        if not 2 <= len(labels) <= IGNORE:
            raise InputError(f"{self.path}: has {len(labels) - 1} categories; masks hold 1 to {IGNORE - 1}")
        return labels

    def examples(self, source: int) -> list[Example]:
        """Return each image with the mask of its annotations.

        Raise InputError if no image has a size, or if no annotation has a shape that fits.
        """
        numbers = {name: number for number, name in enumerate(self.mask_labels())}
        sizes = _sizes(self.path, self.images, self.left_out)
        shapes: dict[int, list[tuple[int, Shape]]] = {key: [] for key in sizes}
        drawn = 0
        for place, entry in self.annotations:
            if (key := entry["image_id"]) not in shapes:
                continue
            try:
                shape = parse_shape(entry.get("segmentation"), *sizes[key], place)
                shapes[key].append((numbers[self.categories[entry["category_id"]]], shape))
                drawn += 1
            except InputError as error:
                self.left_out.add(error)
                del shapes[key]
        if self.annotations and not drawn:
            self.left_out.raise_first()
        require_any_file([self.files[key] for key in shapes], self.path)
        return [Example(self.files[key], ShapeMask(*sizes[key], tuple(found)), source) for key, found in shapes.items()]


def _images(
    path: Path, content: dict[str, Any], left_out: LeftOut
) -> tuple[dict[int, dict[str, Any]], dict[int, Path]]:
    """Return the entries of `images` and their files, by id.

    The files are beside the JSON, in images/ there, or, as in COCO itself, beside annotations/.
    """
    beside = path.parent
    folders = [beside, beside / "images", beside.parent, beside.parent / "images"]
    folders.append(beside.parent / path.stem.rpartition("_")[2])  # annotations/instances_val2017.json and val2017/
    finder = ImageFinder(folders)
    images, files = {}, {}
    for key, entry in _by_id(path, content, "images", left_out).items():
        place = f"{path}: image {key}"
        try:
            name = trim(field(entry, "file_name", str, place))
            files[key] = finder.locate([name, unquote(name)], place)
            images[key] = entry
        except InputError as error:
            left_out.add(error)
    return images, files


def _categories(path: Path, content: dict[str, Any], left_out: LeftOut) -> dict[int, str]:
    """Return the names of the categories by id."""
    names = {}
    for key, entry in _by_id(path, content, "categories", left_out).items():
        place = f"{path}: category {key}"
        try:
            if not (name := normalize(field(entry, "name", str, place))):
                raise InputError(f"{place}: its name is empty")
            names[key] = name
        except InputError as error:
            left_out.add(error)
    if not names:
        left_out.raise_first()
    return names


def _sizes(path: Path, images: dict[int, dict[str, Any]], left_out: LeftOut) -> dict[int, tuple[int, int]]:
    """Return the sizes of the images by id. Raise InputError if none has a size."""
    sizes = {}
    for key, image in images.items():
        try:
            sizes[key] = _size(path, key, image)
        except InputError as error:
            left_out.add(error)
    if not sizes:
        left_out.raise_first()
    return sizes


def _by_id(path: Path, content: dict[str, Any], name: str, left_out: LeftOut) -> dict[int, dict[str, Any]]:
    """Return the entries of a list by their `id`. Raise InputError if two have the same: either may be meant."""
    entries: dict[int, dict[str, Any]] = {}
    for number, entry in enumerate(field(content, name, list, str(path))):
        try:
            key = field(entry, "id", int, f"{path}: {name}[{number}]")
        except InputError as error:
            left_out.add(error)
            continue
        if key in entries:
            raise InputError(f"{path}: {name}[{number}]: id {key} stands there twice")
        entries[key] = entry
    return entries


def _size(path: Path, key: int, image: dict[str, Any]) -> tuple[int, int]:
    """Return height and width in pixels. Raise InputError if no image can have that size."""
    place = f"{path}: image {key}"
    height, width = field(image, "height", int, place), field(image, "width", int, place)
    if height < 1 or width < 1 or height * width > DecodeLimits().max_pixels:
        raise InputError(f"{place}: cannot be {width}x{height} pixels")
    return height, width
