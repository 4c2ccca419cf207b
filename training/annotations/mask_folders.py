"""Images with masks as folders: images/, masks/ and labels.json, and groups.json where labels are merged."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tagmill.errors import InputError
from tagmill.tasks.figures import IGNORE
from training.annotations.image_files import pictures_in
from training.annotations.json_fields import read_json
from training.annotations.types import Example, Labels


@dataclass(frozen=True)
class MaskedSource:
    """Images with masks, and what the values of the masks mean."""

    place: Path
    examples: list[Example]
    #: the label of each mask value
    stored: Labels
    #: the labels of a model: groups of the stored ones, or the stored ones themselves
    labels: Labels
    #: the position in `labels` of each mask value
    merged: tuple[int, ...]
    #: what was left out, for the user to read
    remarks: tuple[str, ...] = ()

    def table(self, wanted: Labels) -> NDArray[np.uint8]:
        """Return what turns mask values into positions in `wanted`, uint8 [256]; unknown values are ignored pixels.

        Raises InputError for a label that is not wanted. Groups give way where a model knows the stored labels.
        """
        if set(self.stored) <= set(wanted):
            return translation(self.stored, wanted, self.place)
        return translation([self.labels[group] for group in self.merged], wanted, self.place)


def read_mask_folders(directory: Path, source: int = 0) -> MaskedSource:
    """Return the images below images/ that have a mask below masks/ of the same relative stem.

    Raises InputError where a folder or labels.json is missing or not what it should be.
    """
    examples, remarks = _pairs(directory, source)
    described = directory if (directory / "labels.json").is_file() else directory.parent
    if not (described / "labels.json").is_file():
        raise InputError(f"{directory / 'labels.json'}: is missing; it must list the mask values' labels")
    stored = _stored_labels(described / "labels.json")
    groups = described / "groups.json"
    if not groups.is_file():
        return MaskedSource(directory, examples, stored, stored, tuple(range(len(stored))), remarks)
    labels, merged = _groups(groups, stored)
    return MaskedSource(directory, examples, stored, labels, merged, remarks)


def translation(found: Sequence[str], wanted: Labels, where: Path) -> NDArray[np.uint8]:
    """Return what turns positions in `found` into those in `wanted`, uint8 [256]; the others are ignored pixels."""
    if missing := [label for label in found if label not in wanted]:
        raise InputError(f"{where}: label {missing[0]!r} is not one of the model's: {', '.join(wanted)}")
    table = np.full(256, IGNORE, dtype=np.uint8)
    table[: len(found)] = [wanted.index(label) for label in found]
    return table


def _pairs(directory: Path, source: int) -> tuple[list[Example], tuple[str, ...]]:
    for name in ("images", "masks"):
        if not (directory / name).is_dir():
            raise InputError(f"{directory}: has no {name}/; a segmentation set is images/, masks/ and labels.json")
    examples, pictures = [], pictures_in(directory / "images")
    for picture in pictures:
        mask = (directory / "masks" / picture.relative_to(directory / "images")).with_suffix(".png")
        if mask.is_file():
            examples.append(Example(picture, mask, source))
    if not examples:
        raise InputError(f"{directory}: no image in images/ has a mask of the same name in masks/")
    alone = len(pictures) - len(examples)
    return examples, (f"{directory}: {alone} images without a mask are left out",) if alone else ()


def _stored_labels(path: Path) -> Labels:
    labels = read_json(path)
    if not isinstance(labels, list) or len(labels) < 2 or not all(isinstance(label, str) for label in labels):
        raise InputError(f"{path}: must be a JSON list of at least two labels")
    if len(labels) > IGNORE or len(set(labels)) != len(labels):
        raise InputError(f"{path}: labels must differ, and be at most {IGNORE}")
    return tuple(labels)


def _groups(path: Path, stored: Labels) -> tuple[Labels, tuple[int, ...]]:
    """Return the groups in the order of the file, and the group of each stored label. Every label is in one."""
    groups = read_json(path)
    if not isinstance(groups, dict) or len(groups) < 2 or not all(_is_texts(members) for members in groups.values()):
        raise InputError(f"{path}: must be a JSON object of at least two groups, each a list of labels")
    place: dict[str, int] = {}
    for number, (group, members) in enumerate(groups.items()):
        for label in members:
            if label not in stored:
                raise InputError(f"{path}: {label!r} in group {group!r} is not a label of labels.json")
            if label in place:
                raise InputError(f"{path}: {label!r} stands in two groups")
            place[label] = number
    if missing := [label for label in stored if label not in place]:
        raise InputError(f"{path}: {missing[0]!r} is in no group; every label of labels.json belongs to one")
    return tuple(groups), tuple(place[label] for label in stored)


def _is_texts(members: object) -> bool:
    return isinstance(members, list) and bool(members) and all(isinstance(member, str) for member in members)
