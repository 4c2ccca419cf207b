"""What a --data value may be: a folder for each category, images and masks, a CSV, COCO or Label Studio JSON."""

from pathlib import Path

from tagmill.errors import InputError
from training.annotations.category_folders import picture_root, read_category_folders
from training.annotations.coco import CocoFile
from training.annotations.image_files import Found, Tagged, pictures_in
from training.annotations.json_fields import read_json
from training.annotations.label_csv import read_label_table
from training.annotations.label_studio import read_label_studio
from training.annotations.mask_folders import MaskedSource, read_mask_folders
from training.annotations.types import Example


def read_tagged(source: Path) -> Found:
    """Return the labeled images of a source of any kind. Raises InputError and NothingToDo."""
    if source.is_dir():
        return read_category_folders(source)
    if _kind(source) == ".csv":
        return read_label_table(source)
    content = read_json(source)
    if isinstance(content, list):
        return read_label_studio(source, content)
    return _coco(source, content).found()


def read_masked_source(source: Path, number: int = 0) -> MaskedSource:
    """Return the images and masks of a folder or a COCO file. Raises InputError."""
    if source.is_dir():
        return read_mask_folders(source, number)
    if _kind(source) == ".csv":
        raise InputError(f"{source}: holds no masks; a segmenter needs images/ and masks/, or COCO JSON")
    file = _coco(source, read_json(source))
    labels = file.mask_labels()
    return MaskedSource(source, file.examples(number), labels, labels, tuple(range(len(labels))))


def pictures_of(source: Path) -> list[Path]:
    """Return the image files of a source of any kind, whatever their labels are."""
    if source.is_dir():
        return pictures_in(picture_root(source))
    return [tagged.picture for tagged in read_tagged(source).pictures]


def example(tagged: Tagged, number: int, multilabel: bool) -> Example:
    """Return an image with its target. Raises InputError where one label is wanted and it has none or several."""
    if multilabel:
        return Example(tagged.picture, tagged.labels, number)
    if not tagged.labels:
        raise InputError(f"{tagged.place}: {tagged.picture.name} has no label; give it one or take it out")
    if len(tagged.labels) > 1:
        raise InputError(
            f"{tagged.place}: {tagged.picture.name} has {len(tagged.labels)} labels, {', '.join(tagged.labels)}; "
            "an image of several needs a model with --multilabel"
        )
    return Example(tagged.picture, tagged.labels[0], number)


def _kind(source: Path) -> str:
    suffix = source.suffix.lower()
    if not source.is_file():
        raise InputError(f"{source}: is not a folder; name the folder that holds the images, a .csv or a .json")
    if suffix not in {".csv", ".json"}:
        raise InputError(f"{source}: is neither a folder nor a .csv or .json of labeled images")
    return suffix


def _coco(source: Path, content: object) -> CocoFile:
    if not isinstance(content, dict) or "images" not in content:
        raise InputError(
            f"{source}: is neither COCO (images, annotations, categories) nor a Label Studio export (tasks)"
        )
    return CocoFile.check(source, content)
