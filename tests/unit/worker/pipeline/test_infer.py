"""Inference calls that fail, do not end, or run out of memory, with real sessions."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.bundles import (
    BAD_RED,
    write_classifier,
    write_endless_classifier,
    write_fussy_classifier,
    write_hungry_classifier,
    write_image_tower,
)

from tagmill.images.image import Pixels
from tagmill.outcomes import ErrorCode
from tagmill.records import ImageRow
from tagmill.tasks.base import Prediction
from worker.inference.call_tracker import StalledCallError
from worker.inference.error_codes import error_code_of
from worker.inference.session import Session
from worker.pipeline.batch_image import BatchImage
from worker.pipeline.infer import infer_images, together


def decoded(session: Session, count: int, bad: int | None = None) -> list[BatchImage]:
    """Return decoded images in plain blue; the model fails on the image `bad`, if given."""
    found = []
    for number in range(count):
        pixels = np.full((16, 16, 3), (BAD_RED if number == bad else 0, 0, 200), dtype=np.uint8)
        row = ImageRow(f"{number:064d}", 16, 16, "PNG", 1)
        image = BatchImage(number, f"/{number}", sha256=row.sha256, missing=[session], facts=row)
        image.inputs = {session.spec.preprocess: pixels}
        found.append(image)
    return found


def answered(images: list[BatchImage]) -> int:
    return sum(len(image.answers) for image in images)


def failures(images: list[BatchImage]) -> dict[int, ErrorCode]:
    return {image.position: image.code for image in images if image.code is not None}


def cancel_after(session: Session, seconds: float) -> Callable[[], None]:
    """Cancel the session's stalled calls as the watchdog does, until the returned function is called."""
    ended = threading.Event()

    def check() -> None:
        while not ended.wait(0.05):
            session.calls.cancel_stalled(seconds)

    threading.Thread(target=check, daemon=True).start()
    return ended.set


def test_a_failing_call_is_halved_down_to_the_image_that_breaks_it(tmp_path: Path) -> None:
    session = Session(write_fussy_classifier(tmp_path / "fussy.onnx"), "cpu", 1)
    tagged = infer_images(decoded(session, 16, bad=5), [session])
    assert [row.image_sha256 for image in tagged for row in image.answers] == [
        f"{number:064d}" for number in range(16) if number != 5
    ]
    assert failures(tagged) == {5: ErrorCode.INFERENCE_FAILED}


def test_a_call_that_runs_out_of_memory_is_split_and_later_calls_are_smaller(tmp_path: Path) -> None:
    session = Session(write_hungry_classifier(tmp_path / "hungry.onnx", most=5), "cpu", 1, batch=32)
    assert answered(infer_images(decoded(session, 32), [session])) == 32
    assert session.largest_call == 4
    calls: list[int] = []
    run = session.run
    session.run = lambda images, best_only=False: calls.append(len(images)) or run(images, best_only)  # type: ignore[method-assign,func-returns-value]
    assert answered(infer_images(decoded(session, 10), [session])) == 10
    assert calls == [4, 4, 2]


def test_later_calls_are_not_smaller_if_each_call_is_padded_to_a_fixed_batch(tmp_path: Path) -> None:
    session = Session(write_hungry_classifier(tmp_path / "hungry.onnx", most=5), "cpu", 1, batch=32)
    session.fixed_batch = 32
    assert answered(infer_images(decoded(session, 32), [session])) == 32
    assert session.largest_call is None


def test_an_image_that_alone_runs_out_of_memory_has_its_own_error_code(tmp_path: Path) -> None:
    session = Session(write_hungry_classifier(tmp_path / "hungry.onnx", most=8), "cpu", 1)
    tagged = infer_images(decoded(session, 8, bad=3), [session])
    assert answered(tagged) == 7
    assert failures(tagged) == {3: ErrorCode.OUT_OF_MEMORY}


@pytest.mark.parametrize(
    "message",
    [
        "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for requested buffer of size 42949672",
        "CUDA failure 2: out of memory ; GPU=0 ; hostname=gpu1",
        "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED",
        "CUDNN failure 4: CUDNN_STATUS_ALLOC_FAILED",
        "CUDNN_BACKEND_API_FAILED: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        "Available memory of 0 is smaller than requested bytes of 135383040",
        "std::bad_alloc",
        "bad allocation: bad_alloc",
    ],
)
def test_every_out_of_memory_message_is_recognized(message: str) -> None:
    assert error_code_of(RuntimeError(message)) is ErrorCode.OUT_OF_MEMORY
    assert error_code_of(MemoryError()) is ErrorCode.OUT_OF_MEMORY
    assert error_code_of(RuntimeError("Gather index out of range")) is ErrorCode.INFERENCE_FAILED


