"""Read a folder of images by its metadata file, as Hugging Face's data sets have it (`imagefolder`)."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from producer.sources.base import Part, Problem, Row
from producer.sources.manifests.columns import NoFileNames
from producer.sources.manifests.formats import MANIFEST_READERS
from producer.sources.manifests.manifest import Manifest, ManifestError
from producer.sources.options import ReadOptions

#: the first one that a folder holds is read
NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
#: files that a note names
_NAMED = 3


def metadata_parts(source: str, options: ReadOptions) -> list[Part]:
    """Return the metadata files of a folder that have a column of file names, with their rows; it may have none.

    They are in the folder itself, or in folders directly below it, its splits. The keys are the file names relative to
    the folder, as if the images were read without metadata.
    """
    root = Path(source).resolve()
    parts: list[Part] = []
    read: list[str] = []
    options = replace(options, format=None)
    for file in _metadata_files(root):
        name = file.relative_to(root).as_posix()
        prefix = name.removesuffix(file.name)
        found = Manifest(str(file), f"{source.rstrip('/')}/{name}", str(file.parent), options, prefix)
        if _names_files(found):
            parts.append(Part(found.label, _rows(found)))
            read.append(name)
    if parts:
        others = " and others" if len(read) > _NAMED else ""
        options.tell(f"{source}: takes the images that {', '.join(read[:_NAMED])}{others} names")
    return parts


def _metadata_files(root: Path) -> list[Path]:
    """Return the metadata file of the folder, or else those of the folders directly below it, in order."""
    if own := _metadata_file(root):
        return [own]
    below = sorted(item for item in root.iterdir() if not item.name.startswith(".") and item.is_dir())
    return [file for item in below if (file := _metadata_file(item))]


def _metadata_file(folder: Path) -> Path | None:
    return next((file for name in NAMES if (file := folder / name).is_file()), None)


def _names_files(manifest: Manifest) -> bool:
    """Return whether a metadata file has a column of file names, or is damaged."""
    try:
        next(_rows(manifest), None)
    except NoFileNames:
        return False
    except ManifestError:
        pass  # its reader raises it again
    return True


def _rows(manifest: Manifest) -> Iterator[Row | Problem]:
    return MANIFEST_READERS[Path(manifest.location).suffix](manifest)
