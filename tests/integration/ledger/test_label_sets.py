"""Label sets over embeddings in SQL: results and catalog as of any model, again and again, by several at once."""

from collections.abc import Iterator
from dataclasses import replace
from threading import Barrier, Thread

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import Engine, make_url, text
from support.embeddings import embedding_model, store, unit

from producer.output.read.models import run_models
from producer.output.selection.query import ResultQuery
from producer.output.selection.result_set import select_results
from tagmill.db.connection import connect
from tagmill.db.migrate import upgrade
from tagmill.db.roles import Kind, grant_role
from tagmill.errors import InputError, NothingToDo
from tagmill.labelsets.label_set import LabelSet, Threshold
from tagmill.ledger.catalog import rebuild
from tagmill.ledger.labels import apply as applying
from tagmill.ledger.labels.apply import Applied, apply_label_set
from tagmill.ledger.labels.examples import catalog_sample, embeddings_of_keys
from tagmill.ledger.labels.rows import ResultWriter
from tagmill.registry.label_sets import RegisteredLabelSet, base_model, load_label_set, register_label_set
from tagmill.registry.models import Model, resolve_bundle
from tagmill.registry.rollout.production import promote

WIDTH = 8
#: one direction for each label
AXES = np.eye(WIDTH, dtype=np.float32)
FAR = Threshold(distance=1.0, rate=0.05)


def near(axis: int, number: int = 0) -> NDArray[np.float32]:
    """Return an embedding near an axis; each number gives another one."""
    return unit(AXES[axis] + 0.05 * np.random.default_rng([axis, number]).normal(size=WIDTH))


def label_set(
    engine: Engine, base: Model, labels: tuple[str, ...] = ("hat", "shoe"), name: str = "goods", **changes: object
) -> RegisteredLabelSet:
    """Register a label set whose labels are the first axes."""
    made = LabelSet(name, labels, base.sha256, AXES[: len(labels)], None, 0.1, FAR)
    register_label_set(engine, replace(made, **changes), base)  # type: ignore[arg-type]
    return load_label_set(engine, name)


def apply(engine: Engine, found: RegisteredLabelSet, *runs: int) -> Applied:
    return apply_label_set(engine, found, runs, "host:1")


def shown(engine: Engine, name: str = "goods") -> dict[str, tuple[str, int, int]]:
    """Return key -> best label, version and run that the catalog shows."""
    statement = text("SELECT image_key, label, version, run_id FROM catalog_labels WHERE rank = 1 AND model = :name")
    with engine.connect() as connection:
        return {row[0]: tuple(row[1:]) for row in connection.execute(statement, {"name": name})}  # type: ignore[misc]


def catalog_rows(engine: Engine) -> list[tuple[object, ...]]:
    with engine.connect() as connection:
        return [
            tuple(row) for row in connection.execute(text("SELECT * FROM catalog_entry ORDER BY image_key, name_id"))
        ]


def test_what_has_an_embedding_is_labeled_and_shown_like_the_result_of_any_model(stored: Engine) -> None:
    base = embedding_model(stored, WIDTH)
    store(stored, base, {"a": near(0), "b": near(1), "c": near(5)})
    done = apply(stored, label_set(stored, base))
    assert done == Applied(images=3, labeled=3, unknown=1, shown=3)
    assert shown(stored) == {"a": ("hat", 1, 1), "b": ("shoe", 1, 1), "c": ("unknown", 1, 1)}
    for query in (ResultQuery(models=("goods",)), ResultQuery(runs=(1,), models=("goods",))):
        found = {one.image_key: one.labels["goods"] for one in select_results(stored, query)}
        assert [label for label, _ in found["a"]] == ["hat", "shoe"]
        assert found["c"][0][0] == "unknown"
        assert sum(score for _, score in found["c"]) == pytest.approx(1)
    only = select_results(stored, ResultQuery(models=("goods",), labels=("unknown",)))
    assert [one.image_key for one in only] == ["c"]


