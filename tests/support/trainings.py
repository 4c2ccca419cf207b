"""Fixtures that make trainings and exports of tests cheap, for the conftest.py of a folder of tests."""

import functools
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx
import pytest
from torch import nn
from torch.onnx._internal.exporter._registration import ONNXRegistry

from export import build as build_module
from export.graph.activation_map import FeatureMap
from export.graph.embedding import Projection
from export.graph.torch_graph import build_graph
from tagmill.bundles.metadata import BundleSpec
from training.data.arrays import LabeledSet
from training.report import write
from training.report.analysis import Analysis, Evaluation

draw_figures = write.draw_figures


def _draw_nothing(
    run: Path, summary: Mapping[str, Any], data: LabeledSet, evaluation: Evaluation, analysis: Analysis
) -> list[str]:
    return []


@pytest.fixture(scope="session", autouse=True)
def one_registry() -> Iterator[None]:
    """Let all exports share the translations of torch's operators, which torch gathers anew for each."""
    gathered = functools.cache(ONNXRegistry.from_torchlib)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(gathered))
        yield


@pytest.fixture(scope="module", autouse=True)
def no_figures() -> Iterator[None]:
    """Leave the figures out of the reports of trainings, but of the tests that take `figures`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write, "draw_figures", _draw_nothing)
        yield


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the trainings of this test draw their figures."""
    monkeypatch.setattr(write, "draw_figures", draw_figures)


@pytest.fixture(scope="module")
def graphs_once() -> Iterator[None]:
    """Let exports of the same weights share the graph that torch gives: a trace takes seconds."""
    known: dict[str, bytes] = {}

    def build_once(
        network: nn.Module, spec: BundleSpec, top_k: int, embedding: Projection | None, place: FeatureMap | None
    ) -> onnx.ModelProto:
        if embedding or place:
            return build_graph(network, spec, top_k, embedding, place)
        weights = hashlib.sha256(repr(network).encode())
        for name, value in network.state_dict().items():
            weights.update(name.encode() + value.numpy().tobytes())
        key = repr((weights.digest(), spec.task, len(spec.labels), spec.preprocess, spec.temperature, top_k))
        if key not in known:
            known[key] = build_graph(network, spec, top_k, embedding, place).SerializeToString(deterministic=True)
        return onnx.load_from_string(known[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build_module, "build_graph", build_once)
        yield
