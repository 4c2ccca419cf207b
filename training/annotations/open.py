"""Read the value of --data: category folders, images and masks, a CSV, COCO JSON or Label Studio JSON."""

from pathlib import Path

from tagmill.errors import InputError
from training.annotations.category_folders import image_root, read_category_folders
from training.annotations.coco import CocoFile
from training.annotations.image_files import LabeledImage, LabeledImages, images_in
from training.annotations.json_fields import read_json
from training.annotations.label_csv import read_label_csv
from training.annotations.label_studio import read_label_studio
from training.annotations.mask_folders import MaskedImages, read_mask_folders
from training.annotations.types import Example


def read_labeled_images(source: Path) -> LabeledImages:
    """Return the labeled images of a source of any format. Raise InputError or NothingToDo if there are none."""
    if source.is_dir():
        return read_category_folders(source)
    if _suffix(source) == ".csv":
        return read_label_csv(source)
    content = read_json(source)
    if isinstance(content, list):
        return read_label_studio(source, content)
    return _parse_coco(source, content).labeled_images()


def read_masked_images(source: Path, number: int = 0) -> MaskedImages:
    """Return the images and masks of a folder or a COCO file; `number` is the position of the source in --data.

    Raise InputError for any other file.
    """
    if source.is_dir():
        return read_mask_folders(source, number)
    if _suffix(source) == ".csv":
        raise InputError(f"{source}: holds no masks; a segmenter needs images/ and masks/, or COCO JSON")
    file = _parse_coco(source, read_json(source))
    labels = file.mask_labels()
    examples = file.examples(number)
    return MaskedImages(source, examples, labels, labels, tuple(range(len(labels))), file.left_out.notes())


def list_images(source: Path) -> list[Path]:
    """Return the image files of a source of any format, whatever their labels are."""
    if source.is_dir():
        return images_in(image_root(source))
    return [labeled.image for labeled in read_labeled_images(source).images]


def to_example(labeled: LabeledImage, source: int, multilabel: bool) -> Example:
    """Return a labeled image as an example of --data number `source`.

    Raise InputError unless it has exactly one label; with `multilabel` any number is allowed.
    """
    if multilabel:
        return Example(labeled.image, labeled.labels, source)
    if not labeled.labels:
        raise InputError(f"{labeled.place}: {labeled.image.name} has no label; give it one or take it out")
    if len(labeled.labels) > 1:
        raise InputError(
            f"{labeled.place}: {labeled.image.name} has {len(labeled.labels)} labels, {', '.join(labeled.labels)}; "
            "an image of several needs a model with --multilabel"
        )
    return Example(labeled.image, labeled.labels[0], source)


def _suffix(source: Path) -> str:
    """Return .csv or .json. Raise InputError for any other file, and for one that does not exist."""
    suffix = source.suffix.lower()
    if not source.is_file():
        raise InputError(f"{source}: is not a folder; name the folder that holds the images, a .csv or a .json")
    if suffix not in {".csv", ".json"}:
        raise InputError(f"{source}: is neither a folder nor a .csv or .json of labeled images")
    return suffix


def _parse_coco(source: Path, content: object) -> CocoFile:
    if not isinstance(content, dict) or "images" not in content:
        raise InputError(
            f"{source}: is neither COCO (images, annotations, categories) nor a Label Studio export (tasks)"
        )
    return CocoFile.parse(source, content)