def test_an_inference_that_does_not_end_is_cancelled_and_its_image_found(tmp_path: Path) -> None:
    session = Session(write_endless_classifier(tmp_path / "endless.onnx"), "cpu", 1)
    end = cancel_after(session, 1.0)
    tagged = infer_images(decoded(session, 8, bad=6), [session])
    end()
    assert answered(tagged) == 7
    assert failures(tagged) == {6: ErrorCode.TIMED_OUT}
    assert session.calls.longest_overdue() == 0.0


def test_a_cancelled_call_raises_and_the_session_still_works(tmp_path: Path) -> None:
    session = Session(write_endless_classifier(tmp_path / "endless.onnx"), "cpu", 1)
    bad = np.full((1, 16, 16, 3), BAD_RED, dtype=np.uint8)
    end = cancel_after(session, 0.3)
    started = time.monotonic()
    with pytest.raises(StalledCallError):
        session.run(bad)
    end()
    assert time.monotonic() - started >= 0.3
    assert session.run(np.full((1, 16, 16, 3), 200, dtype=np.uint8)).scores.shape == (1, 3)


@pytest.mark.parametrize(("rows", "copied"), [((2, 3, 4), False), ((5,), False), ((0, 2), True), ((3, 2), True)])
def test_consecutive_images_of_one_array_are_not_copied(rows: tuple[int, ...], copied: bool) -> None:
    array = np.random.default_rng(0).integers(0, 256, (6, 5, 4, 3), dtype=np.uint8)
    found = together([array[row] for row in rows])
    assert np.array_equal(found, array[list(rows)])
    assert np.shares_memory(found, array) is not copied


def test_images_of_several_arrays_or_parts_of_rows_are_copied() -> None:
    array = np.zeros((6, 5, 4, 3), dtype=np.uint8)
    for images in ([array[0], array[1].copy()], [array[0, :4], array[1, :4]], [np.ones((5, 4, 3), np.uint8)]):
        found = together(images)
        assert np.array_equal(found, np.stack(images))
        assert not np.shares_memory(found, array)


def test_an_embedding_comes_with_the_labels(tmp_path: Path) -> None:
    session = Session(write_classifier(tmp_path / "colors.onnx", embedding=True), "cpu", 1)
    (image,) = infer_images(decoded(session, 1), [session])
    (row,) = image.answers
    assert row.labels[0][0] == "blue"
    assert row.embedding == pytest.approx([0, 0, 1])


def test_an_activation_map_comes_with_the_labels(tmp_path: Path) -> None:
    session = Session(write_classifier(tmp_path / "colors.onnx", activation_map=True), "cpu", 1)
    images = decoded(session, 3)
    for number, image in enumerate(infer_images(images, [session])):
        (row,) = image.answers
        assert row.activation_map is not None
        assert np.array_equal(row.activation_map, images[number].inputs[session.spec.preprocess][:, :, 0])


def test_a_model_without_labels_gives_an_embedding_alone(tmp_path: Path) -> None:
    session = Session(write_image_tower(tmp_path / "tower.onnx"), "cpu", 1)
    (row,) = infer_images(decoded(session, 1), [session])[0].answers
    assert (row.labels, row.masks) == ((), ())
    assert row.embedding == pytest.approx([0, 0, 1])


def test_an_embedding_that_is_not_a_number_fails_its_image_alone(tmp_path: Path) -> None:
    session = Session(write_classifier(tmp_path / "colors.onnx", embedding=True), "cpu", 1)
    images = decoded(session, 3)
    run = session.run

    def broken(pixels: Pixels, best_only: bool = False) -> Prediction:
        found = run(pixels, best_only)
        assert found.embedding is not None
        damaged = found.embedding.copy()
        damaged[1, 0] = np.nan
        return replace(found, embedding=damaged)

    session.run = broken  # type: ignore[method-assign]
    tagged = infer_images(images, [session])
    assert failures(tagged) == {1: ErrorCode.INFERENCE_FAILED}
    assert "embedding" in str(tagged[1].detail)
    assert answered(tagged) == 2
