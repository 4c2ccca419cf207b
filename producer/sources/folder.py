"""Read the images below a folder."""

import os
from collections.abc import Iterator
from pathlib import Path

from producer.sources.base import Problem, Row, reason_of
from tagmill.images.image import SUFFIXES


def read_folder(source: str) -> Iterator[Row | Problem]:
    """Yield the images below a folder, sorted by their relative path. Links to folders are not followed.

    Holds the names of one folder per level, about 100 bytes a name.
    """
    root = str(Path(source).resolve(strict=True))
    levels = [_list_folder(root, "")]
    while levels:
        item = next(levels[-1], None)
        if item is None:
            levels.pop()
        elif isinstance(item, Problem):
            yield item
        elif item.endswith("/"):
            levels.append(_list_folder(root, item))
        else:
            yield Row(0, item, os.path.join(root, item))  # noqa: PTH118 - once per image; three times faster


def _list_folder(root: str, folder: str) -> Iterator[str | Problem]:
    """Yield paths relative to `root`, those of folders with a slash at their end."""
    try:
        with os.scandir(os.path.join(root, folder)) as items:  # noqa: PTH118 - see above
            names = [name for item in items if (name := _listed_name(item))]
    except OSError as error:
        yield Problem(f"{root}/{folder}", f"cannot be read: {reason_of(error)}")
        return
    # With the slash, sorting each folder by itself sorts all relative paths.
    names.sort()
    for name in names:
        yield folder + name


def _listed_name(item: os.DirEntry[str]) -> str | None:
    """Return the name of an image, or of a folder with a slash; None for what is left out."""
    if item.name.startswith("."):
        return None
    if item.is_dir(follow_symlinks=False):
        return f"{item.name}/"
    # Anything else with an image's suffix is an entry, even a broken link: the worker records what is wrong with it.
    is_image = item.name.lower().endswith(SUFFIXES)
    return item.name if is_image and not (item.is_symlink() and Path(item.path).is_dir()) else None
