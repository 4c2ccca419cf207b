"""What `tagmill bench` measures and keeps, and how a worker uses it."""

import json
import logging
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console
from support.bundles import write_classifier
from support.image_fixtures import write_image

from tagmill.device import Device
from tagmill.errors import InputError, NothingToDo
from tagmill.settings import Settings
from worker.bench.display import show
from worker.bench.measure import Bench, Candidate, choose_best, measure, thread_counts
from worker.cli.bench import bench
from worker.devices.provider_options import GpuOptions
from worker.inference.session import DEFAULT_BATCH, Session
from worker.inference.session_cache import NamedBundles, SessionCache
from worker.inference.session_loader import LoadOptions, choose
from worker.inference.tuned_settings import Machine, TunedSettings, TunedSettingsStore, this_machine

SHA = "ab" * 32
HERE = Machine("cpu", "onnxruntime 1.31.1", "Some CPU @ 2 GHz", 8, "")
TUNED = TunedSettings(batch=32, threads=2, parallel=4, images_per_second=512.5)


def candidate(batch: int, threads: int, *rates: float) -> Candidate:
    class Stub:
        parallel = 1

    found = Stub()
    found.threads = threads  # type: ignore[attr-defined]
    return Candidate(found, batch, list(rates))  # type: ignore[arg-type]


def test_a_choice_is_read_only_for_the_same_bundle_machine_device_and_library(tmp_path: Path) -> None:
    files = TunedSettingsStore(tmp_path / "tuned")
    assert files.read(SHA, HERE) is None
    files.write(SHA, HERE, TUNED)
    assert files.read(SHA, HERE) == TUNED
    assert files.read("cd" * 32, HERE) is None
    for change in ({"device": "openvino"}, {"library": "onnxruntime 1.32"}, {"cpu": "x"}, {"cores": 4}, {"gpu": "L4"}):
        assert files.read(SHA, replace(HERE, **change)) is None, change
    files.write(SHA, HERE, replace(TUNED, batch=8))
    assert len(list((tmp_path / "tuned").iterdir())) == 1


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", "null", '{"bundle": 1}', "\x00", "batch 0", "batch true", "batch twelve", "left out"]
)
def test_a_damaged_file_is_a_one_line_warning_and_the_defaults_are_used(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = TunedSettingsStore(tmp_path)
    path = files.write(SHA, HERE, TUNED)
    text = path.read_text()
    changed = {
        "batch 0": text.replace('"batch": 32', '"batch": 0'),
        "batch true": text.replace('"batch": 32', '"batch": true'),
        "batch twelve": text.replace('"batch": 32', '"batch": "twelve"'),
        "left out": text.replace('"threads": 2,', ""),
    }
    path.write_text(changed.get(damage, damage))
    with caplog.at_level(logging.WARNING):
        assert files.read(SHA, HERE) is None
    (record,) = caplog.records
    assert "\n" not in record.getMessage()
    assert str(path) in record.getMessage()


def test_a_folder_that_cannot_be_written_to_is_an_error_that_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="TAGMILL_CACHE_FOLDER"):
        TunedSettingsStore(tmp_path / "file" / "tuned").write(SHA, HERE, TUNED)


def test_settings_have_priority_over_tuned_values_and_those_over_defaults() -> None:
    settings = Settings(concurrency=3, inference_batch=5, inference_threads=7)
    assert choose(settings, TUNED, cores=8) == LoadOptions(threads=7, batch=5)
    free = Settings(concurrency=3)
    assert choose(free, TUNED, cores=8) == LoadOptions(threads=2, batch=32)
    assert choose(free, None, cores=8) == LoadOptions(threads=2, batch=0)
    assert choose(free, None, cores=2) == LoadOptions(threads=1, batch=0)


def test_a_worker_starts_with_the_choice_and_logs_it_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_classifier(tmp_path / "c.onnx")
    sha256 = Session(path, "cpu").sha256
    settings = Settings(device="cpu", cache_folder=tmp_path / "cache")
    TunedSettingsStore(tmp_path / "cache" / "tuned").write(
        sha256, this_machine(Device("cpu")), replace(TUNED, threads=1)
    )
    sessions = SessionCache(settings, NamedBundles({sha256: path}))
    with caplog.at_level(logging.INFO):
        found = sessions.get(sha256, "shirts@3")
        assert sessions.get(sha256) is found
    assert (found.best_batch, found.threads) == (32, 1)
    (record,) = [entry for entry in caplog.records if getattr(entry, "action", "") == "bundle_loaded"]
    assert (record.__dict__["inference_batch"], record.__dict__["tuned"]) == (32, True)
    assert (record.__dict__["model"], record.__dict__["bundle"]) == ("shirts@3", found.spec.name)