def test_a_second_call_does_what_is_missing_and_no_more(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applying, "CHUNK", 2)
    base = embedding_model(engine, WIDTH)
    store(engine, base, {f"{axis}-{number}": near(axis, number) for axis in (0, 1) for number in range(3)})
    goods = label_set(engine, base)
    assert apply(engine, goods).labeled == 6
    before = catalog_rows(engine)
    assert apply(engine, goods) == Applied(images=6)
    assert catalog_rows(engine) == before
    # A new image, and a new key with the bytes of an image that is labeled already.
    store(engine, base, {"new": near(1, 9), "copy": near(0, 1)})
    assert apply(engine, goods) == Applied(images=7, labeled=1, shown=2)
    assert shown(engine)["new"] == ("shoe", 1, 2)
    assert shown(engine)["copy"] == ("hat", 1, 2)


def test_a_call_that_was_killed_is_continued(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applying, "CHUNK", 2)
    base = embedding_model(engine, WIDTH)
    store(engine, base, {str(number): near(0, number) for number in range(5)})
    goods = label_set(engine, base)

    def stop(done: int, total: int) -> None:
        assert total == 5
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        apply_label_set(engine, goods, (), "host:1", stop)
    assert len(shown(engine)) == 4
    assert apply(engine, goods) == Applied(images=5, labeled=1, shown=1)


def test_a_new_version_replaces_what_is_shown_and_an_old_one_can_be_applied_again(engine: Engine) -> None:
    base = embedding_model(engine, WIDTH)
    store(engine, base, {"a": near(0), "b": near(1)})
    first = label_set(engine, base)
    apply(engine, first)
    second = label_set(engine, base, ("cap", "boot"))
    assert second.model.title == "goods@2"
    apply(engine, second)
    assert shown(engine) == {"a": ("cap", 2, 1), "b": ("boot", 2, 1)}
    assert [found.title for found in run_models(engine, 1)] == ["goods@2", "looks@1"]
    promote(engine, "goods@1")
    apply(engine, load_label_set(engine, "goods"))
    assert shown(engine) == {"a": ("hat", 1, 1), "b": ("shoe", 1, 1)}
    assert [found.title for found in run_models(engine, 1)] == ["goods@1", "looks@1"]


def test_rebuilding_the_catalog_changes_nothing_of_label_sets(engine: Engine) -> None:
    base = embedding_model(engine, WIDTH)
    store(engine, base, {"a": near(0), "b": near(1)})
    for labels in (("hat", "shoe"), ("cap", "boot")):
        apply(engine, label_set(engine, base, labels))
    apply(engine, label_set(engine, base, name="further"))
    store(engine, base, {"a": near(1, 4)})  # a newer run, which no label set was applied to
    before = catalog_rows(engine)
    assert len(before) == 6
    assert rebuild(engine) == 6
    assert catalog_rows(engine) == before
    apply(engine, load_label_set(engine, "goods"))
    assert shown(engine)["a"] == ("boot", 2, 2)
    before = catalog_rows(engine)
    rebuild(engine)
    assert catalog_rows(engine) == before


def test_only_the_images_of_a_run_are_labeled_on_request(engine: Engine) -> None:
    base = embedding_model(engine, WIDTH)
    store(engine, base, {"a": near(0), "b": near(1)})
    store(engine, base, {"c": near(1, 2)})
    goods = label_set(engine, base)
    assert apply(engine, goods, 2) == Applied(images=1, labeled=1, shown=1)
    assert list(shown(engine)) == ["c"]
    other = embedding_model(engine, WIDTH, "other")
    store(engine, other, {"d": near(0)})
    with pytest.raises(InputError, match="run 3 was not tagged with looks@1"):
        apply(engine, goods, 3)
    with pytest.raises(InputError, match="no run 9"):
        apply(engine, goods, 9)
    with pytest.raises(NothingToDo, match="tag the catalog"):
        apply(engine, label_set(engine, embedding_model(engine, WIDTH, "unused"), name="idle"))


