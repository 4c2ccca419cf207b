"""Label sets of drawn embeddings: how good, how calibrated, how much is unknown."""

import numpy as np
import pytest
from numpy.typing import NDArray

from tagmill.labelsets.fit import CLIP_TEMPERATURE, fit_examples, use_vectors
from tagmill.labelsets.gaussians import Examples, Gaussians, fit_gaussians
from tagmill.labelsets.held_out import DEFAULT_TEMPERATURE, hold_out
from tagmill.labelsets.label_set import LabelSet, squared_distances

LABELS = ("bag", "cap", "hat", "shoe")
WIDTH = 24
#: spread within a category: large in a few directions that say nothing of the category
SPREAD = np.array([1.5] * 4 + [0.25] * (WIDTH - 4))
MEANS = np.random.default_rng(0).normal(size=(len(LABELS), WIDTH)) * ([0.1] * 4 + [0.3] * (WIDTH - 4))
NOTHING = np.zeros((0, WIDTH), np.float32)


def draw(each: int, seed: int, means: NDArray[np.float64] = MEANS) -> Examples:
    """Return `each` embeddings of every category."""
    targets = np.repeat(np.arange(len(means)), each)
    noise = np.random.default_rng(seed).normal(size=(len(targets), WIDTH)) * SPREAD
    return Examples((means[targets] + noise).astype(np.float32), targets)


def fit(examples: Examples, catalog: NDArray[np.float32] = NOTHING, rate: float = 0.05) -> LabelSet:
    return fit_examples("goods", LABELS, "0" * 64, examples, catalog, rate, {})


def accuracy(fitted: Gaussians, test: Examples) -> float:
    distances = squared_distances(test.vectors @ fitted.projection, fitted.prototypes)
    return float((distances.argmin(axis=1) == test.targets).mean())


def test_the_catalog_makes_few_examples_worth_more() -> None:
    test, catalog = draw(100, 1), draw(100, 2).vectors
    few = [draw(5, seed) for seed in range(3, 8)]
    alone = np.mean([accuracy(fit_gaussians(examples, NOTHING), test) for examples in few])
    helped = np.mean([accuracy(fit_gaussians(examples, catalog), test) for examples in few])
    nearest = np.mean([accuracy(_nearest_mean(examples), test) for examples in few])
    assert nearest < alone < helped
    assert helped > 0.7


def _nearest_mean(examples: Examples) -> Gaussians:
    means = [examples.vectors[examples.targets == number].mean(axis=0) for number in range(len(LABELS))]
    return Gaussians(np.stack(means), np.eye(WIDTH))


def test_about_the_wished_share_of_known_images_is_unknown_and_most_of_what_is_strange() -> None:
    catalog, known = draw(100, 2).vectors, draw(500, 9).vectors
    strange = draw(100, 10, MEANS + np.random.default_rng(11).normal(size=MEANS.shape) * 0.7).vectors
    made = fit(draw(20, 3), catalog, rate=0.1)
    share = float((made.label(known, 5).labels[:, 0] == len(LABELS)).mean())
    assert 0.03 < share < 0.25
    assert (made.label(strange, 5).labels[:, 0] == len(LABELS)).mean() > 0.9
    assert fit(draw(20, 3), catalog, rate=0).unknown is None


def test_the_scores_are_about_as_certain_as_they_are_right() -> None:
    test = draw(500, 1)
    made = fit(draw(20, 3), rate=0)
    found = made.label(test.vectors, 5)
    right = (found.labels[:, 0] == test.targets).mean()
    assert found.scores[:, 0].mean() == pytest.approx(right, abs=0.08)


def test_one_example_a_category_leaves_nothing_to_hold_out() -> None:
    for catalog in (NOTHING, draw(50, 2).vectors):
        made = fit(draw(1, 3), catalog)
        assert (made.unknown, made.temperature) == (None, DEFAULT_TEMPERATURE)
        assert made.provenance["held_out"] == {"count": 0, "accuracy": None}
        assert np.isfinite(made.distances(draw(5, 4).vectors)).all()


def test_categories_may_have_different_numbers_of_examples() -> None:
    examples = draw(30, 3)
    kept = np.ones(len(examples.targets), bool)
    kept[1:30] = False  # one of the first category, 30 of the others
    held_out = hold_out(examples.at(kept), NOTHING)
    assert np.bincount(held_out.targets).tolist() == [0, 30, 30, 30]
    assert held_out.accuracy > 0.5


def test_equal_examples_are_no_error() -> None:
    same = Examples(np.repeat(MEANS.astype(np.float32), 3, axis=0), np.repeat(np.arange(len(LABELS)), 3))
    made = fit(same, NOTHING)
    assert made.label(MEANS.astype(np.float32), 5).labels[:, 0].tolist() == [0, 1, 2, 3]


def test_vectors_are_compared_by_their_cosine_and_the_catalog_gives_the_threshold() -> None:
    catalog = draw(100, 2).vectors
    catalog /= np.linalg.norm(catalog, axis=1, keepdims=True)
    made = use_vectors("texts", LABELS, "0" * 64, 7 * MEANS.astype(np.float32), catalog, 0.2, CLIP_TEMPERATURE, {})
    assert np.linalg.norm(made.prototypes, axis=1) == pytest.approx(1)
    assert (made.label(catalog, 5).labels[:, 0] == len(LABELS)).mean() == pytest.approx(0.2, abs=0.01)
    few = use_vectors("texts", LABELS, "0" * 64, MEANS.astype(np.float32), catalog[:20], 0.2, CLIP_TEMPERATURE, {})
    assert few.unknown is None
