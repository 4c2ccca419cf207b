"""A bundle that gives an embedding is refused where its golden samples have another one."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from support.bundles import write_classifier

from tagmill.bundles.golden import GoldenSamples
from tagmill.bundles.metadata import GOLDEN
from tagmill.errors import BundleError
from worker.inference.session import Session


def with_golden(path: Path, change: float) -> Path:
    """Write a bundle whose golden samples have an embedding that differs from its own by `change`."""
    bundle = write_classifier(path, embedding=True)
    session = Session(bundle, "cpu", 1)
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    found = session.run(images)
    assert found.embedding is not None
    golden = GoldenSamples(images, found.scores, None, (found.embedding + change).astype(np.float16))
    read = GoldenSamples.from_text(golden.to_text(), session.spec)
    assert read.embedding is not None
    assert read.embedding.tobytes() == golden.embedding.tobytes()  # type: ignore[union-attr]
    model = onnx.load(bundle)
    properties = {entry.key: entry.value for entry in model.metadata_props} | {GOLDEN: golden.to_text()}
    onnx.helper.set_model_props(model, properties)
    onnx.save(model, bundle)
    return bundle


def test_golden_samples_keep_the_embedding_and_a_session_checks_it(tmp_path: Path) -> None:
    assert Session(with_golden(tmp_path / "same.onnx", 0.0), "cpu", 1).sample is not None
    with pytest.raises(BundleError, match=r"embeddings of its golden samples differ by 0\.01"):
        Session(with_golden(tmp_path / "other.onnx", 0.01), "cpu", 1)


def test_golden_samples_without_the_embedding_that_a_bundle_gives_are_refused(tmp_path: Path) -> None:
    session = Session(write_classifier(tmp_path / "colors.onnx", embedding=True), "cpu", 1)
    images = np.zeros((1, 16, 16, 3), np.uint8)
    text = GoldenSamples(images, session.run(images).scores, None).to_text()
    with pytest.raises(BundleError, match="golden samples"):
        GoldenSamples.from_text(text, session.spec)
    assert GoldenSamples.from_text(text, replace(session.spec, embedding=0)).embedding is None


def test_a_graph_without_the_embedding_that_its_metadata_names_is_refused(tmp_path: Path) -> None:
    bundle = write_classifier(tmp_path / "colors.onnx")
    model = onnx.load(bundle)
    properties = {entry.key: entry.value for entry in model.metadata_props} | {"embedding": "3"}
    onnx.helper.set_model_props(model, properties)
    onnx.save(model, bundle)
    with pytest.raises(BundleError, match="gives no embedding of 3 numbers"):
        Session(bundle, "cpu", 1)
