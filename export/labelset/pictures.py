"""Embed example images with the bundle of a model, as workers embed the catalog."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tagmill.cli.terminal.progress import Display
from tagmill.errors import InputError, NothingToDo
from tagmill.registry.models import Model
from tagmill.registry.open_store import open_store
from tagmill.settings import Settings
from training.annotations.open import read_labeled_images, to_example
from training.annotations.types import Example, Unreadable
from training.data.decode import in_parallel, read_image
from worker.inference.session import Session
from worker.inference.session_cache import NamedBundles, SessionCache

#: images that are decoded before they are embedded
CHUNK = 256


def embed_pictures(
    settings: Settings, base: Model, bundle: Path | None, source: Path, display: Display
) -> tuple[list[str], NDArray[np.float32]]:
    """Return the labels and embeddings, float32 [N, D], of the labeled images of a source of any format.

    The model's bundle is the file `bundle`, or else in the model store.

    Images that cannot be read are named and left out. Raise NothingToDo if none can be read, and InputError for a
    category that no image is left of, or another model's bundle.
    """
    labeled = read_labeled_images(source)
    for note in labeled.notes:
        display.say(note)
    examples = [to_example(found, 0, multilabel=False) for found in labeled.images]
    files = open_store(settings) if bundle is None else NamedBundles.of([bundle])
    if isinstance(files, NamedBundles) and base.sha256 not in files.files:
        raise InputError(f"{bundle}: is not the bundle of {base.title}, whose sha256 is {base.sha256[:12]}...")
    session = SessionCache(settings, files).get(base.sha256)
    unreadable: list[Unreadable] = []
    labels, vectors = [], []
    with display.reading("examples", len(examples)) as step:
        for at in range(0, len(examples), CHUNK):
            chunk = examples[at : at + CHUNK]
            readable, pixels = _decode(chunk, session, unreadable)
            labels += [str(example.target) for example in readable]
            vectors += _embed(session, pixels)
            step(at + len(chunk))
    display.name_unreadable(unreadable)
    if not vectors:
        raise NothingToDo(f"{source}: none of {len(examples)} images could be read; the first: {unreadable[0].reason}")
    empty = {*labeled.empty, *(str(example.target) for example in examples)} - set(labels)
    if empty:
        raise InputError(f"{source}: no image of {', '.join(sorted(empty))} can be read; add some or remove the folder")
    return labels, np.concatenate(vectors)


def _decode(
    examples: list[Example], session: Session, unreadable: list[Unreadable]
) -> tuple[list[Example], NDArray[np.uint8]]:
    """Return the readable examples, and their pixels uint8 [N, H, W, 3]; append the others to `unreadable`."""
    pixels: dict[int, NDArray[np.uint8]] = {}

    def read(number: int) -> None:
        pixels[number] = read_image(examples[number].image, session.spec.preprocess)

    failures = in_parallel(len(examples), read)
    unreadable += [Unreadable(examples[number].image, str(failure)) for number, failure in failures if failure]
    numbers = sorted(pixels)
    shape = (0, session.spec.preprocess.height, session.spec.preprocess.width, 3)
    stacked = np.stack([pixels[number] for number in numbers]) if numbers else np.zeros(shape, np.uint8)
    return [examples[number] for number in numbers], stacked


def _embed(session: Session, pixels: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    found = []
    for at in range(0, len(pixels), session.best_batch):
        embedding = session.run(pixels[at : at + session.best_batch]).embedding
        assert embedding is not None  # the model's record says that it gives one
        found.append(embedding)
    return found