def test_thread_counts_from_one_to_all_cores_are_tried() -> None:
    assert thread_counts(1) == [1]
    assert thread_counts(2) == [1, 2]
    assert thread_counts(6) == [1, 2, 4, 6]
    assert thread_counts(16) == [1, 2, 4, 8, 16]


@pytest.mark.parametrize(("largest", "tried"), [(300, [16, 32, 64, 128, 256]), (100, [16, 32, 64]), (5, [4])])
def test_on_a_gpu_each_batch_that_fits_is_tried_in_its_own_session(
    largest: int, tried: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(path: Path, device: str, batch: int, gpu: GpuOptions) -> Session:
        assert device == "cuda:1"
        session = Session(path, "cpu", 1)
        while batch > largest:
            batch //= 2
        session.best_batch = session.fixed_batch = batch
        session.parallel = 1
        return session

    monkeypatch.setattr("worker.bench.measure.Session", load)
    image = write_image(tmp_path / "red.png", "red")
    bundle = write_classifier(tmp_path / "c.onnx")
    found = measure(bundle, "cuda:1", [image], 1, GpuOptions(), lambda words: None)
    assert [entry.batch for entry in found.candidates] == tried
    assert len({entry.session for entry in found.candidates}) == len(tried)
    assert found.tuned.batch in tried
    assert table_of(found) == [str(batch) for batch in tried]


def table_of(found: Bench) -> list[str]:
    """Return the first column of the inference table."""
    console = Console(file=StringIO(), width=200)
    show(console, found, HERE)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    lines = shown[shown.index("Inference") : shown.index("chosen")].splitlines()
    return [words[0] for line in lines if len(words := line.replace("*", "").split()) == 2]


def test_of_equally_fast_batches_by_median_the_smallest_is_chosen() -> None:
    lucky = candidate(64, 1, 900.0, 100.0, 110.0)
    best = candidate(32, 1, 500.0, 490.0, 510.0)
    as_good = candidate(8, 1, 489.0, 495.0, 499.0)
    worse = candidate(4, 2, 400.0)
    left_out = candidate(1, 2)
    assert choose_best([lucky, best, as_good, worse, left_out]) is as_good


def run_bench(*words: object, **settings: Any) -> Any:
    env = {f"TAGMILL_{name.upper()}": str(value) for name, value in settings.items()}
    done = CliRunner().invoke(bench, [str(word) for word in words], env=env)
    if done.exception is not None:
        raise done.exception
    return done


@pytest.mark.parametrize("device", ["cpu", "openvino"])
def test_the_command_measures_keeps_and_prints(device: str, tmp_path: Path) -> None:
    path, data = write_classifier(tmp_path / "c.onnx"), tmp_path / "images"
    for number in range(3):
        write_image(data / f"{number}.png", "red")
    (data / "broken.jpg").write_bytes(b"no image")
    cache = tmp_path / "cache"
    words = (path, "--data", data, "--seconds", 2, "--device", device)
    done_json = run_bench(*words, "--json", cache_folder=cache)
    found = json.loads(done_json.stdout)
    assert found["images"] == 3
    assert found["decode_images_per_second"] > 0
    assert 0 < found["decode_share"] < 1
    assert {entry["batch"] for entry in found["candidates"]} >= {1, 16, 64}
    kept = TunedSettingsStore(cache / "tuned").read(Session(path, "cpu").sha256, this_machine(Device(device)))
    assert kept == TunedSettings(**found["chosen"])
    assert "loading c.onnx" in done_json.stderr
    shown = run_bench(*words, cache_folder=cache).stdout
    assert "read and decode" in shown
    assert "chosen: " in shown
    assert "*" in shown


def test_a_folder_with_no_readable_image_is_nothing_to_do(tmp_path: Path) -> None:
    path, data = write_classifier(tmp_path / "c.onnx"), tmp_path / "images"
    data.mkdir()
    with pytest.raises(NothingToDo, match="no images"):
        run_bench(path, "--data", data, cache_folder=tmp_path)
    (data / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(NothingToDo, match="none of 1 images can be read"):
        run_bench(path, "--data", data, "--device", "cpu", cache_folder=tmp_path)


def test_images_are_drawn_if_no_folder_is_given(tmp_path: Path) -> None:
    path = write_classifier(tmp_path / "c.onnx")
    found = json.loads(
        run_bench(path, "--seconds", 1, "--device", "cpu", "--json", cache_folder=tmp_path / "cache").stdout
    )
    assert found["images"] == 64


def test_every_session_has_a_best_batch_and_parallel_calls(tmp_path: Path) -> None:
    session = Session(write_classifier(tmp_path / "c.onnx"), "cpu", 1)
    assert session.best_batch == DEFAULT_BATCH
    assert session.parallel >= 1
    assert np.isfinite(session.run(np.zeros((2, 16, 16, 3), np.uint8)).scores).all()
