"""Dynamic batching: inference requests of several threads that share a call."""

import gc
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from support.bundles import BAD_RED, write_classifier, write_fussy_classifier, write_segmenter
from support.processes import wait_until

from tagmill.images.image import Pixels
from tagmill.records import ImageRow
from tagmill.tasks.base import Prediction
from worker.inference.dynamic_batching import DynamicBatcher
from worker.inference.session import Session
from worker.pipeline.batch_image import BatchImage
from worker.pipeline.infer import infer_images

COLORS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], dtype=np.uint8)


class Gate:
    """Runs a session, but blocks each call until `open` is set."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.open = threading.Event()
        self.calls: list[int] = []

    def run(self, images: Pixels) -> Prediction:
        self.calls.append(len(images))
        assert self.open.wait(120)
        return self._session.run(images)


def colored_images(session: Session, colors: list[int]) -> Pixels:
    """Return one image of each color."""
    spec = session.spec.preprocess
    return np.broadcast_to(COLORS[colors][:, None, None], (len(colors), spec.height, spec.width, 3)).copy()


def test_a_session_that_nobody_uses_any_more_is_freed_at_once(tmp_path: Path) -> None:
    session = Session(write_classifier(tmp_path / "c.onnx"), "cpu", 1)
    session.batched.run(colored_images(session, [0, 1]), 2)
    kept = weakref.ref(session)
    gc.disable()
    try:
        del session
        assert kept() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("write", [write_classifier, write_segmenter])
def test_waiting_requests_share_a_call_and_each_gets_its_own_result(tmp_path: Path, write: object) -> None:
    session = Session(write(tmp_path / "bundle.onnx"), "cpu", threads=1)  # type: ignore[operator]
    gate = Gate(session)
    batcher = DynamicBatcher(gate.run, parallel=1)
    requests = [[number % 3] * (1 + number % 2) for number in range(9)]
    with ThreadPoolExecutor(len(requests)) as pool:
        first = pool.submit(batcher.run, colored_images(session, requests[0]), 8)
        wait_until(lambda: gate.calls, 60, "the first call")
        rest = [pool.submit(batcher.run, colored_images(session, colors), 8) for colors in requests[1:]]
        wait_until(lambda: len(batcher._waiting) == 8, 60, "the others to wait")
        gate.open.set()
        found = [future.result(60) for future in (first, *rest)]
    assert sum(gate.calls) == sum(map(len, requests))
    assert max(gate.calls) <= 8
    assert len(gate.calls) == 3  # one alone, then 12 images in two
    for colors, prediction in zip(requests, found, strict=True):
        alone = session.run(colored_images(session, colors))
        assert np.allclose(prediction.scores, alone.scores, atol=1e-6)
        assert prediction.mask is None or np.array_equal(prediction.mask, alone.mask)


def test_at_most_parallel_calls_run_at_the_same_time(tmp_path: Path) -> None:
    session = Session(write_classifier(tmp_path / "bundle.onnx"), "cpu", threads=1)
    gate = Gate(session)
    batcher = DynamicBatcher(gate.run, parallel=2)
    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(batcher.run, colored_images(session, [color]), 8) for color in range(3)]
        wait_until(lambda: len(gate.calls) == 2, 60, "two calls")
        wait_until(lambda: len(batcher._waiting) == 1, 60, "the third to wait")
        gate.open.set()
        assert [int(future.result(60).scores.argmax()) for future in futures] == [0, 1, 2]


def test_only_the_caller_whose_images_fail_gets_the_error(tmp_path: Path) -> None:
    session = Session(write_classifier(tmp_path / "bundle.onnx"), "cpu", threads=1)
    gate = Gate(session)
    batcher = DynamicBatcher(gate.run, parallel=1)
    good, bad = colored_images(session, [1]), np.zeros((1, 4, 4, 3), dtype=np.uint8)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(batcher.run, good, 8)
        wait_until(lambda: gate.calls, 60, "the first call")
        rest = [pool.submit(batcher.run, images, 8) for images in (good, bad, good)]
        wait_until(lambda: len(batcher._waiting) == 3, 60, "the others to wait")
        gate.open.set()
        assert [int(future.result(60).scores.argmax()) for future in (first, rest[0], rest[2])] == [1, 1, 1]
        with pytest.raises(Exception, match=r"(?i)dimension|shape|invalid"):
            rest[1].result(60)


def test_after_a_failed_shared_call_still_at_most_parallel_calls_run(tmp_path: Path) -> None:
    session = Session(write_fussy_classifier(tmp_path / "fussy.onnx"), "cpu", threads=1)
    running, most, lock = 0, 0, threading.Lock()
    first = threading.Event()

    def run(images: Pixels) -> Prediction:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        assert first.wait(120)
        time.sleep(0.02)  # long enough for others to come in, if they could
        try:
            return session.run(images)
        finally:
            with lock:
                running -= 1

    batcher = DynamicBatcher(run, parallel=1)
    good, bad = (np.full((1, 16, 16, 3), red, dtype=np.uint8) for red in (0, BAD_RED))
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(batcher.run, bad if number == 5 else good, 8) for number in range(8)]
        wait_until(lambda: len(batcher._waiting) == 7, 60, "the others to wait")
        first.set()
        failed = [number for number, future in enumerate(futures) if future.exception(60)]
    assert failed == [5]
    assert most == 1


def test_the_images_of_small_messages_share_a_call(tmp_path: Path) -> None:
    session = Session(write_fussy_classifier(tmp_path / "fussy.onnx"), "cpu", threads=1)
    gate = Gate(session)
    batcher = session.batched = DynamicBatcher(gate.run, parallel=1)
    pixels = np.full((16, 16, 3), 200, dtype=np.uint8)
    with ThreadPoolExecutor(9) as pool:

        def tag(number: int) -> list[str]:
            row = ImageRow(f"{number:064d}", 16, 16, "PNG", 1)
            image = BatchImage(number, f"/{number}", sha256=row.sha256, missing=[session], facts=row)
            image.inputs = {session.spec.preprocess: pixels}
            infer_images([image], [session])
            return [found.image_sha256 for found in image.answers]

        futures = [pool.submit(tag, number) for number in range(9)]
        wait_until(lambda: len(batcher._waiting) == 8, 60, "all but the first to wait")
        gate.open.set()
        assert [future.result(60) for future in futures] == [[f"{number:064d}"] for number in range(9)]
    assert gate.calls == [1, 8]


def test_a_failing_call_that_is_not_shared_is_made_once(tmp_path: Path) -> None:
    gate = Gate(Session(write_classifier(tmp_path / "bundle.onnx"), "cpu", threads=1))
    gate.open.set()
    with pytest.raises(Exception, match=r"(?i)dimension|shape|invalid"):
        DynamicBatcher(gate.run, parallel=1).run(np.zeros((1, 4, 4, 3), dtype=np.uint8), 8)
    assert gate.calls == [1]
