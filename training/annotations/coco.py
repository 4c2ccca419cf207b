"""Read labeled images and masks from COCO JSON: images, annotations, categories (cocodataset.org, Data format)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tagmill.errors import InputError, NothingToDo
from tagmill.images.image import DecodeLimits
from tagmill.tasks.metrics import IGNORE
from tagmill.tasks.segment import BACKGROUND
from training.annotations.coco_shapes import Shape, ShapeMask, parse_shape
from training.annotations.image_files import LabeledImage, LabeledImages, locate, merge_labels, require_any_file
from training.annotations.json_fields import field
from training.annotations.types import Example, Labels


@dataclass(frozen=True)
class CocoFile:
    """The content of a COCO file. Every image and category id that an annotation names exists."""

    path: Path
    #: image files by image id
    files: dict[int, Path]
    #: entries of `images` by image id
    images: dict[int, dict[str, Any]]
    #: names by category id
    categories: dict[int, str]
    #: each with its place, for error messages
    annotations: list[tuple[str, dict[str, Any]]]

    @classmethod
    def parse(cls, path: Path, content: dict[str, Any]) -> "CocoFile":
        """Check the content of a file. Raise InputError with the place of a missing field or an unknown id."""
        images = _by_id(path, content, "images")
        named = _by_id(path, content, "categories")
        categories = {key: field(entry, "name", str, f"{path}: category {key}") for key, entry in named.items()}
        annotations = []
        for number, entry in enumerate(field(content, "annotations", list, str(path))):
            place = f"{path}: annotation {entry.get('id', number) if isinstance(entry, dict) else number}"
            for name, known in (("image_id", images), ("category_id", categories)):
                if (value := field(entry, name, int, place)) not in known:
                    raise InputError(f"{place}: there is no {name.removesuffix('_id')} {value}")
            annotations.append((place, entry))
        if not images:
            raise NothingToDo(f"{path}: holds no image")
        return cls(path, _image_files(path, images), images, categories, annotations)

    def labeled_images(self) -> LabeledImages:
        """Return each image with the categories of its annotations."""
        entries = [LabeledImage(file, (), f"{self.path}: image {key}") for key, file in self.files.items()]
        for _, entry in self.annotations:
            label = self.categories[entry["category_id"]]
            key = entry["image_id"]
            entries.append(LabeledImage(self.files[key], (label,), f"{self.path}: image {key}"))
        return LabeledImages(merge_labels(entries, self.path))

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
        """Return each image with the mask of its annotations. Raise InputError for an annotation without a shape."""
        numbers = {name: number for number, name in enumerate(self.mask_labels())}
        sizes = {key: _size(self.path, key, image) for key, image in self.images.items()}
        shapes: dict[int, list[tuple[int, Shape]]] = {key: [] for key in self.images}
        for place, entry in self.annotations:
            shape = parse_shape(entry.get("segmentation"), *sizes[entry["image_id"]], place)
            shapes[entry["image_id"]].append((numbers[self.categories[entry["category_id"]]], shape))
        require_any_file(list(self.files.values()), self.path)
        return [Example(self.files[key], ShapeMask(*size, tuple(shapes[key])), source) for key, size in sizes.items()]


def _by_id(path: Path, content: dict[str, Any], name: str) -> dict[int, dict[str, Any]]:
    """Return the entries of a list by their `id`. Raise InputError if two have the same."""
    entries: dict[int, dict[str, Any]] = {}
    for number, entry in enumerate(field(content, name, list, str(path))):
        key = field(entry, "id", int, f"{path}: {name}[{number}]")
        if key in entries:
            raise InputError(f"{path}: {name}[{number}]: id {key} stands there twice")
        entries[key] = entry
    return entries


def _image_files(path: Path, images: dict[int, dict[str, Any]]) -> dict[int, Path]:
    """Return the image files: beside the JSON, in images/ there, or, as in COCO itself, beside annotations/."""
    beside = path.parent
    folders = [beside, beside / "images", beside.parent, beside.parent / "images"]
    folders.append(beside.parent / path.stem.rpartition("_")[2])  # annotations/instances_val2017.json and val2017/
    places = {key: f"{path}: image {key}" for key in images}
    return {
        key: locate([field(entry, "file_name", str, places[key])], folders, places[key])
        for key, entry in images.items()
    }


def _size(path: Path, key: int, image: dict[str, Any]) -> tuple[int, int]:
    """Return height and width in pixels. Raise InputError if no image can have that size."""
    place = f"{path}: image {key}"
    height, width = field(image, "height", int, place), field(image, "width", int, place)
    if height < 1 or width < 1 or height * width > DecodeLimits().max_pixels:
        raise InputError(f"{place}: cannot be {width}x{height} pixels")
    return height, width
