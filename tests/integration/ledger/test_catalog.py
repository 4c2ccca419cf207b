"""What the catalog shows, on SQLite and PostgreSQL: the newest run that tagged a key, whatever the order of events."""

import random
import sqlite3
import threading
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import Engine, text
from support.catalog import (
    CatalogRun,
    changed_at,
    claim,
    expected,
    finish,
    new_version,
    shown,
    submit,
    table,
    waiting_batches,
    work,
)

from tagmill.db.connection import connect
from tagmill.db.schema import metadata
from tagmill.errors import NothingToDo
from tagmill.ledger.batches.leases import Claim
from tagmill.ledger.catalog import rebuild
from tagmill.ledger.runs.create import cancel_run, requeue_images
from tagmill.registry.models import Model, resolve
from tagmill.registry.rollout.production import promote

KEYS = ("a", "b", "c", "d")


@pytest.fixture
def first(engine: Engine) -> Model:
    """The first version of a model."""
    return new_version(engine, "shirts")


@pytest.fixture
def second(engine: Engine, first: Model) -> Model:
    """The second version of the same model."""
    return new_version(engine, first.name)


def backdate(engine: Engine) -> None:
    """Set `changed_at` of what is shown to 0."""
    with engine.begin() as connection:
        connection.execute(text("UPDATE catalog_entry SET changed_at = 0"))
        connection.execute(text("UPDATE shown_instead SET since = 0"))


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)])
def test_the_newest_run_is_shown_in_whatever_order_the_runs_end(
    engine: Engine, first: Model, order: tuple[int, ...]
) -> None:
    runs = [submit(engine, [first], KEYS[: 4 - number]) for number in range(3)]
    for number in order:
        work(engine, runs[number], dict.fromkeys(KEYS, f"bytes {number}"))
    assert shown(engine) == expected(runs)
    assert [row[2] for row in shown(engine)] == [runs[2].id, runs[2].id, runs[1].id, runs[0].id]


def test_an_older_run_that_ends_later_changes_nothing_that_a_newer_one_shows(engine: Engine, first: Model) -> None:
    older, newer = (submit(engine, [first], KEYS) for _ in range(2))
    work(engine, older, dict.fromkeys(KEYS), batches=2)  # "a" and "b" fail
    cancel_run(engine, older.id)
    work(engine, newer, dict.fromkeys(KEYS, "new"))
    before = table(engine)
    requeue_images(engine, older.id, [], "tagmill")
    work(engine, older, dict.fromkeys(KEYS, "old"))
    assert len(older.tagged) == 4
    assert table(engine) == before
    assert shown(engine) == expected([older, newer])


def test_cancelling_or_retrying_a_run_that_is_shown_changes_nothing(engine: Engine, first: Model) -> None:
    run = submit(engine, [first], KEYS)
    work(engine, run, {"a": "1", "b": None}, batches=2)
    before = table(engine)
    cancel_run(engine, run.id)
    assert table(engine) == before
    requeue_images(engine, run.id, [], "tagmill")
    assert table(engine) == before
    work(engine, run, dict.fromkeys(KEYS, "2"))
    assert shown(engine) == expected([run])
    assert [row[0] for row in shown(engine)] == list(KEYS)


def test_a_key_that_failed_in_the_newest_run_still_shows_its_older_result(engine: Engine, first: Model) -> None:
    older, newer = submit(engine, [first], KEYS), submit(engine, [first], KEYS)
    work(engine, newer, {"a": "new", "b": None, "c": None, "d": "new"})
    work(engine, older, dict.fromkeys(KEYS, "old"))
    assert [(row[0], row[2]) for row in shown(engine)] == [
        ("a", newer.id),
        ("b", older.id),
        ("c", older.id),
        ("d", newer.id),
    ]


