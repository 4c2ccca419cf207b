"""Read labeled images from folders: one folder per category."""

from pathlib import Path

from tagmill.errors import InputError, NothingToDo
from tagmill.images.file_names import SkippedFiles, is_hidden
from tagmill.text import normalize
from training.annotations.image_files import LabeledImage, LabeledImages, images_in


def read_category_folders(directory: Path) -> LabeledImages:
    """Return the images of each category. The root of a sample catalog, which has images/ and masks/, works too.

    Raise InputError if there is no category folder, and NothingToDo if none of the folders holds an image.
    """
    root = image_root(directory)
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not is_hidden(path.name))
    if not folders:
        raise InputError(f"{directory}: holds no category; put the images of each category into a folder of its own")
    skipped = SkippedFiles()
    # Two folders whose names look the same are one category.
    files: dict[str, list[Path]] = {}
    for folder in folders:
        files.setdefault(normalize(folder.name), []).extend(images_in(folder, skipped))
    if not any(files.values()):
        raise NothingToDo(f"{directory}: none of its {len(files)} folders holds an image")
    images = [LabeledImage(path, (name,), str(directory)) for name, paths in files.items() for path in paths]
    notes = tuple(f"{directory}: {line}" for line in skipped.lines())
    return LabeledImages(images, empty=tuple(name for name, paths in files.items() if not paths), notes=notes)


def image_root(directory: Path) -> Path:
    """Return the folder that holds the images: images/ if there is a masks/ beside it, else the directory itself."""
    return directory / "images" if (directory / "images").is_dir() and (directory / "masks").is_dir() else directory
