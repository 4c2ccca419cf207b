"""Suspect batches in a separate process: real processes that really die."""

import os
from pathlib import Path

import numpy as np
import pytest
import support.faults.sitecustomize as faults
from PIL import Image
from support.bundles import BAD_RED, write_classifier, write_endless_classifier, write_segmenter
from support.image_fixtures import write_folder, write_image
from support.processes import children

from tagmill.errors import BundleError
from tagmill.ledger.batches.leases import Claim, PinnedModel
from tagmill.outcomes import ErrorCode
from tagmill.records import BatchResult
from tagmill.settings import Settings
from worker.inference.session_cache import NamedBundles
from worker.pipeline.attempt import to_result
from worker.pipeline.batch_image import BatchImage
from worker.pipeline.tagger import build_tagger
from worker.sources.terms import Terms
from worker.supervision.quarantine import Quarantine

FAULTS = str(Path(faults.__file__).parent)
#: marks an image that makes its process die at the next image, like a bug that damages the heap
HARMS = b"tagmill-test-harms"
LATE_FAULT = f"""
import hashlib, os, signal
sha256, harmed = hashlib.sha256, []

def hash_or_die(data=b"", **options):
    if harmed and data.startswith(b"\\x89PNG"):
        os.kill(os.getpid(), signal.SIGKILL)
    if {HARMS!r} in data:
        harmed.append(True)
    return sha256(data, **options)

hashlib.sha256 = hash_or_die
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of six good images. New processes import the injected faults."""
    monkeypatch.setenv("PYTHONPATH", FAULTS)
    write_folder(tmp_path / "shop", 6)
    return tmp_path / "shop"


def quarantined(files: NamedBundles, folder: Path, *models: str, settings: Settings | None = None) -> BatchResult:
    """Return the quarantine's result for the files of a folder."""
    images = [BatchImage(number, str(path)) for number, path in enumerate(sorted(folder.iterdir()))]
    pinned = tuple(PinnedModel(number, f"{name}@1", name, number, 0) for number, name in enumerate(models, 1))
    claimed = Claim(1, 1, "token", 3, True, (), pinned, (str(folder),))
    return to_result(Quarantine(settings or Settings(), files).tag(claimed, images, Terms()))


def failures(result: BatchResult) -> dict[int, ErrorCode]:
    return {outcome.position: outcome.error_code for outcome in result.outcomes if outcome.error_code}


def test_a_batch_without_a_bad_image_has_the_same_result_as_in_the_worker(shop: Path, tmp_path: Path) -> None:
    files = NamedBundles(
        {"colors": write_classifier(tmp_path / "c.onnx"), "masks": write_segmenter(tmp_path / "s.onnx")}
    )
    (shop / "broken.jpg").write_bytes(b"no image")
    found = quarantined(files, shop, "colors", "masks")
    tagger = build_tagger(Settings(), files)
    images = [BatchImage(number, str(path)) for number, path in enumerate(sorted(shop.iterdir()))]
    expected = to_result(tagger.tag(images, [tagger.sessions.get(name) for name in files.files], (str(shop),)))
    tagger.close()
    assert failures(found) == {6: ErrorCode.NOT_AN_IMAGE}
    assert found == expected


def processes(capfd: pytest.CaptureFixture[str]) -> int:
    """Return how many processes were started."""
    return capfd.readouterr().err.count("quarantine_started")