def test_two_versions_in_a_run_are_both_shown_until_a_run_with_one(engine: Engine, first: Model, second: Model) -> None:
    both = submit(engine, [first, second], KEYS)
    work(engine, both, dict.fromkeys(KEYS, "bytes"))
    assert [(row[0], row[5]) for row in shown(engine)] == [(key, version) for key in KEYS for version in (1, 2)]
    one = submit(engine, [first], KEYS[:2])
    work(engine, one, dict.fromkeys(KEYS, "bytes"))
    assert shown(engine) == expected([both, one])
    assert [(row[0], row[5]) for row in shown(engine)] == [("a", 1), ("b", 1), ("c", 1), ("c", 2), ("d", 1), ("d", 2)]


def test_an_older_run_with_two_versions_that_ends_later_leaves_nothing(
    engine: Engine, first: Model, second: Model
) -> None:
    both, one = submit(engine, [first, second], KEYS), submit(engine, [first], KEYS)
    work(engine, one, dict.fromkeys(KEYS, "new"))
    before = table(engine)
    work(engine, both, dict.fromkeys(KEYS, "old"))
    assert table(engine) == before


def test_a_run_of_another_model_leaves_both_versions(engine: Engine, first: Model, second: Model) -> None:
    both, other = submit(engine, [first, second], KEYS), submit(engine, [new_version(engine, "hats")], KEYS)
    work(engine, both, dict.fromkeys(KEYS, "bytes"))
    work(engine, other, dict.fromkeys(KEYS, "bytes"))
    assert shown(engine) == expected([both, other])
    assert len(shown(engine)) == 3 * len(KEYS)


def test_changed_at_changes_with_the_image_or_the_model_alone(engine: Engine, first: Model, second: Model) -> None:
    contents = dict.fromkeys(KEYS, "bytes")
    for models, changed in (([first], {1}), ([first, second], {1, 2}), ([second], set()), ([first], {1})):
        work(engine, submit(engine, models, KEYS), contents)
        assert {version for (_, _, version), when in changed_at(engine).items() if when} == changed
        backdate(engine)
        same = submit(engine, models, KEYS)
        work(engine, same, contents)
        assert {row[2] for row in shown(engine)} == {same.id}
        assert not any(changed_at(engine).values())
    work(engine, submit(engine, [first], KEYS), contents | {"a": "other bytes"})
    assert {key for (key, _, _), when in changed_at(engine).items() if when} == {"a"}
    backdate(engine)
    work(engine, submit(engine, [second], ["b"]), contents)
    assert {(key, version) for (key, _, version), when in changed_at(engine).items() if when} == {("b", 2)}


def test_promoting_a_version_without_results_and_going_back_change_nothing_that_is_shown(
    engine: Engine, first: Model, second: Model
) -> None:
    work(engine, submit(engine, [second], KEYS), dict.fromkeys(KEYS, "bytes"))
    before = table(engine), shown(engine)
    for model in (first, second, first):
        assert promote(engine, model.title).now == model.title
        assert (table(engine), shown(engine)) == before
    run = submit(engine, [resolve(engine, "shirts")], ["a"])
    work(engine, run, dict.fromkeys(KEYS, "bytes"))
    assert [row[5] for row in shown(engine)] == [1, 1, 1, 1]  # all keys have the bytes that the version now answered


def test_a_table_that_was_damaged_is_made_again(engine: Engine, first: Model, second: Model) -> None:
    runs = [submit(engine, models, KEYS) for models in ([first], [first, second], [second])]
    for run, words in zip(runs, ("1", "2", "3"), strict=True):
        work(engine, run, dict.fromkeys(KEYS, words), batches=run.id)
    before = table(engine)
    assert rebuild(engine) == len(before)
    assert table(engine) == before
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM catalog_entry WHERE image_key = 'a'"))
        connection.execute(text("UPDATE catalog_entry SET run_id = 1 WHERE image_key = 'b'"))
    rebuild(engine)
    assert [row[:-1] for row in table(engine)] == [row[:-1] for row in before]
    assert shown(engine) == expected(runs)


