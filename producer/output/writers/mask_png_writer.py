"""Write masks as palette PNGs at the size of each image."""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from producer.output.image_result import ImageResult
from tagmill.bundles.metadata import is_plain
from tagmill.errors import InputError
from tagmill.images.preprocess import PreprocessSpec
from tagmill.records import Mask
from tagmill.registry.models import Model
from tagmill.tasks.base import task_named
from tagmill.tasks.masks import decode_mask, digits_of, png_palette, safe_name, to_image_size

#: bytes in the name of a folder, on every usual file system
_MAX_FOLDER_BYTES = 255


def write_masks(results: Iterable[ImageResult], names: Sequence[tuple[str, Model]], folder: Path) -> int:
    """Write FOLDER/MODEL/<image_key>.png, whose pixels index FOLDER/MODEL/labels.json. Return the number of masks."""
    # Models of one name have the same labels.
    segmenters = [
        (name, model, folder / safe_folder(name))
        for name, model in dict(names).items()
        if task_named(model.task).gives_masks
    ]
    for _, model, target in segmenters:
        target.mkdir(parents=True, exist_ok=True)
        (target / "labels.json").write_text(json.dumps(model.labels) + "\n")
    ignores_case = any((target / "LABELS.JSON").exists() for _, _, target in segmenters)
    written = 0
    for result in results:
        for name, newest, target in segmenters:
            if name in result.masks:
                path = target / safe_name(result.image_key, ignores_case=ignores_case)
                _write(result, result.masks[name], result.models.get(name, newest), path)
                written += 1
    return written


def require_segmenter(models: Iterable[Model]) -> None:
    """Raise InputError if no model of a run makes masks."""
    if not any(task_named(model.task).gives_masks for model in models):
        raise InputError("no model of these results makes masks; leave --masks out")


def index_map(masks: Sequence[Mask], model: Model, width: int, height: int) -> NDArray[np.uint8]:
    """Return uint8 [height, width] in pixels of the image, each an index into the model's labels."""
    background = model.spec["background"]
    fill = model.labels.index(background) if background in model.labels else 0
    index = np.full((masks[0].height, masks[0].width), fill, dtype=np.uint8)
    for found in masks:
        index[decode_mask(found.rle, found.height, found.width)] = model.labels.index(found.label)
    return to_image_size(index, PreprocessSpec.from_dict(model.spec["preprocess"]), width, height, fill)


def safe_folder(name: str) -> str:
    """Return a folder name for NAME or NAME@VERSION: the same, unless it could lead out of the folder or is too long.

    `tagmill.bundles.metadata.check_name` refuses such names today, but an older database may hold them.
    """
    if is_plain(name.replace("@", "", 1)) and len(name.encode()) <= _MAX_FOLDER_BYTES:
        return name
    words = "_".join(re.findall(r"[\w\-]+", name))[:60]
    return f"{words}-{digits_of(name)}"


def _write(result: ImageResult, masks: Sequence[Mask], model: Model, target: Path) -> None:
    assert result.width is not None, "a tagged image has a size"
    assert result.height is not None, "a tagged image has a size"
    image = Image.fromarray(index_map(masks, model, result.width, result.height))
    image.putpalette(png_palette(len(model.labels)))
    target.parent.mkdir(parents=True, exist_ok=True)
    image.save(target, optimize=False)
