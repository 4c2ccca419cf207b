"""Write a sample catalog: images, masks, broken files, manifest and truth."""

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tagmill.files import atomic_write
from tagmill.sample.broken import broken_bytes, damage_of
from tagmill.sample.files import FileFormat, encode_image, encode_mask, write_file
from tagmill.sample.item import CATEGORIES, MASK_LABELS, SampleItem, draw_item
from tagmill.sample.plan import CatalogPlan, PlannedItem

__all__ = ["CATEGORIES", "MANIFEST", "MARKER", "MASK_LABELS", "TRUTH", "SampleItem", "draw_item", "write_catalog"]

MANIFEST = "manifest.csv"
TRUTH = "truth.csv"
LABELS = "labels.json"
#: file with the parameters of a complete catalog, written last
MARKER = "catalog.json"
#: file with the parameters of an unfinished catalog
UNFINISHED = "catalog.unfinished.json"


def write_catalog(directory: Path, images: int, seed: int, broken: int, progress: Callable[[int], None]) -> Path:
    """Write `images` readable and `broken` unreadable items and return the path of the manifest.

    Existing files are kept, so a second call continues after an interruption. `progress` is called with the number of
    items done so far. Raises ValueError if the directory holds anything but this catalog.
    """
    plan = CatalogPlan(images, seed, broken)
    manifest = directory / MANIFEST
    if _prepare(directory, plan):
        return manifest
    for index in range(plan.total):
        _write_item(directory, plan, plan.item(index))
        progress(index + 1)
    write_file(directory / LABELS, json.dumps(MASK_LABELS).encode())
    _write_rows(manifest, ("image_key", "uri"), ((item.key, item.uri) for item in plan.rows()))
    truth = ((item.key, item.category, item.mask) for item in plan.rows())
    _write_rows(directory / TRUTH, ("image_key", "category", "mask"), truth)
    (directory / UNFINISHED).replace(directory / MARKER)
    return manifest


def _prepare(directory: Path, plan: CatalogPlan) -> bool:
    """Prepare the directory for the catalog; return whether the catalog is already complete."""
    if min(plan.images, plan.broken, plan.seed) < 0:
        raise ValueError(f"images, seed and broken must be 0 or more, not {_parameters(plan.to_dict())}")
    for name in (MARKER, UNFINISHED):
        if (directory / name).exists():
            _check_parameters(directory, directory / name, plan)
            if name == MARKER:
                return True
            break
    else:
        _check_no_catalog(directory)
    # The marker is written first, so that files left by an interruption count as this catalog's.
    directory.mkdir(parents=True, exist_ok=True)
    write_file(directory / UNFINISHED, json.dumps(plan.to_dict()).encode())
    for folder in ("images", "masks"):
        for category in CATEGORIES:
            (directory / folder / category).mkdir(parents=True, exist_ok=True)
    (directory / "broken").mkdir(exist_ok=True)
    return False


def _check_parameters(directory: Path, marker: Path, plan: CatalogPlan) -> None:
    try:
        held = json.loads(marker.read_text())
    except ValueError as error:
        raise ValueError(f"{marker} is not JSON: delete {directory} or choose another directory") from error
    if held != plan.to_dict():
        raise ValueError(
            f"{directory} holds a sample catalog of {_parameters(held)}, not of {_parameters(plan.to_dict())}: "
            "delete it or choose another directory"
        )


def _check_no_catalog(directory: Path) -> None:
    for name in (MANIFEST, TRUTH, "images", "masks", "broken"):
        if (directory / name).exists():
            raise ValueError(f"{directory} holds {name}, but no sample catalog: choose another directory")


def _parameters(parameters: dict[str, int]) -> str:
    return ", ".join(f"{name} {value}" for name, value in parameters.items())


def _write_item(directory: Path, plan: CatalogPlan, item: PlannedItem) -> None:
    """Write the files of one item unless all of them exist; the image is written last."""
    path = directory / item.uri
    if not item.category:
        if path.exists():
            return
        data = broken_bytes(damage_of(item.index - plan.images), plan.generator(item.index))
        if data is not None:
            write_file(path, data)
        return
    mask = directory / item.mask
    if path.exists() and mask.exists():
        return
    rng = plan.generator(item.index)
    drawn = draw_item(item.category, rng, transparent=item.format is FileFormat.PNG)
    write_file(mask, encode_mask(drawn))
    write_file(path, encode_image(drawn, item.format, rng))


def _write_rows(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
