"""Figures of predictions, against values worked out by hand."""

import subprocess
import sys

import numpy as np
import pytest

from tagmill.tasks.metrics import (
    IGNORE,
    calibration_error,
    chance_error,
    classification,
    mask_confusion,
    multilabel,
    segmentation,
    uncalibrated,
)

LABELS = ("red", "green", "blue")


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities float32."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def test_classifier_figures_are_over_the_labels_that_occur() -> None:
    scores = np.array([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1]], dtype=np.float32)
    found = classification(scores, np.array([0, 1, 1, 1]), LABELS)
    assert found["accuracy"] == 0.75
    assert found["per_class"] == {"red": 1.0, "green": 0.66667}
    assert found["macro_f1"] == pytest.approx((2 / 3 + 4 / 5) / 2, abs=1e-5)
    assert found["ece"] == pytest.approx((0.2 + 0.6 + 0.3 + 0.2) / 4, abs=1e-5)


def test_a_score_that_equals_the_share_of_right_predictions_has_no_calibration_error() -> None:
    scores = np.tile(np.array([[0.75, 0.25]], dtype=np.float32), (8, 1))
    targets = np.array([0, 0, 0, 1] * 2)
    assert calibration_error(scores, targets) == pytest.approx(0.0, abs=1e-6)
    assert calibration_error(scores, np.zeros(8, dtype=np.int64)) == pytest.approx(0.25)
    assert calibration_error(scores, np.ones(8, dtype=np.int64)) == pytest.approx(0.75)


def test_the_calibration_error_by_chance_shrinks_with_the_number_of_images() -> None:
    """The mean error of a bin of n images with probability p is sqrt(2 p (1 - p) / (pi n)) (half-normal)."""
    for images in (100, 10_000):
        expected = np.sqrt(2 * 0.8 * 0.2 / (np.pi * images))
        assert chance_error(np.full(images, 0.8, dtype=np.float32)) == pytest.approx(expected, rel=0.2)
    assert chance_error(np.ones(5, dtype=np.float32)) == 0.0


def test_the_error_of_calibrated_scores_is_the_error_by_chance() -> None:
    random = np.random.default_rng(3)
    best = random.uniform(0.5, 1.0, 400).astype(np.float32)
    scores = np.stack([best, 1 - best], axis=1)
    found = classification(scores, (random.random(400) > best).astype(np.int64), ("red", "green"))
    assert found["ece"] == pytest.approx(found["ece_by_chance"], abs=0.02)
    assert found["ece_by_chance"] > 0.02


def test_errors_of_opposite_sign_cancel_only_within_a_bin() -> None:
    scores = np.array([[0.95, 0.05], [0.96, 0.04], [0.55, 0.45]], dtype=np.float32)
    targets = np.array([0, 1, 1])
    assert calibration_error(scores, targets) == pytest.approx((1.91 - 1 + 0.55) / 3, abs=1e-6)
    assert calibration_error(scores, targets, bins=1) == pytest.approx((0.95 + 0.96 + 0.55 - 1) / 3, abs=1e-6)


def test_scores_of_0_and_1_belong_to_the_first_and_the_last_bin() -> None:
    assert calibration_error(np.array([[0.0, 1.0]], dtype=np.float32), np.array([[0, 1]])) == 0.0
    assert calibration_error(np.empty((0, 2), dtype=np.float32), np.empty(0, dtype=np.int64)) == 0.0


def test_multilabel_scores_are_measured_by_average_precision() -> None:
    scores = np.array([[0.9, 0.2, 0.1], [0.8, 0.6, 0.1], [0.3, 0.7, 0.1], [0.1, 0.1, 0.1]], dtype=np.float32)
    targets = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 0]], dtype=np.uint8)
    found = multilabel(scores, targets, LABELS)
    # red: right at ranks 1 and 3, so (1 + 2/3) / 2; green: right at ranks 1 and 2; blue does not occur
    assert found["per_class_ap"] == {"red": 0.83333, "green": 1.0}
    assert found["mean_ap"] == pytest.approx(0.916665, abs=1e-5)
    assert found["macro_f1"] == pytest.approx((2 * 1 / 4 + 1) / 2, abs=1e-5)
    assert found["images"] == 4
    assert 0 < found["ece"] < 1


def test_images_without_any_label_have_no_average_precision() -> None:
    found = multilabel(np.full((2, 3), 0.5, dtype=np.float32), np.zeros((2, 3), dtype=np.uint8), LABELS)
    assert (found["mean_ap"], found["macro_f1"], found["per_class_ap"]) == (0.0, 0.0, {})


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_the_scores_at_temperature_1_are_recovered(temperature: float) -> None:
    logits = np.random.default_rng(0).normal(scale=3, size=(200, 4))
    assert np.allclose(uncalibrated(softmax(logits / temperature), temperature), softmax(logits), atol=1e-5)
    single = (1 / (1 + np.exp(-logits / temperature))).astype(np.float32)
    # float32 holds few digits of 1 - score near 1, and the power enlarges that error
    assert np.allclose(uncalibrated(single, temperature, multilabel=True), 1 / (1 + np.exp(-logits)), atol=2e-3)


def test_scores_of_0_and_1_stay_finite_without_their_temperature() -> None:
    scores = np.array([[0.0, 1.0]], dtype=np.float32)
    for multi in (False, True):
        found = uncalibrated(scores, 3.0, multi)
        assert np.isfinite(found).all()
        assert found == pytest.approx(scores, abs=1e-6)


def test_ignored_pixels_are_not_counted() -> None:
    table = mask_confusion(np.zeros((2, 8), dtype=np.uint8), np.full((2, 8), IGNORE, dtype=np.uint8), 3)
    assert table.sum() == 0
    assert segmentation(table, LABELS, 2)["mean_iou"] == 0.0


def test_a_label_without_true_pixels_is_left_out_even_if_it_is_predicted() -> None:
    masks, predicted = np.zeros((1, 8), dtype=np.uint8), np.zeros((1, 8), dtype=np.uint8)
    masks[0, 4:], predicted[0, 4:], predicted[0, 0] = 1, 1, 2
    found = segmentation(mask_confusion(predicted, masks, 3), LABELS, 1)
    assert found["per_class_iou"] == {"red": 0.75, "green": 1.0}
    assert found["mean_iou"] == 0.875
    assert found["pixel_accuracy"] == 0.875


def test_figures_are_imported_without_torch_and_scikit_learn() -> None:
    script = "import sys, tagmill.tasks.metrics; sys.exit('torch' in sys.modules or 'sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_classifier_of_more_than_255_labels_is_measured_on_all_of_them() -> None:
    scores, targets = np.eye(300, dtype=np.float32), np.arange(300)
    scores[255] = scores[0]
    found = classification(scores, targets, [f"label {number}" for number in range(300)])
    assert found["accuracy"] == pytest.approx(299 / 300, abs=1e-5)
    assert found["per_class"]["label 255"] == 0.0
