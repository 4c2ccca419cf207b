"""Read the images below a folder."""

import os
from collections.abc import Iterator
from pathlib import Path

from producer.sources.base import Problem, Row, Skipped, reason_of
from tagmill.images.file_names import HIDDEN, LINK, NOT_UTF8, is_hidden, skipped_kind
from tagmill.text import is_utf8, normalize


def read_folder(source: str) -> Iterator[Row | Problem | Skipped]:
    """Yield the images below a folder, sorted by their relative path, and what is skipped. Links are not followed.

    Holds the names of one folder per level, about 100 bytes a name.
    """
    root = str(Path(source).resolve(strict=True))
    if not is_utf8(root):
        yield Problem(repr(source), "its name is not UTF-8, rename it")
        return
    levels = [_list_folder(root, "")]
    while levels:
        item = next(levels[-1], None)
        if item is None:
            levels.pop()
        elif not isinstance(item, str):
            yield item
        elif item.endswith("/"):
            levels.append(_list_folder(root, item))
        elif is_utf8(item):
            # The key is in NFC; the uri is spelled as on the disk.
            yield Row(0, normalize(item), os.path.join(root, item))  # noqa: PTH118 - once per image; three times faster
        else:
            yield Skipped(NOT_UTF8, item)


def _list_folder(root: str, folder: str) -> Iterator[str | Problem | Skipped]:
    """Yield paths relative to `root`, those of folders with a slash at their end."""
    names, skipped = [], []
    try:
        with os.scandir(os.path.join(root, folder)) as items:  # noqa: PTH118 - see above
            for item in items:
                kind = _skipped_kind(item)
                if kind is None or kind == NOT_UTF8:
                    names.append(item.name)
                elif kind == _FOLDER:
                    names.append(f"{item.name}/")
                else:
                    skipped.append(Skipped(kind, folder + item.name))
    except OSError as error:
        yield Problem(f"{root}/{folder}", f"cannot be read: {reason_of(error)}")
        return
    yield from sorted(skipped, key=lambda item: item.name)
    # With the slash, sorting each folder by itself sorts all relative paths.
    names.sort()
    for name in names:
        yield folder + name


#: in place of a kind: a folder, which is searched
_FOLDER = "/"


def _skipped_kind(item: os.DirEntry[str]) -> str | None:
    """Return the kind of a file that is skipped, None for an image, or `_FOLDER`."""
    if is_hidden(item.name):
        return HIDDEN
    if item.is_dir(follow_symlinks=False):
        return _FOLDER
    # Anything else with an image's suffix is an entry, even a broken link: the worker records what is wrong with it.
    return LINK if item.is_symlink() and Path(item.path).is_dir() else skipped_kind(item.name)
