"""A worker that cannot look for text says so before anything is decoded; a picture that fails is left unmeasured."""

import numpy as np
import pytest

from tagmill.errors import BundleError
from tagmill.measuring import Measuring
from tagmill.outcomes import ErrorCode
from tagmill.records import ImageRow
from worker.pictures import text_detector
from worker.pictures.measure import PIXELS
from worker.pictures.text_detector import DETECTOR, TEXT_PIXELS
from worker.pipeline.attempt import to_result
from worker.pipeline.batch_image import BatchImage
from worker.pipeline.measure import measure_images, specs_of
from worker.timeout_pool import TimeoutPool


def decoded(position: int, pixels: np.ndarray) -> BatchImage:
    image = BatchImage(position, f"/shop/{position}.png", sha256=f"{position}" * 64, measure=True)
    image.facts = ImageRow(f"{position}" * 64, 256, 256, "PNG", 10)
    image.inputs = {PIXELS: pixels}
    return image


def test_a_worker_without_the_detector_lacks_what_others_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_detector, "_model", lambda: None)
    text_detector._session.cache_clear()
    with pytest.raises(BundleError, match="picture-text") as raised:
        specs_of(Measuring(text=True))
    assert raised.value.sha256 == DETECTOR
    assert not text_detector.is_loaded()
    assert set(specs_of(Measuring())) == {PIXELS}


def test_the_sides_of_decoding_depend_on_the_measures_alone() -> None:
    assert specs_of(Measuring(text=True)) == {PIXELS: 256, TEXT_PIXELS: 640}


def test_a_picture_that_cannot_be_measured_is_tagged_without() -> None:
    good = decoded(1, np.full((256, 256, 3), 255, np.uint8))
    bad = decoded(2, np.zeros((0, 0, 3), np.uint8))
    failed = decoded(3, good.inputs[PIXELS])
    failed.fail(ErrorCode.INFERENCE_FAILED, "no number")
    pool = TimeoutPool(1)
    images = measure_images([good, bad, failed], [], Measuring(), pool, lambda shas: {})
    pool.shutdown()
    result = to_result(images)
    assert [picture.image_sha256 for picture in result.pictures] == ["1" * 64]
    assert [outcome.error_code for outcome in result.outcomes] == [None, None, ErrorCode.INFERENCE_FAILED]
