"""The pictures that an imported graph is proved on: those of a folder, or drawn ones."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tagmill.errors import InputError
from tagmill.images.preprocess import PreprocessSpec, fit
from tagmill.outcomes import ImageFailure
from tagmill.sample.item import CATEGORIES, draw_item
from training.annotations.image_files import images_in
from training.data.decode import read_image

#: most pictures of a folder
MOST = 200
#: drawn pictures of each category
DRAWN = 3


def pictures(folder: Path | None, spec: PreprocessSpec) -> NDArray[np.uint8]:
    """Return uint8 [N, height, width, 3]: up to 200 pictures of a folder, evenly spaced, or 30 drawn ones.

    Raise InputError if the folder has none that can be read.
    """
    if folder is None:
        rng = np.random.default_rng(0)
        drawn = [draw_item(category, rng, transparent=False) for category in CATEGORIES for _ in range(DRAWN)]
        return np.stack([fit(np.asarray(item.image.convert("RGB")), spec) for item in drawn])
    if not folder.is_dir():
        raise InputError(f"--samples {folder}: is not a folder; name a folder of pictures")
    names, found = images_in(folder), []
    for place in np.unique(np.linspace(0, len(names) - 1, min(MOST, len(names))).astype(int)):
        try:
            found.append(read_image(names[place], spec))
        except ImageFailure:
            continue
    if not found:
        raise InputError(f"--samples {folder}: holds no picture that can be read")
    return np.stack(found)
