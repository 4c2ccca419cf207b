"""Which images and labels a query leaves, and that no URL shows its secrets."""

from collections.abc import Iterable
from dataclasses import replace

import pytest

from producer.output.image_result import ImageResult
from producer.output.selection.filters import require_thresholds, result_filter
from producer.output.selection.query import ResultQuery, since_run, since_time
from producer.output.shown import shown_extra
from tagmill.errors import InputError
from tagmill.extra import make_extra, parse_extra
from tagmill.records import Mask
from tagmill.registry.models import Model
from tagmill.where import Where

ONE = Model(1, "1" * 64, "one", 1, "classify", ("hat", "shoe"), {"thresholds": {"hat": 0.6}}, {}, "candidate")
MANY = replace(ONE, id=2, name="many", task="multilabel", spec={"thresholds": {"red": 0.3, "blue": 0.9}})
PLAIN = replace(ONE, id=3, name="plain", task="segment", spec={})


def mask(label: str, score: float) -> Mask:
    return Mask(label, "00", 8, 8, 0.5, (0.0, 0.0, 8.0, 8.0), score)


def image(key: str, hat: float = 0.7, uri: str = "/a.jpg", extra: str | None = None) -> ImageResult:
    best = sorted([("hat", hat), ("shoe", 1 - hat)], key=lambda one: -one[1])
    labels = {"one": best, "many": [("red", 0.8), ("blue", 0.8), ("green", 0.7)]}
    models = {"one": ONE, "many": MANY, "plain": PLAIN}
    facts = ("tagged", None, None, "1" * 64, 8, 8)
    return ImageResult(0, key, uri, *facts, labels, {"plain": [mask("sleeve", 0.5)]}, models, extra=extra)


FAILED = ImageResult(1, "f", "/f.jpg", "failed", "corrupt", "no image", None, None, None)


def kept(query: ResultQuery, images: Iterable[ImageResult]) -> list[ImageResult]:
    return list(result_filter(query)(images))


def test_without_conditions_everything_stays() -> None:
    assert kept(ResultQuery(), [image("a"), FAILED]) == [image("a"), FAILED]


def test_lower_scores_are_left_out_and_the_images_stay() -> None:
    found, failed = kept(ResultQuery(min_score=0.75), [image("a"), FAILED])
    assert found.labels == {"many": [("red", 0.8), ("blue", 0.8)]}
    assert found.masks == {}
    assert failed == FAILED


@pytest.mark.parametrize(("hat", "given"), [(0.7, [("hat", 0.7)]), (0.55, None), (0.2, None)])
def test_thresholds_leave_the_best_label_of_one_and_any_label_of_many(
    hat: float, given: list[tuple[str, float]] | None
) -> None:
    """A label without a threshold was never right often enough; a model without any keeps what it said."""
    (found,) = kept(ResultQuery(thresholds=True), [image("a", hat)])
    assert found.labels.get("one") == given
    assert found.labels["many"] == [("red", 0.8)]
    assert [one.label for one in found.masks["plain"]] == ["sleeve"]


def test_thresholds_of_models_that_have_none_are_refused() -> None:
    require_thresholds([PLAIN, ONE])
    with pytest.raises(InputError, match="suggested none for plain@1; use --min-score"):
        require_thresholds([PLAIN])


@pytest.mark.parametrize(
    ("labels", "least", "keys"),
    [(("hat",), None, "ab"), (("hat",), 0.6, "a"), (("sleeve",), None, "ab"), (("coat", "shoe"), 0.6, "b")],
)
def test_images_with_one_of_the_labels_stay_whole(labels: tuple[str, ...], least: float | None, keys: str) -> None:
    found = kept(ResultQuery(labels=labels, min_score=least), [image("a"), image("b", 0.3), FAILED])
    assert [one.image_key for one in found] == list(keys)
    assert all("many" in one.labels for one in found)


def test_conditions_on_further_columns_choose_images_failed_ones_too() -> None:
    images = [image("a", extra='{"brand":"Acme"}'), image("b"), replace(FAILED, extra='{"brand":"Acme"}')]
    found = kept(ResultQuery(where=Where.parse(["brand=Acme"])), images)
    assert [one.image_key for one in found] == ["a", "f"]


def test_a_url_shows_no_login_and_no_signature_unless_it_is_asked_for() -> None:
    signed = "https://anna:s3cret@cdn.example/1.jpg?w=2&X-Amz-Signature=5ig"
    (found,) = kept(ResultQuery(), [image("a", uri=signed)])
    assert found.uri == "https://***@cdn.example/1.jpg?w=2&X-Amz-Signature=***"
    plain = {"brand": "Acme", "page": "https://shop.example/1", "price": 5}
    extra = make_extra(plain | {"more": [signed, "x"], "of": {"thumbnail": signed}})
    shown = shown_extra(extra)
    assert shown is not None
    assert "5ig" not in shown
    assert parse_extra(shown) == plain | {"more": [found.uri, "x"], "of": {"thumbnail": found.uri}}
    assert shown_extra(make_extra(plain)) == make_extra(plain)
    (found,) = kept(ResultQuery(full_urls=True), [image("a", uri=signed)])
    assert found.uri == signed


def test_since_is_a_run_an_age_or_a_time() -> None:
    assert (since_run("12"), since_run("2d"), since_run("2026-11-30")) == (12, None, None)
    now = 1_800_000_000.0
    assert since_time("90s", now) == now - 90
    assert since_time(" 2D ", now) == now - 2 * 86400
    assert since_time("2027-01-15T17:00:00+09:00", now) == since_time("2027-01-15 08:00", now) == now
    with pytest.raises(InputError, match="--since yesterday: give a run, an age such as 12h or 2d, or a time"):
        since_time("yesterday", now)
