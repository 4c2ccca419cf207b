"""Models that give embeddings, and images with embeddings that a test chooses, stored as a worker stores them."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sqlalchemy import Engine, insert, select

from support.ledger import QUEUE, batches, digest
from tagmill.bundles.metadata import BundleSpec
from tagmill.db.schema import image_content, picture
from tagmill.images.preprocess import PreprocessSpec
from tagmill.ledger.batches import leases
from tagmill.ledger.batches.leases import Lease
from tagmill.ledger.complete import complete
from tagmill.ledger.runs.create import create_run
from tagmill.records import BatchResult, Entry, ImageRow, InferenceRow, Outcome
from tagmill.registry.models import Model, register
from tagmill.tasks.classify import CLASSIFY


def unit(vectors: ArrayLike) -> NDArray[np.float32]:
    """Return vectors [N, D] scaled to unit length."""
    found = np.asarray(vectors, np.float32)
    return found / np.linalg.norm(found, axis=-1, keepdims=True)


def embedding_model(engine: Engine, width: int, name: str = "looks") -> Model:
    """Register a classifier that gives an embedding."""
    spec = BundleSpec(name, CLASSIFY, ("red", "blue"), PreprocessSpec(8, 8), embedding=width)
    return register(engine, spec, digest(f"{name} {width}"))


def store(
    engine: Engine, model: Model, vectors: Mapping[str, NDArray[np.float32]], shas: Mapping[str, str] | None = None
) -> dict[str, int]:
    """Tag the keys in one run as a worker does, each with its embedding; return the id of each key's image.

    The bytes of an image follow from its embedding: keys with equal ones share an image, unless `shas` say otherwise.
    """
    sha = {key: digest(vector.tobytes().hex()) for key, vector in vectors.items()} | dict(shas or {})
    entries = [Entry(key, f"/shop/{key}.jpg") for key in vectors]
    run_id = create_run(engine, "test", entries, [model], [], max(1, len(entries)), QUEUE)
    claimed = leases.claim(engine, run_id, batches(engine, run_id)[0], QUEUE, Lease("me", 60.0, max_attempts=3))
    assert claimed is not None
    by_sha = {sha[key]: vector for key, vector in vectors.items()}
    rows = [InferenceRow(one, model.sha256, "CPU", (("red", 0.9),), (), vector) for one, vector in by_sha.items()]
    outcomes = [Outcome(image.position, sha256=sha[image.image_key]) for image in claimed.images]
    facts = [ImageRow(one, 80, 100, "JPEG", 1000) for one in by_sha]
    assert complete(engine, claimed, BatchResult(outcomes, facts, rows), "worker")
    with engine.connect() as connection:
        ids = {row.sha256: row.id for row in connection.execute(select(image_content))}
    return {key: ids[sha[key]] for key in vectors}


def store_hashes(engine: Engine, hashes: Mapping[int, tuple[int, int]]) -> None:
    """Store the hash of each image and that of the mirrored picture, as `submit --measure pictures` does."""
    with engine.begin() as connection:
        for image, (plain, mirrored) in hashes.items():
            signed = [int(np.uint64(value).astype(np.int64)) for value in (plain, mirrored)]
            others = dict.fromkeys(("white_border", "sharpness", "brightness", "contrast", "frame"), 0.5)
            values = {"image_id": image, "phash": signed[0], "phash_mirrored": signed[1], "version": 1}
            connection.execute(insert(picture).values(values | others | {"product_from": "frame"}))
