"""Embeddings in SQL: written with the results of a batch, read back from every kind of column."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import Engine, select, text
from support.embeddings import embedding_model, store, unit
from support.ledger import SHA, batches, count, new_run, result_for, take

from tagmill.db.schema import embedding, result
from tagmill.db.vectors.read import read_vectors, vectors_of
from tagmill.ledger.complete import complete
from tagmill.registry.models import Model

WIDTH = 8


def column_type(engine: Engine) -> str:
    with engine.connect() as connection:
        found = (
            "SELECT udt_name FROM information_schema.columns WHERE table_name = 'embedding' AND column_name = 'vector'"
        )
        return str(connection.execute(text(found)).scalar_one())


def close_to(vectors: NDArray[np.float32]) -> object:
    return pytest.approx(vectors, abs=2**-11)  # half precision


def test_what_a_batch_stores_is_read_back_from_every_kind_of_column(stored: Engine) -> None:
    model, vectors = embedding_model(stored, WIDTH), unit(np.random.default_rng(0).normal(size=(7, WIDTH)))
    ids = store(stored, model, dict(zip("abcdefg", vectors, strict=True)))
    expected = [ids[key] for key in "abcdefg"]
    with stored.connect() as connection:
        chunks = list(read_vectors(connection, model.id, chunk=3))
        assert [len(found) for found, _ in chunks] == [3, 3, 1]
        order = np.concatenate([found for found, _ in chunks]).tolist()
        assert order == sorted(expected)
        read = np.concatenate([found for _, found in chunks])
        assert read.dtype == np.float32
        assert read == close_to(vectors[[expected.index(number) for number in order]])
        some, few = vectors_of(connection, model.id, [ids["f"], ids["b"], 999_999])
        assert some.tolist() == sorted([ids["b"], ids["f"]])
        assert few == close_to(vectors[[expected.index(number) for number in some.tolist()]])
        assert len(vectors_of(connection, model.id, [])[0]) == 0
        assert len(vectors_of(connection, model.id, [999_999])[0]) == 0
        assert list(read_vectors(connection, model.id + 1, chunk=3)) == []


def test_a_multiple_of_the_chunk_is_read_without_an_empty_chunk(stored: Engine) -> None:
    model = embedding_model(stored, WIDTH)
    store(stored, model, {str(number): np.eye(WIDTH, dtype=np.float32)[number] for number in range(4)})
    with stored.connect() as connection:
        assert [len(found) for found, _ in read_vectors(connection, model.id, chunk=2)] == [2, 2]


@pytest.mark.parametrize("stored", ["halfvec"], indirect=True)
def test_pgvector_compares_stored_embeddings(stored: Engine) -> None:
    model = embedding_model(stored, WIDTH)
    store(stored, model, dict(zip("ab", np.eye(WIDTH, dtype=np.float32)[:2], strict=True)))
    assert column_type(stored) == "halfvec"
    with stored.connect() as connection:
        angle = "SELECT one.vector <=> other.vector FROM embedding AS one, embedding AS other ORDER BY 1"
        assert connection.execute(text(angle)).scalars().all() == pytest.approx([0, 0, 1, 1])


@pytest.mark.parametrize("stored", ["bytea"], indirect=True)
def test_postgresql_without_pgvector_stores_plain_bytes(stored: Engine) -> None:
    assert column_type(stored) == "bytea"


def test_the_first_embedding_of_an_image_is_kept(engine: Engine) -> None:
    model = embedding_model(engine, WIDTH)
    run_id = new_run(engine, model, images=2, batch_size=1)
    first, second = np.eye(WIDTH, dtype=np.float32)[:2]
    for batch_id, vector in zip(batches(engine, run_id), (first, second), strict=True):
        claimed = take(engine, batch_id, f"worker {batch_id}")
        assert claimed is not None
        found = result_for(claimed)
        with_vector = [replace(row, embedding=vector) for row in found.inferences]
        assert complete(engine, claimed, replace(found, inferences=with_vector), "worker")
    assert count(engine, embedding) == count(engine, result) == 1
    with engine.connect() as connection:
        ((_, found),) = read_vectors(connection, model.id, 10)
        assert found[0] == close_to(first)


def test_a_model_without_embeddings_stores_none(engine: Engine, model: Model) -> None:
    claimed = take(engine, batches(engine, new_run(engine, model))[0])
    assert claimed is not None
    assert complete(engine, claimed, result_for(claimed, SHA[0]), "worker")
    assert count(engine, embedding) == 0
    with engine.connect() as connection:
        assert connection.execute(select(embedding)).all() == []
