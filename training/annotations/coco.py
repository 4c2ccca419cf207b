"""Labeled images and masks as COCO JSON: images, annotations, categories (cocodataset.org, Data format)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tagmill.errors import InputError, NothingToDo
from tagmill.images.image import DecodeLimits
from tagmill.tasks.figures import IGNORE
from training.annotations.coco_shapes import Shape, ShapeMask, shape_of
from training.annotations.image_files import Found, Tagged, check_present, locate, merged
from training.annotations.json_fields import field
from training.annotations.types import Example, Labels

#: mask label of what no annotation covers
BACKGROUND = "background"


@dataclass(frozen=True)
class CocoFile:
    """A COCO file, checked: every number it names exists."""

    path: Path
    #: by image id
    pictures: dict[int, Path]
    images: dict[int, dict[str, Any]]
    #: names by category id
    categories: dict[int, str]
    #: with the place of each
    annotations: list[tuple[str, dict[str, Any]]]

    @classmethod
    def check(cls, path: Path, content: dict[str, Any]) -> "CocoFile":
        """Raise InputError with the place of what is missing or names what does not exist."""
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
        return cls(path, _pictures(path, images), images, categories, annotations)

    def found(self) -> Found:
        """Return each image with the categories annotated in it."""
        tagged = [Tagged(picture, (), f"{self.path}: image {key}") for key, picture in self.pictures.items()]
        for _, entry in self.annotations:
            label = self.categories[entry["category_id"]]
            key = entry["image_id"]
            tagged.append(Tagged(self.pictures[key], (label,), f"{self.path}: image {key}"))
        return Found(merged(tagged, self.path))

    def mask_labels(self) -> Labels:
        """Return background and the categories in the order of their numbers: what the values of a mask mean."""
        names = [self.categories[key] for key in sorted(self.categories)]
        if len(set(names)) != len(names):
            raise InputError(f"{self.path}: two categories have the same name")
        labels = (BACKGROUND, *(name for name in names if name != BACKGROUND))
        if not 2 <= len(labels) <= IGNORE:
            raise InputError(f"{self.path}: has {len(labels) - 1} categories; masks hold 1 to {IGNORE - 1}")
        return labels

    def examples(self, source: int) -> list[Example]:
        """Return each image with the mask of its annotations. Raises InputError for one without a shape."""
        numbers = {name: number for number, name in enumerate(self.mask_labels())}
        sizes = {key: _size(self.path, key, image) for key, image in self.images.items()}
        shapes: dict[int, list[tuple[int, Shape]]] = {key: [] for key in self.images}
        for place, entry in self.annotations:
            shape = shape_of(entry.get("segmentation"), *sizes[entry["image_id"]], place)
            shapes[entry["image_id"]].append((numbers[self.categories[entry["category_id"]]], shape))
        check_present(list(self.pictures.values()), self.path)
        return [
            Example(self.pictures[key], ShapeMask(*size, tuple(shapes[key])), source) for key, size in sizes.items()
        ]


def _by_id(path: Path, content: dict[str, Any], name: str) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    for number, entry in enumerate(field(content, name, list, str(path))):
        key = field(entry, "id", int, f"{path}: {name}[{number}]")
        if key in found:
            raise InputError(f"{path}: {name}[{number}]: id {key} stands there twice")
        found[key] = entry
    return found


def _pictures(path: Path, images: dict[int, dict[str, Any]]) -> dict[int, Path]:
    """Return the image files: beside the JSON, in images/ there, or, as COCO's own, beside annotations/."""
    beside = path.parent
    folders = [beside, beside / "images", beside.parent, beside.parent / "images"]
    folders.append(beside.parent / path.stem.rpartition("_")[2])  # annotations/instances_val2017.json and val2017/
    places = {key: f"{path}: image {key}" for key in images}
    return {
        key: locate([field(entry, "file_name", str, places[key])], folders, places[key])
        for key, entry in images.items()
    }


def _size(path: Path, key: int, image: dict[str, Any]) -> tuple[int, int]:
    place = f"{path}: image {key}"
    height, width = field(image, "height", int, place), field(image, "width", int, place)
    if height < 1 or width < 1 or height * width > DecodeLimits().max_pixels:
        raise InputError(f"{place}: cannot be {width}x{height} pixels")
    return height, width
