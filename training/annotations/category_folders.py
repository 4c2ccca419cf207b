"""Labeled images as folders: one for each category."""

from pathlib import Path

from tagmill.errors import InputError, NothingToDo
from training.annotations.image_files import Found, Tagged, pictures_in


def read_category_folders(directory: Path) -> Found:
    """Return the images of each category. A sample catalog's root, which has images/ and masks/, works, too.

    Raises InputError for a folder without folders, and NothingToDo where no image is in them.
    """
    inner = picture_root(directory)
    folders = sorted(path for path in inner.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise InputError(f"{directory}: holds no category; put the images of each category into a folder of its own")
    found = {folder.name: pictures_in(folder) for folder in folders}
    if not any(found.values()):
        raise NothingToDo(f"{directory}: none of its {len(found)} folders holds an image")
    pictures = [Tagged(path, (name,), str(directory)) for name, paths in found.items() for path in paths]
    return Found(pictures, empty=tuple(name for name, paths in found.items() if not paths))


def picture_root(directory: Path) -> Path:
    """Return the folder that holds the images: images/ where there are masks/ beside it."""
    return directory / "images" if (directory / "images").is_dir() and (directory / "masks").is_dir() else directory