@pytest.mark.parametrize("seed", range(3))
def test_runs_that_share_keys_and_bytes_complete_in_parallel_without_deadlock(
    engine: Engine, first: Model, second: Model, seed: int
) -> None:
    rng = random.Random(seed)
    hats = new_version(engine, "hats")
    keys = [f"key-{number}" for number in range(40)]
    runs = [
        submit(engine, rng.choice([[first], [first, second], [second, hats], [hats]]), rng.sample(keys, 40), 10)
        for _ in range(8)
    ]
    contents = {
        run.id: {key: rng.choice([f"{key} {run.id}", f"bytes {rng.randrange(9)}", None]) for key in keys}
        for run in runs
    }
    by_id = {run.id: run for run in runs}
    queue = waiting_batches(engine)
    rng.shuffle(queue)
    start, lock = threading.Barrier(8), threading.Lock()
    failures: list[Exception] = []

    def drain() -> None:
        start.wait()
        while True:
            with lock:
                if not queue:
                    return
                run_id, batch_id = queue.pop()
            try:
                claimed = claim(engine, run_id, batch_id)
                assert claimed is not None
                finish(engine, by_id[run_id], claimed, contents[run_id])
            except Exception as error:
                failures.append(error)

    threads = [threading.Thread(target=drain) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert shown(engine) == expected(runs)
    before = table(engine)
    rebuild(engine)
    assert table(engine) == before


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_an_older_run_that_was_still_being_submitted_when_a_newer_one_began(
    engine: Engine, first: Model, second: Model
) -> None:
    began, go_on = threading.Event(), threading.Event()
    submitted: list[CatalogRun] = []

    def slow_manifest() -> Iterator[str]:
        began.set()
        assert go_on.wait(30)
        yield from KEYS

    thread = threading.Thread(target=lambda: submitted.append(submit(engine, [first, second], slow_manifest())))
    thread.start()
    assert began.wait(30)
    newer = submit(engine, [first], KEYS)
    work(engine, newer, dict.fromkeys(KEYS, "new"), batches=1)
    go_on.set()
    thread.join()
    (older,) = submitted
    assert older.id < newer.id
    work(engine, older, dict.fromkeys(KEYS, "old"))
    work(engine, newer, dict.fromkeys(KEYS, "new"))
    assert shown(engine) == expected([older, newer])


class CatalogMachine(RuleBasedStateMachine):
    """Runs of several models and versions over the same keys, whose batches end in any order."""

    #: a database with the models and nothing else
    template: Engine
    models: tuple[Model, ...]

    def __init__(self) -> None:
        super().__init__()
        self.engine = fresh(self.template)
        self.runs: dict[int, CatalogRun] = {}
        self.held: list[Claim] = []
        self.instead: dict[int, Model] = {}
        #: what the views showed before the last rule, without the run
        self.shown: set[tuple[object, ...]] = set()
        #: what each place of a key showed before the last rule
        self.before: dict[tuple[object, ...], tuple[object, ...]] = {}

    def teardown(self) -> None:
        """Complete everything that is left."""
        while self.held:
            self.end(0, ["x", "y", "x"])
            self.the_views_show_the_newest_runs()  # after each: two may change a key there and back
        for run in self.runs.values():
            self.retry(run.id - 1)
            work(self.engine, run, dict.fromkeys(KEYS, "z"))
            self.the_views_show_the_newest_runs()
        self.rebuilding_changes_nothing()
        if self.engine is not self.template:
            self.engine.dispose()

    @precondition(lambda self: len(self.runs) < 6)
    @rule(chosen=st.sets(st.integers(0, 3), min_size=1), keys=st.permutations(KEYS), count=st.integers(1, 4))
    def submit(self, chosen: set[int], keys: list[str], count: int) -> None:
        run = submit(self.engine, [self.models[number] for number in sorted(chosen)], keys[:count], batch_size=2)
        self.runs[run.id] = run

    @precondition(lambda self: self.runs)
    @rule(place=st.integers(0, 23))
    def begin(self, place: int) -> None:
        waiting = waiting_batches(self.engine)
        claimed = claim(self.engine, *waiting[place % len(waiting)]) if waiting else None
        if claimed:
            self.held.append(claimed)

    @precondition(lambda self: self.held)
    @rule(place=st.integers(0, 23), contents=st.lists(st.sampled_from(["x", "y", None]), min_size=2, max_size=2))
    def end(self, place: int, contents: list[str | None]) -> None:
        claimed = self.held.pop(place % len(self.held))
        found = {image.image_key: words for image, words in zip(claimed.images, contents, strict=False)}
        finish(self.engine, self.runs[claimed.run_id], claimed, found)

    @precondition(lambda self: self.runs)
    @rule(place=st.integers(0, 23))
    def cancel(self, place: int) -> None:
        cancel_run(self.engine, self.some_run(place))

    @precondition(lambda self: self.runs)
    @rule(place=st.integers(0, 23))
    def retry(self, place: int) -> None:
        try:
            requeue_images(self.engine, self.some_run(place), [], "tagmill")
        except NothingToDo:
            pass

    @rule(number=st.integers(0, 3))
    def promote(self, number: int) -> None:
        chosen = self.models[number]
        if promote(self.engine, chosen.title).is_new:
            self.instead |= {model.id: chosen for model in self.models if model.name == chosen.name}

    @rule()
    def rebuilding_changes_nothing(self) -> None:
        before = table(self.engine)
        rebuild(self.engine)
        assert table(self.engine) == before

    @invariant()
    def the_views_show_the_newest_runs(self) -> None:
        now = shown(self.engine)
        assert now == expected(self.runs.values(), self.instead)
        facts = {(*row[:2], *row[3:]) for row in now}
        marked = {(key, name) for (key, name, _), when in changed_at(self.engine).items() if when}
        assert {(row[0], row[3]) for row in facts - self.shown} <= marked
        self.shown, after = facts, {}
        for key, name, place, _, _, image, model, when in table(self.engine):
            after[key, name, place] = (image, model)
            changed = self.before.get((key, name, place)) != (image, model)
            # After a promotion, a result that another run made for the same bytes is shown instead.
            assert bool(when) == changed or (when and self.instead)
        self.before = after
        backdate(self.engine)

    def some_run(self, place: int) -> int:
        return sorted(self.runs)[place % len(self.runs)]


def fresh(template: Engine) -> Engine:
    """Return a new engine on a copy of a SQLite file, or on an emptied PostgreSQL."""
    if template.dialect.name == "postgresql":
        emptied = ", ".join(found.name for found in metadata.sorted_tables if found.name != "model")
        with template.begin() as connection:
            connection.execute(text(f"TRUNCATE {emptied} RESTART IDENTITY"))
            connection.execute(text("UPDATE model SET stage = 'candidate'"))
        return connect(template.url.render_as_string(hide_password=False))
    engine = connect("sqlite://")
    with sqlite3.connect(str(template.url.database)) as file, engine.connect() as connection:
        raw = connection.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        file.backup(raw)
    return engine


@pytest.mark.parametrize(("database_url", "examples"), [("sqlite", 20), ("postgresql", 5)], indirect=["database_url"])
def test_in_any_order_of_events_the_views_show_the_newest_run_that_tagged_a_key(
    engine: Engine, first: Model, second: Model, examples: int
) -> None:
    models = (first, second, new_version(engine, "hats"), new_version(engine, "shoes"))
    machine = type("Machine", (CatalogMachine,), {"template": engine, "models": models})
    checks = [HealthCheck.too_slow]
    run_state_machine_as_test(
        machine, settings=settings(max_examples=examples, stateful_step_count=40, suppress_health_check=checks)
    )
