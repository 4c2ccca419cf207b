"""Which labels stored results give to an image, and how certain they are."""

import pytest

from tagmill.records import Mask
from tagmill.tasks.base import Task, task_named

SCORES = [("hat", 0.75), ("shoe", 0.5), ("sock", 0.125)]
MASKS = [Mask(label, "0", 8, 8, area, (0.0, 0.0, 1.0, 1.0), score) for label, area, score in
         [("sole", 0.3, 0.9), ("lace", 0.1, 0.5)]]  # fmt: skip


@pytest.mark.parametrize(
    ("task", "labels", "masks", "given", "certainty"),
    [
        ("classify", SCORES, [], ["hat"], 0.25),
        ("classify", SCORES[:1], [], ["hat"], 0.75),
        ("classify", [], [], [], None),
        ("multilabel", SCORES, [], ["hat", "shoe"], 0.0),
        ("multilabel", SCORES[2:], [], [], 0.75),
        ("segment", [], MASKS, ["sole", "lace"], 0.8),
        ("segment", [], [], [], None),
    ],
)
def test_a_task_says_what_is_given_and_how_certain_it_is(
    task: str, labels: list[tuple[str, float]], masks: list[Mask], given: list[str], certainty: float | None
) -> None:
    found: Task = task_named(task)
    assert [label for label, _ in found.given(labels, masks)] == given
    assert found.certainty(labels, masks) == (None if certainty is None else pytest.approx(certainty))
