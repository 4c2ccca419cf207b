"""What a label set says of embeddings, and its bytes."""

from dataclasses import replace

import numpy as np
import pytest

from tagmill.errors import BundleError
from tagmill.labelsets.label_set import LabelSet, Threshold, softmax

AXES = np.eye(4, dtype=np.float32)
PLAIN = LabelSet("goods", ("hat", "shoe"), "0" * 64, AXES[:2], temperature=0.25)


def test_the_scores_are_a_softmax_of_cosines_for_vectors_of_unit_length() -> None:
    vector = np.array([[0.6, 0.8, 0, 0]], np.float32)
    found = PLAIN.label(vector, 5)
    assert found.labels.tolist() == [[1, 0]]
    assert found.scores[0] == pytest.approx(softmax(np.array([[0.8, 0.6]]) / 0.25)[0])


def test_a_projection_is_applied_before_distances_are_measured() -> None:
    stretched = replace(PLAIN, projection=np.diag([1, 1, 3, 0]).astype(np.float32))
    vector = np.array([[0.5, 0, 1, 7]], np.float32)
    assert stretched.width == 4
    assert stretched.distances(vector)[0] == pytest.approx([0.25 + 9, 0.25 + 1 + 9])


def test_unknown_comes_first_where_no_category_is_near_and_takes_the_scores_of_the_others() -> None:
    found = replace(PLAIN, unknown=Threshold(distance=1.0, rate=0.1)).label(np.stack([AXES[0], 3 * AXES[2]]), 5)
    assert found.labels.tolist() == [[0, 1, -1], [2, 0, 1]]
    assert found.scores[0, 0] == PLAIN.label(AXES[:1], 5).scores[0, 0]
    assert found.scores[1, 0] == pytest.approx(1 - 0.1 / 10)
    assert found.scores[1].sum() == pytest.approx(1)
    assert (np.diff(found.scores) <= 0).all()


def test_unknown_takes_the_last_place_of_many_labels() -> None:
    many = LabelSet("many", tuple("abcdef"), "0" * 64, np.eye(6, dtype=np.float32), unknown=Threshold(0.5, 0.05))
    found = many.label(np.stack([np.eye(6, dtype=np.float32)[3], np.full(6, 5, np.float32)]), 5)
    assert found.labels.shape == (2, 5)
    assert found.labels[0, 0] == 3
    assert found.labels[1, 0] == 6
    assert many.all_labels[6] == "unknown"


def test_the_score_of_unknown_grows_with_the_distance() -> None:
    scores = Threshold(2.0, 0.05).score(np.array([2, 4, 1e9], np.float32))
    assert scores.tolist() == pytest.approx([0.95, 0.975, 1.0])


@pytest.mark.parametrize("projection", [None, AXES[:, :4]])
def test_bytes_hold_all_of_a_label_set_and_name_it(projection: np.ndarray | None) -> None:
    made = replace(PLAIN, projection=projection, unknown=Threshold(0.5, 0.05), provenance={"examples": {"count": 2}})
    read = LabelSet.from_bytes(made.to_bytes())
    assert read.to_bytes() == made.to_bytes()
    assert (read.labels, read.base, read.temperature, read.unknown) == (made.labels, made.base, 0.25, made.unknown)
    assert (read.prototypes == made.prototypes).all()
    assert read.sha256 == made.sha256 != replace(made, name="other").sha256


@pytest.mark.parametrize("content", [b"", b"{}\n", b'{"tagmill_label_set": 9}\n', b"\xff\n"])
def test_other_bytes_are_refused_with_what_to_do(content: bytes) -> None:
    with pytest.raises(BundleError, match="upgrade Tagmill"):
        LabelSet.from_bytes(content)
