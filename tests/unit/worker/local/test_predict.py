"""`tagmill predict` runs on the machine that workers run on: the same threads, batch size and tuned settings."""

from pathlib import Path

import pytest
from support.bundles import write_classifier
from support.image_fixtures import write_image

from tagmill.bundles.metadata import sha256_of
from tagmill.machine import usable_cores
from tagmill.settings import Settings
from worker.devices.resolve import resolve_device
from worker.inference.session import Session
from worker.inference.session_loader import tuned_settings_store
from worker.inference.tuned_settings import TunedSettings, this_machine
from worker.local import predict as predict_module
from worker.local.predict import predict_files
from worker.pipeline.tagger import Tagger, build_tagger


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[Tagger]:
    """The taggers that `predict_files` builds."""
    taggers: list[Tagger] = []

    def noted(settings: Settings, files: object) -> Tagger:
        taggers.append(build_tagger(settings, files))  # type: ignore[arg-type]  # what predict gives
        return taggers[-1]

    monkeypatch.setattr(predict_module, "build_tagger", noted)
    return taggers


def session_of(settings: Settings, tagger: list[Tagger], folder: Path) -> Session:
    """Return the session that an image was predicted with."""
    bundle, image = write_classifier(folder / "colors.onnx"), write_image(folder / "red.png", "red")
    (found,) = predict_files(settings, [image], [bundle])
    assert found.answers[0][1].labels[0][0] == "red"
    return tagger[-1].sessions.get(sha256_of(bundle))


def test_threads_and_batch_are_those_of_the_settings(built: list[Tagger], tmp_path: Path) -> None:
    settings = Settings(
        device="cpu", inference_threads=1, inference_batch=5, decode_threads=3, cache_folder=tmp_path / "cache"
    )
    session = session_of(settings, built, tmp_path)
    assert (session.threads, session.best_batch, built[-1].pools.decode.threads) == (1, 5, 3)


def test_what_bench_chose_for_this_machine_is_used(built: list[Tagger], tmp_path: Path) -> None:
    settings = Settings(device="cpu", cache_folder=tmp_path / "cache")
    sha256 = sha256_of(write_classifier(tmp_path / "colors.onnx"))
    tuned = TunedSettings(batch=7, threads=1, parallel=usable_cores(), images_per_second=1.0)
    tuned_settings_store(settings).write(sha256, this_machine(resolve_device("cpu")), tuned)
    session = session_of(settings, built, tmp_path)
    assert (session.threads, session.best_batch) == (1, 7)
