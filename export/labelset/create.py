"""Make a label set and register it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine

from export.labelset.key_csv import KEYS, read_key_csv
from tagmill.cli.commands import missing_extra
from tagmill.cli.terminal.progress import Display
from tagmill.errors import InputError
from tagmill.labelsets.fit import CLIP_TEMPERATURE, fit_examples, use_vectors
from tagmill.labelsets.gaussians import Examples
from tagmill.labelsets.label_set import UNKNOWN, LabelSet
from tagmill.labelsets.vectors_file import read_vectors_file
from tagmill.ledger.labels.examples import catalog_sample, embeddings_of_keys
from tagmill.registry.models import Model
from tagmill.settings import Settings
from tagmill.text import normalize

#: missing keys that a message names
_NAMED = 3


def from_examples(
    engine: Engine,
    settings: Settings,
    name: str,
    base: Model,
    source: Path,
    unknown_rate: float,
    display: Display,
    bundle: Path | None = None,
) -> LabelSet:
    """Return the label set of example images (a folder for each category, or an annotation file), or of a CSV of keys.

    `bundle` is the file of the model, if it is not in the model store. Raise InputError if there are fewer than two
    categories, or if one is called `unknown`.
    """
    if _names_keys(source):
        words, vectors = _embedded_keys(engine, base, source)
    else:
        try:
            from export.labelset.pictures import embed_pictures
        except ModuleNotFoundError as error:  # without ONNX Runtime, keys are still examples
            raise missing_extra("labelset create", error, "cpu") from error
        words, vectors = embed_pictures(settings, base, bundle, source, display)
    labels = tuple(sorted(set(words)))
    _check_labels(source, labels)
    numbers = {label: number for number, label in enumerate(labels)}
    examples = Examples(vectors, np.array([numbers[word] for word in words], np.int64))
    catalog = catalog_sample(engine, base.id)
    return fit_examples(
        normalize(name), labels, base.sha256, examples, catalog, unknown_rate, {"examples_from": source.name}
    )


def from_vectors(engine: Engine, name: str, base: Model, source: Path, unknown_rate: float) -> LabelSet:
    """Return the label set of the vectors in an .npz file. Raise InputError as `from_examples` does."""
    found = read_vectors_file(source, int(base.spec["embedding"]))
    _check_labels(source, found.labels)
    return use_vectors(
        normalize(name),
        found.labels,
        base.sha256,
        found.vectors,
        catalog_sample(engine, base.id),
        unknown_rate,
        found.temperature or CLIP_TEMPERATURE,
        {"vectors_from": source.name},
    )


def _check_labels(source: Path, labels: Sequence[str]) -> None:
    if UNKNOWN in labels:
        raise InputError(f"{source}: {UNKNOWN} is the label of what no category is near; rename that category")
    if len(labels) < 2:
        raise InputError(f"{source}: has one category, {labels[0]}; a label set chooses between two or more")


def _names_keys(source: Path) -> bool:
    """Return whether a source is a CSV with a column of keys."""
    if source.suffix.lower() != ".csv" or not source.is_file():
        return False
    with source.open(encoding="utf-8-sig", errors="replace") as file:
        columns = [name.strip().strip('"') for name in file.readline().split(",")]
    return any(name in columns for name in KEYS)


def _embedded_keys(engine: Engine, base: Model, source: Path) -> tuple[list[str], NDArray[np.float32]]:
    wanted = read_key_csv(source)
    found = embeddings_of_keys(engine, base.id, list(wanted))
    missing = [key for key in wanted if key not in found]
    if missing:
        named = ", ".join(missing[:_NAMED]) + (", ..." if len(missing) > _NAMED else "")
        raise InputError(
            f"{source}: {len(missing)} of {len(wanted)} keys have no embedding of {base.title} in the catalog: {named}"
        )
    return list(wanted.values()), np.stack([found[key] for key in wanted])