@pytest.mark.parametrize("stored", ["halfvec"], indirect=True)
def test_two_calls_at_the_same_time_write_each_result_once(stored: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applying, "CHUNK", 50)
    base = embedding_model(stored, WIDTH)
    store(stored, base, {str(number): near(number % 3, number) for number in range(500)})
    goods, start, done = label_set(stored, base), Barrier(2), list[Applied]()

    def work() -> None:
        start.wait()
        done.append(apply(stored, goods))

    threads = [Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.images for one in done] == [500, 500]
    assert sum(one.labeled for one in done) == 500
    assert len(shown(stored)) == 500


def test_a_result_that_another_call_wrote_meanwhile_stays(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    base = embedding_model(engine, WIDTH)
    store(engine, base, {"a": near(0), "b": near(5)})
    goods = label_set(engine, base)
    apply(engine, goods)
    store(engine, base, {"c": near(6)})
    # Both calls found the same images without a result.
    monkeypatch.setattr(ResultWriter, "missing", lambda self, connection, ids: (ids, {}))
    assert apply(engine, goods) == Applied(images=3, labeled=1, unknown=1, shown=1)
    assert len(shown(engine)) == 3


@pytest.fixture
def producer(postgres_url: str) -> Iterator[Engine]:
    """An engine of a role that may do what a producer may, on a database with a model and two images."""
    owner = connect(postgres_url)
    upgrade(owner)
    store(owner, embedding_model(owner, WIDTH), {"a": near(0), "b": near(1)})
    with owner.begin() as connection:
        connection.execute(text("CREATE ROLE labeler LOGIN"))
        grant_role(connection, Kind.PRODUCER, "labeler")
    engine = connect(make_url(postgres_url).set(username="labeler").render_as_string())
    yield engine
    engine.dispose()
    with owner.begin() as connection:
        connection.execute(text("DROP OWNED BY labeler"))
        connection.execute(text("DROP ROLE labeler"))
    owner.dispose()


def test_the_role_of_producers_creates_and_applies_label_sets(producer: Engine) -> None:
    base = base_model(producer, "looks")
    for labels in (("hat", "shoe"), ("cap", "boot")):
        assert apply(producer, label_set(producer, base, labels)).shown == 2
    assert shown(producer) == {"a": ("cap", 2, 1), "b": ("boot", 2, 1)}


def test_a_label_set_is_no_model_for_workers(engine: Engine) -> None:
    base = embedding_model(engine, WIDTH)
    label_set(engine, base)
    with pytest.raises(InputError, match=r"goods@1 is a label set.*--model looks@1.*labelset apply goods"):
        resolve_bundle(engine, "goods")
    with pytest.raises(InputError, match="name its model: --model looks@1"):
        base_model(engine, "goods")
    with pytest.raises(InputError, match="looks@1 is a model and no label set"):
        load_label_set(engine, "looks")


def test_a_name_belongs_to_bundles_or_to_label_sets(engine: Engine) -> None:
    base = embedding_model(engine, WIDTH)
    with pytest.raises(InputError, match="looks is the name of a model with a bundle"):
        label_set(engine, base, name="looks")
    goods = label_set(engine, base)
    assert label_set(engine, base).model == goods.model  # the same content is the same version
    with pytest.raises(InputError, match="goods is the name of a label set"):
        embedding_model(engine, WIDTH, "goods")


def test_examples_and_a_sample_come_from_the_catalog(stored: Engine) -> None:
    base = embedding_model(stored, WIDTH)
    vectors = {str(number): near(number % 2, number) for number in range(9)}
    store(stored, base, vectors)
    store(stored, base, {"0": near(3, 7)})  # what the catalog shows now
    found = embeddings_of_keys(stored, base.id, ["0", "4", "missing"])
    assert sorted(found) == ["0", "4"]
    assert found["0"] == pytest.approx(near(3, 7), abs=2**-10)
    assert found["4"] == pytest.approx(vectors["4"], abs=2**-10)
    assert catalog_sample(stored, base.id).shape == (10, WIDTH)
    assert len(catalog_sample(stored, base.id + 1)) == 0
