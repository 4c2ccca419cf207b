"""Results of several runs and of the catalog: their order, their models, and what changed since."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from support.catalog import CatalogRun, answer, new_version, submit, work
from support.ledger import QUEUE, digest

from producer.output.extra_columns import ExtraColumn, Kind
from producer.output.image_result import ImageResult
from producer.output.read import pages
from producer.output.selection.query import ResultQuery
from producer.output.selection.result_set import select_results
from tagmill.errors import InputError
from tagmill.extra import make_extra
from tagmill.ledger.runs.create import create_run, requeue_images
from tagmill.records import Entry
from tagmill.registry.models import Model

KEYS = [f"key-{number}" for number in range(9)]


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "PAGE", 2)


def tag(engine: Engine, models: Sequence[Model], contents: dict[str, str | None]) -> CatalogRun:
    run = submit(engine, models, contents, batch_size=2)
    work(engine, run, contents)
    return run


def read(engine: Engine, query: ResultQuery) -> list[ImageResult]:
    """Return the results; every reading gives the same."""
    about = select_results(engine, query)
    found = list(about)
    assert list(about) == found
    return found


def keys(found: Sequence[ImageResult]) -> list[str]:
    return [one.image_key for one in found]


def test_several_runs_are_in_the_order_in_which_they_are_named(engine: Engine) -> None:
    shirts, hats = new_version(engine, "shirts"), new_version(engine, "hats")
    first = tag(engine, [shirts], dict.fromkeys(reversed(KEYS[:3]), "1"))
    second = tag(engine, [shirts, hats], {"key-1": "2", "key-8": None})
    found = read(engine, ResultQuery((second.id, first.id, second.id)))
    assert keys(found) == ["key-1", "key-8", "key-2", "key-1", "key-0"]
    assert [one.run_id for one in found] == [second.id] * 2 + [first.id] * 3
    assert list(found[0].models) == ["hats", "shirts"]
    assert list(found[2].models) == ["shirts"]
    only = read(engine, ResultQuery((second.id, first.id), models=("hats",)))
    assert [list(one.models) for one in only] == [["hats"], [], [], [], []]
    with pytest.raises(InputError, match="--model coats: these results are of hats@1, shirts@1"):
        select_results(engine, ResultQuery((second.id,), models=("coats",)))
    with pytest.raises(InputError, match="no run 77"):
        select_results(engine, ResultQuery((77,)))


def test_the_catalog_shows_the_newest_run_that_tagged_each_key_in_their_order(engine: Engine) -> None:
    shirts, hats = new_version(engine, "shirts"), new_version(engine, "hats")
    assert read(engine, ResultQuery()) == []
    first = tag(engine, [shirts, hats], dict.fromkeys(KEYS, "1"))
    newer = new_version(engine, "shirts")
    second = tag(engine, [newer], {"key-3": "1", "key-5": "2", "key-7": None})
    found = read(engine, ResultQuery())
    # The hats of key-5 were found on the bytes of before.
    assert keys(found) == [*KEYS[:6], "key-5", *KEYS[6:]]
    by_key = {(one.image_key, one.run_id): one for one in found}
    both = by_key["key-3", second.id]
    assert both.models == {"shirts": newer, "hats": hats}
    assert both.labels["shirts"][0][0] == answer("1", newer)
    assert (by_key["key-5", second.id].sha256, list(by_key["key-5", second.id].models)) == (digest("2"), ["shirts"])
    assert (by_key["key-5", first.id].sha256, list(by_key["key-5", first.id].models)) == (digest("1"), ["hats"])
    assert by_key["key-0", first.id].labels["shirts"][0][0] == answer("1", shirts)
    assert keys(read(engine, ResultQuery(models=("shirts@2",)))) == ["key-3", "key-5"]
    assert keys(read(engine, ResultQuery(labels=(answer("2", newer),)))) == ["key-5"]


def test_versions_that_a_run_compares_have_names_of_their_own(engine: Engine) -> None:
    old, new = new_version(engine, "shirts"), new_version(engine, "shirts")
    run = tag(engine, [old, new], {"key-1": "1"})
    later = tag(engine, [new], {"key-2": "1"})
    for query in (ResultQuery((run.id, later.id)), ResultQuery()):
        assert [name for name, _ in select_results(engine, query).models] == ["shirts@1", "shirts@2"]
        assert [list(one.models) for one in read(engine, query)] == [["shirts@1", "shirts@2"], ["shirts@2"]]


def test_since_a_time_or_a_run_gives_what_changed(engine: Engine) -> None:
    shirts = new_version(engine, "shirts")
    first = tag(engine, [shirts], {**dict.fromkeys(KEYS, "1"), "key-4": None})
    with engine.begin() as connection:
        connection.execute(text("UPDATE catalog_entry SET changed_at = 1000"))
        connection.execute(text("UPDATE batch SET finished_at = 1000 + seq"))
        connection.execute(text("UPDATE run SET created_at = 1000"))
    second = tag(engine, [shirts], {"key-1": "1", "key-2": "9", "key-3": None})
    assert keys(read(engine, ResultQuery(since=str(second.id)))) == ["key-2"]
    assert keys(read(engine, ResultQuery(since=str(first.id)))) == [*KEYS[:4], *KEYS[5:]]
    assert keys(read(engine, ResultQuery((first.id,), since="1970-01-01T00:16:42"))) == KEYS[4:]
    assert keys(read(engine, ResultQuery((first.id,), since="1970-01-01T00:16:43"))) == KEYS[6:]
    assert keys(read(engine, ResultQuery((first.id, second.id), since="1h"))) == ["key-1", "key-2", "key-3"]


def test_failed_images_are_read_alone(engine: Engine) -> None:
    run = tag(engine, [new_version(engine, "shirts")], {key: None if key > "key-3" else "1" for key in KEYS})
    found = read(engine, ResultQuery((run.id,), failed=True))
    assert keys(found) == KEYS[4:]
    assert {(one.status, one.error_code) for one in found} == {("failed", "corrupt")}
    assert read(engine, ResultQuery((run.id,), failed=True, since="1h")) == found
    assert found == [one for one in read(engine, ResultQuery((run.id,))) if one.status == "failed"]
    requeue_images(engine, run.id, [], QUEUE)
    work(engine, run, dict.fromkeys(KEYS, "1"), batches=1)
    assert len(read(engine, ResultQuery((run.id,), failed=True))) < 5
    with pytest.raises(InputError, match="--failed needs a run"):
        select_results(engine, ResultQuery(failed=True))


def test_further_columns_come_back_with_their_kinds(engine: Engine) -> None:
    columns = [
        {"sku": "7", "price": 3, "sizes": ["S"], "sale": True, "mixed": 1, "stock": 10**17, "id": 2**62},
        None,
        {"sku": "\uc0c1", "price": 2.5, "mixed": "a", "alpha": None, "beta": "x", "sale": False},
    ]
    entries = [Entry(f"key-{at}", f"/shop/{at}.jpg", make_extra(one or {})) for at, one in enumerate(columns)]
    model = new_version(engine, "shirts")
    run = CatalogRun(create_run(engine, "test", entries, [model], [Path("/shop")], 2, QUEUE), [model])
    work(engine, run, dict.fromkeys(KEYS, "1"))
    whole = [Kind.TEXT, Kind.NUMBER, Kind.TEXT, Kind.BOOLEAN, Kind.TEXT, Kind.INTEGER, Kind.NUMBER, Kind.TEXT]
    names = ["sku", "price", "sizes", "sale", "mixed", "stock", "id", "beta"]
    for query in (ResultQuery((run.id,)), ResultQuery()):
        about = select_results(engine, query)
        assert about.extra_columns == tuple(map(ExtraColumn, names, whole))
        assert [one.extra for one in about] == [entry.extra for entry in entries]
        assert not about.is_ascii
    tag(engine, [model], {"key-8": "1"})
    assert select_results(engine, ResultQuery((run.id + 1,))).extra_columns == ()
