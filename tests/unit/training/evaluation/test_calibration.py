"""Temperature scaling and suggested thresholds."""

import numpy as np
import pytest

from tagmill.tasks.metrics import calibration_error
from training.evaluation.calibration import fit_temperature, probabilities, suggest_thresholds


def calibrated_logits(count: int = 4000, labels: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return logits, and targets that are drawn from their probabilities: calibrated at temperature 1."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (count, labels)).astype(np.float32)
    chances = probabilities(logits, 1.0).astype(np.float64)
    targets = np.array([random.choice(labels, p=row / row.sum()) for row in chances])
    return logits, targets


@pytest.mark.parametrize("factor", [0.25, 1.0, 3.0])
def test_the_temperature_undoes_a_factor_in_the_logits(factor: float) -> None:
    logits, targets = calibrated_logits()
    assert fit_temperature(logits * np.float32(factor), targets) == pytest.approx(factor, rel=0.08)


def test_calibration_lowers_the_error_and_keeps_the_best_label() -> None:
    logits, targets = calibrated_logits()
    overconfident = logits * np.float32(4)
    before, after = (
        probabilities(overconfident, 1.0),
        probabilities(overconfident, fit_temperature(overconfident, targets)),
    )
    assert calibration_error(before, targets) > 0.15
    assert calibration_error(after, targets) < 0.03
    assert np.array_equal(before.argmax(1), after.argmax(1))


def test_multilabel_scores_have_one_temperature() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (3000, 4)).astype(np.float32)
    targets = (random.random(logits.shape) < probabilities(logits, 1.0, multilabel=True)).astype(np.uint8)
    assert fit_temperature(logits * np.float32(2), targets) == pytest.approx(2.0, rel=0.1)


def test_without_images_the_temperature_is_1() -> None:
    assert fit_temperature(np.empty((0, 3), np.float32), np.empty(0, np.int64)) == 1.0


def test_predictions_above_a_suggested_threshold_have_the_precision() -> None:
    logits, targets = calibrated_logits()
    scores = probabilities(logits, 1.0)
    labels = ["a", "b", "c", "d", "e"]
    found = suggest_thresholds(scores, targets, labels, precision=0.9)
    assert set(found) == set(labels)
    for number, label in enumerate(labels):
        given = (scores.argmax(1) == number) & (scores[:, number] >= found[label])
        assert (targets[given] == number).mean() >= 0.89  # the threshold is rounded down by up to a thousandth


def test_a_label_that_is_never_right_has_no_threshold() -> None:
    scores = np.array([[0.9, 0.1], [0.8, 0.2]], dtype=np.float32)
    assert suggest_thresholds(scores, np.array([1, 1]), ["a", "b"]) == {}
