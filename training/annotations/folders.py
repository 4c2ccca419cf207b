"""The folders and files that --data, --validation and --test name, and the short names that reports give them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tagmill.errors import InputError
from tagmill.text import legible


@dataclass(frozen=True)
class Folders:
    """Where the images of each use are. Several folders of one use are merged."""

    data: tuple[Path, ...]
    validation: tuple[Path, ...] = ()
    test: tuple[Path, ...] = ()

    def to_dict(self) -> dict[str, list[str]]:
        """Return absolute paths by use, so that export finds them from any working directory."""
        uses = {"train": self.data, "validation": self.validation, "test": self.test}
        return {use: [str(folder.absolute()) for folder in folders] for use, folders in uses.items()}


def require_outside(run: Path, sources: Iterable[Path]) -> None:
    """Raise InputError if a run folder is, holds or lies in a folder of images: its figures would be read as images."""
    own = run.resolve()
    for source in sources:
        images = source.resolve()
        if not source.is_file() and (own.is_relative_to(images) or images.is_relative_to(own)):
            raise InputError(f"--out {run}: must lie outside of the images {source}, and not around them")


def short_name(folder: Path) -> str:
    """Return the last two parts of a path. A bundle tells its readers no more about the machine it was trained on."""
    return legible("/".join(folder.absolute().parts[-2:]))


def short_names(folders: Sequence[Path]) -> list[str]:
    """Return the short name of each folder; names that would be equal are longer, and repeated folders are numbered."""
    paths = [folder.absolute().parts for folder in folders]
    names = []
    for number, path in enumerate(paths):
        others = set(paths) - {path}
        unique = (n for n in range(2, len(path)) if not any(other[-n:] == path[-n:] for other in others))
        repeated = paths[:number].count(path)
        name = legible(str(Path(*path[-next(unique, len(path)) :])))
        names.append(name + (f" ({repeated + 1})" if repeated else ""))
    return names
