"""Read images and masks from folders: images/, masks/ and labels.json, and groups.json to merge labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tagmill.errors import InputError
from tagmill.images.file_names import SkippedFiles
from tagmill.locations.disk_spelling import DiskSpelling
from tagmill.tasks.masks import safe_name
from tagmill.tasks.metrics import IGNORE
from tagmill.text import normalize
from training.annotations.image_files import images_in
from training.annotations.json_fields import read_json
from training.annotations.types import Example, Labels


@dataclass(frozen=True)
class MaskedImages:
    """The images of one source with their masks, and the meaning of the mask values."""

    place: Path
    examples: list[Example]
    #: the label of each mask value
    stored: Labels
    #: the labels of a model: the groups of groups.json, else the stored labels
    labels: Labels
    #: for each mask value, its index in `labels`
    merged: tuple[int, ...]
    #: messages for the user about what was left out
    notes: tuple[str, ...] = ()

    def table(self, wanted: Labels) -> NDArray[np.uint8]:
        """Return the table from mask values to indexes in `wanted`, uint8 [256]; other values are ignored pixels.

        Groups are not used if `wanted` holds all stored labels. Raise InputError for a label that is not in `wanted`.
        """
        if set(self.stored) <= set(wanted):
            return translation_table(self.stored, wanted, self.place)
        return translation_table([self.labels[group] for group in self.merged], wanted, self.place)


def read_mask_folders(directory: Path, source: int = 0) -> MaskedImages:
    """Return the images below images/ that have a mask of the same relative path and stem below masks/.

    Raise InputError if a folder or labels.json is missing or wrong.
    """
    examples, notes = _pairs(directory, source)
    # `tagmill results --masks` writes labels.json beside the masks.
    folders = (directory, directory / "masks", directory.parent)
    label_folder = next((folder for folder in folders if (folder / "labels.json").is_file()), None)
    if label_folder is None:
        raise InputError(f"{directory / 'labels.json'}: is missing; it must list the mask values' labels")
    stored = _stored_labels(label_folder / "labels.json")
    groups = label_folder / "groups.json"
    if not groups.is_file():
        return MaskedImages(directory, examples, stored, stored, tuple(range(len(stored))), notes)
    labels, merged = _groups(groups, stored)
    return MaskedImages(directory, examples, stored, labels, merged, notes)


def translation_table(stored: Sequence[str], wanted: Labels, place: Path) -> NDArray[np.uint8]:
    """Return the table from indexes in `stored` to indexes in `wanted`, uint8 [256]; other values are ignored pixels.

    Raise InputError for a label that is not in `wanted`.
    """
    if missing := [label for label in stored if label not in wanted]:
        raise InputError(f"{place}: label {missing[0]!r} is not one of the model's: {', '.join(wanted)}")
    table = np.full(256, IGNORE, dtype=np.uint8)
    table[: len(stored)] = [wanted.index(label) for label in stored]
    return table


def _pairs(directory: Path, source: int) -> tuple[list[Example], tuple[str, ...]]:
    """Return the images that have a mask, and notes that count the others and what else is in the folder."""
    for name in ("images", "masks"):
        if not (directory / name).is_dir():
            raise InputError(f"{directory}: has no {name}/; a segmentation set is images/, masks/ and labels.json")
    skipped, spelling = SkippedFiles(), DiskSpelling()
    examples, images = [], images_in(directory / "images", skipped)
    for image in images:
        below = image.relative_to(directory / "images")
        # The second and third are the names that `tagmill results --masks` gives.
        keys = [safe_name(normalize(str(below)), ignores_case=ignores) for ignores in (False, True)]
        names = (below.with_suffix(".png"), *keys)
        candidates = [Path(spelling.find(str(directory / "masks" / name))) for name in names]
        if mask := next((path for path in candidates if path.is_file()), None):
            examples.append(Example(image, mask, source))
    if not examples:
        raise InputError(f"{directory}: no image in images/ has a mask of the same name in masks/")
    unmasked = len(images) - len(examples)
    notes = [f"{directory}: {unmasked} images without a mask are left out"] if unmasked else []
    return examples, (*notes, *(f"{directory}: {line}" for line in skipped.lines()))


def _stored_labels(path: Path) -> Labels:
    labels = read_json(path)
    if not isinstance(labels, list) or len(labels) < 2 or not all(isinstance(label, str) for label in labels):
        raise InputError(f"{path}: must be a JSON list of at least two labels")
    labels = tuple(map(normalize, labels))
    if len(labels) > IGNORE or len(set(labels)) != len(labels):
        raise InputError(f"{path}: labels must differ, and be at most {IGNORE}")
    return labels


def _groups(path: Path, stored: Labels) -> tuple[Labels, tuple[int, ...]]:
    """Return the names of the groups in file order, and for each stored label the index of its group.

    Raise InputError unless every stored label is in exactly one group.
    """
    groups = read_json(path)
    if (
        not isinstance(groups, dict)
        or len(groups) < 2
        or not all(_is_label_list(members) for members in groups.values())
    ):
        raise InputError(f"{path}: must be a JSON object of at least two groups, each a list of labels")
    names = tuple(map(normalize, groups))
    if len(set(names)) != len(names):
        raise InputError(f"{path}: groups must differ")
    group_of: dict[str, int] = {}
    for number, (group, members) in enumerate(groups.items()):
        for label in map(normalize, members):
            if label not in stored:
                raise InputError(f"{path}: {label!r} in group {group!r} is not a label of labels.json")
            if label in group_of:
                raise InputError(f"{path}: {label!r} stands in two groups")
            group_of[label] = number
    if missing := [label for label in stored if label not in group_of]:
        raise InputError(f"{path}: {missing[0]!r} is in no group; every label of labels.json belongs to one")
    return names, tuple(group_of[label] for label in stored)


def _is_label_list(members: object) -> bool:
    return isinstance(members, list) and bool(members) and all(isinstance(member, str) for member in members)
