"""How often a model is right, and what it confuses."""

import pytest

from producer.report.measure.accuracy import MATRIX_LABELS, Accuracy


def measured(pairs: list[tuple[list[str], tuple[str, ...]]], *, multilabel: bool = False) -> Accuracy:
    accuracy = Accuracy(("a", "b", "c"), multilabel=multilabel)
    for given, truth in pairs:
        accuracy.add(given, truth)
    return accuracy


def test_the_accuracy_has_the_interval_of_wilson() -> None:
    share = measured([(["a"], ("a",))] * 8 + [(["b"], ("a",))] * 2).share
    assert share.value == 0.8
    # Newcombe 1998, table of score intervals: 8 of 10.
    assert share.interval == pytest.approx((0.4902, 0.9433), abs=1e-4)


def test_the_most_frequent_mix_up_is_first_with_its_share_of_the_truth() -> None:
    accuracy = measured([(["b"], ("a",))] * 3 + [(["a"], ("a",))] * 3 + [(["a"], ("c",)), ([], ("c",))])
    first, *others = accuracy.pairs()
    assert (first.true, first.given, first.images, first.share) == ("a", "b", 3, 0.5)
    assert {(pair.true, pair.given) for pair in others} == {("c", "a"), ("c", "")}
    assert accuracy.matrix() == (["a", "b", "c"], [[3, 3, 0], [0, 0, 0], [1, 0, 0]])
    assert [(label, recall.value) for label, recall, _ in accuracy.by_label()] == [("c", 0.0), ("a", 0.5), ("b", None)]


def test_a_classifier_is_right_with_one_of_several_true_labels_and_a_tagger_with_all_alone() -> None:
    both = [(["a"], ("a", "b"))]
    assert measured(both).share.right == 1
    assert measured(both, multilabel=True).share.right == 0
    assert measured([(["b", "a"], ("a", "b"))], multilabel=True).share.right == 1


def test_a_truth_that_the_model_does_not_know_is_wrong_and_counted() -> None:
    accuracy = measured([(["a"], ("d",))])
    assert (accuracy.unknown, accuracy.share.right) == (1, 0)


def test_there_is_no_matrix_of_very_many_labels_but_their_mix_ups() -> None:
    accuracy = measured([([f"{n}"], (f"{n + 1}",)) for n in range(MATRIX_LABELS)])
    assert accuracy.matrix() is None
    assert len(accuracy.pairs()) == MATRIX_LABELS
