"""Which images a page shows of a run that has more."""

from producer.report.measure.selection import Selected, Selection


def selected(images: int, limit: int, seed: int = 0) -> Selected:
    """Every tenth image failed, every seventh is wrong, and the certainty falls with the position."""
    selection = Selection(limit, seed)
    for position in range(images):
        failed = position % 10 == 0
        certainty = None if failed else 1 - position / images
        selection.add(position, certainty, failed=failed, wrong=not failed and position % 7 == 0)
    return selection.chosen()


def test_all_images_are_shown_up_to_the_limit() -> None:
    found = selected(200, 200)
    assert found.everything
    assert sorted(found.positions) == list(range(200))


def test_failures_mistakes_and_the_least_certain_are_kept_and_the_rest_is_drawn() -> None:
    found = selected(10_000, 500)
    assert not found.everything
    assert len(found.positions) == 500 == found.failed + found.wrong + found.uncertain + found.drawn
    assert (found.failed, found.wrong) == (50, 100)
    tagged = [position for position in range(9_870, 10_000) if position % 10]
    assert set(tagged[-100:]) <= set(found.positions)
    assert found.drawn > 200


def test_the_same_seed_draws_the_same_images_and_another_one_others() -> None:
    assert selected(2_000, 100).positions == selected(2_000, 100).positions
    assert selected(2_000, 100).positions != selected(2_000, 100, seed=1).positions


def test_no_image_is_shown_if_none_is_wanted() -> None:
    assert selected(100, 0).positions == set()
