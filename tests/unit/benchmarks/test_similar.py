"""The benchmarks of similar images and of duplicates measure what they say."""

import numpy as np
from sqlalchemy.engine import Engine

from benchmarks.search import similar
from benchmarks.search.duplicates import Photos, report
from tagmill.db.connection import connect
from tagmill.search.hnsw import Build


def test_searches_with_the_index_are_compared_with_exact_ones(pgvector_url: str) -> None:
    engine: Engine = connect(pgvector_url)
    found = similar.measure(engine, similar.drawn(400), 400, 0.5, searches=8, build=Build("64MB", 0))
    engine.dispose()
    assert (found.rows, len(found.indexed), len(found.exact)) == (400, 8, 2)
    assert np.mean(found.recall) > 0.9
    assert found.cpu > 0
    assert similar.line(found).startswith("| 400 | ")


def test_recall_counts_copies_and_precision_members() -> None:
    kinds = np.array(["original"] * 3 + ["resized", "recompressed", "cropped", "mirrored"])
    photos = Photos(np.array([0, 1, 2, 0, 0, 0, 0]), kinds, np.zeros((7, 1), np.float32), np.zeros((7, 2), np.uint64))
    table = report(photos, [[0, 3, 4, 1], [5, 6]])
    assert "| resized | 1.0000 | 1 |" in table
    assert "| mirrored | 0.0000 | 1 |" in table
    assert "| all: recall | 0.5000 | 4 |" in table
    assert "precision | 0.7500 | 4 |" in table