def test_the_image_that_kills_its_process_is_found_and_the_others_are_tagged(
    shop: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with (shop / "00002.png").open("ab") as file:
        file.write(faults.KILLS)
    files = NamedBundles({"colors": write_classifier(tmp_path / "c.onnx")})
    result = quarantined(files, shop, "colors")
    assert failures(result) == {2: ErrorCode.CRASHED_WORKER}
    (detail,) = (outcome.error_detail for outcome in result.outcomes if outcome.error_code)
    assert detail == "taken alone, it ended its process: SIGKILL"
    assert sorted(outcome.position for outcome in result.outcomes) == list(range(6))
    assert len(result.inferences) == 5
    # All six; the first three; the third alone, because it was not the first of its process; the last three.
    assert processes(capfd) == 4


def test_an_image_is_not_blamed_for_the_damage_of_an_earlier_one(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sitecustomize.py").write_text(LATE_FAULT)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with (shop / "00001.png").open("ab") as file:
        file.write(HARMS)
    files = NamedBundles({"colors": write_classifier(tmp_path / "c.onnx")})
    result = quarantined(files, shop, "colors", settings=Settings(decode_threads=1))
    assert failures(result) == {}
    assert sorted(outcome.position for outcome in result.outcomes) == list(range(6))
    assert len(result.inferences) == 6
    # All six; the first two, and the third, at which it dies; the third and those after it.
    assert processes(capfd) == 3


def test_an_image_over_the_memory_limit_is_found(shop: Path, tmp_path: Path) -> None:
    with (shop / "00004.png").open("ab") as file:
        file.write(faults.FILLS)
    files = NamedBundles({"colors": write_classifier(tmp_path / "c.onnx")})
    result = quarantined(files, shop, "colors", settings=Settings(max_worker_memory=400 * 2**20))
    assert failures(result) == {4: ErrorCode.OUT_OF_MEMORY}


def test_a_stuck_image_and_an_endless_inference_time_out(shop: Path, tmp_path: Path) -> None:
    with write_image(shop / "sticks.png", "red").open("ab") as file:
        file.write(faults.STICKS)
    Image.new("RGB", (20, 20), (BAD_RED, 0, 0)).save(shop / "endless.png")
    files = NamedBundles({"endless": write_endless_classifier(tmp_path / "e.onnx")})
    result = quarantined(files, shop, "endless", settings=Settings(stall_seconds=1.0))
    assert failures(result) == {6: ErrorCode.TIMED_OUT, 7: ErrorCode.TIMED_OUT}


def test_an_image_that_holds_the_interpreter_lock_forever_is_found(shop: Path, tmp_path: Path) -> None:
    with (shop / "00000.png").open("ab") as file:
        file.write(faults.FREEZES)
    files = NamedBundles({"colors": write_classifier(tmp_path / "c.onnx")})
    result = quarantined(files, shop, "colors", settings=Settings(stall_seconds=1.0))
    assert failures(result) == {0: ErrorCode.CRASHED_WORKER}


def test_images_are_not_blamed_for_a_model_that_cannot_be_loaded(shop: Path, tmp_path: Path) -> None:
    (tmp_path / "noise.onnx").write_bytes(b"\x08noise")
    with pytest.raises(BundleError, match=r"could not load the models: .*noise.onnx: it is no ONNX file"):
        quarantined(NamedBundles({"noise": tmp_path / "noise.onnx"}), shop, "noise")


def test_what_a_bundle_says_beside_labels_comes_back_too(shop: Path, tmp_path: Path) -> None:
    bundle = write_classifier(tmp_path / "c.onnx", embedding=True, activation_map=True)
    suspects = quarantined(NamedBundles({"colors": bundle}), shop, "colors")
    tagger = build_tagger(Settings(), NamedBundles({"colors": bundle}))
    images = [BatchImage(number, str(path)) for number, path in enumerate(sorted(shop.iterdir()))]
    here = to_result(tagger.tag(images, [tagger.sessions.get("colors")], (str(shop),), Terms()))
    tagger.close()
    for suspect, row in zip(suspects.inferences, here.inferences, strict=True):
        assert suspect.labels == row.labels
        np.testing.assert_array_equal(suspect.embedding, row.embedding)
        np.testing.assert_array_equal(suspect.activation_map, row.activation_map)
    assert suspects.inferences[0].embedding is not None


def test_no_quarantine_process_is_left_running(shop: Path, tmp_path: Path) -> None:
    files = NamedBundles({"colors": write_classifier(tmp_path / "c.onnx")})
    assert quarantined(files, shop, "colors").outcomes
    assert "quarantine" not in "".join(Path(f"/proc/{pid}/cmdline").read_text() for pid in children(os.getpid()))
