"""`tagmill prune`: what it deletes, what stays, and workers that tag the same bytes meanwhile."""

import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, text, update
from support.ledger import digest
from support.retagged import rows, shown, status, tag, work

from producer.output.read.runs import read_results
from tagmill.bundles.metadata import BundleSpec
from tagmill.db.audit import Action, record
from tagmill.db.connection import connect
from tagmill.db.roles import Kind, grant_role
from tagmill.db.schema import batch, metadata, model, run
from tagmill.errors import ConfigurationError, InputError, NothingToDo
from tagmill.images.preprocess import PreprocessSpec
from tagmill.ledger import catalog
from tagmill.ledger.batches import leases
from tagmill.ledger.batches.leases import Claim, Lease
from tagmill.ledger.complete import complete
from tagmill.ledger.known_results import known_inferences
from tagmill.ledger.pruning import images as of_images
from tagmill.ledger.pruning import old_runs
from tagmill.ledger.pruning.counts import Counts
from tagmill.ledger.pruning.fence import ResultsPrunedError
from tagmill.ledger.pruning.prune import preview, prune
from tagmill.ledger.runs.create import cancel_run, create_run, requeue_images
from tagmill.ledger.runs.progress import run_progress
from tagmill.records import BatchResult, Entry, ImageRow, InferenceRow, Outcome
from tagmill.registry.models import Model, register
from tagmill.tasks.classify import CLASSIFY

DAY = 86_400.0


def quiet(what: str, done: int, total: int) -> None:
    """Do not report."""


def classifier(engine: Engine, name: str, content: str = "") -> Model:
    spec = BundleSpec(name, CLASSIFY, ("red",), PreprocessSpec(8, 8))
    return register(engine, spec, digest(content or name))


def age(engine: Engine, *runs: int, days: float = 100) -> None:
    """Let runs, and what was done of them, be days older."""
    with engine.begin() as connection:
        for table, key, names in (
            (run, run.c.id, ("created_at",)),
            (batch, batch.c.run_id, ("started_at", "finished_at")),
        ):
            values = {name: table.c[name] - days * DAY for name in names}
            connection.execute(update(table).where(key.in_(runs)).values(values))


def count(engine: Engine, table: str) -> int:
    return int(rows(engine, f"SELECT count(*) FROM {table}")[0][0])


def images(engine: Engine) -> set[str]:
    return {row[0] for row in rows(engine, "SELECT sha256 FROM run_image WHERE sha256 IS NOT NULL")}


def claimed(engine: Engine, run_id: int) -> Claim:
    """Claim the first batch of a run that waits."""
    ((batch_id,),) = rows(engine, f"SELECT min(id) FROM batch WHERE run_id = {run_id} AND status = 'queued'")
    found = leases.claim(engine, run_id, batch_id, "tagmill", Lease(f"worker-{batch_id}", 30.0, 4))
    assert found is not None
    return found


def result_of(claim: Claim, words: str, models: Sequence[str]) -> BatchResult:
    """Return a result in which all images have these bytes, and these models were run: of others it was known."""
    facts = [ImageRow(digest(words), 8, 8, "JPEG", 100)] if models else []
    answers = [InferenceRow(digest(words), sha256, "CPU", (("red", 0.9),), ()) for sha256 in models]
    return BatchResult([Outcome(image.position, digest(words)) for image in claim.images], facts, answers)


def test_old_runs_go_and_everything_that_the_catalog_shows_stays(engine: Engine) -> None:
    labels = classifier(engine, "labels")
    gone = tag(engine, [labels], {"a": "old", "b": "same", "c": "broken"})
    part = tag(engine, [labels], {"a": "1", "b": "same", "c": "3", "delisted": "4", "e": "5", "f": "broken"})
    recent = tag(engine, [labels], {"a": "new", "b": "same", "c": "3"})
    age(engine, gone, part)
    before, progress = shown(engine), [status(engine, found) for found in (part, recent)]
    forecast = preview(engine, 90 * DAY, quiet)
    assert count(engine, "run") == 3

    counts = prune(engine, 90 * DAY, quiet)

    # "1" and "old" are shown by nothing; the entries a, b and c of the second run were replaced.
    assert (counts.runs, counts.thinned_runs, counts.entries, counts.images) == (1, 1, 6, 2)
    assert (forecast.runs, forecast.thinned_runs, forecast.entries, forecast.images) == (1, 1, 6, 2)
    assert shown(engine) == before
    assert [status(engine, found) for found in (part, recent)] == progress
    with pytest.raises(InputError):
        run_progress(engine, gone)
    kept = rows(engine, f"SELECT image_key FROM run_image WHERE run_id = {part} ORDER BY position")
    assert [key for (key,) in kept] == ["delisted", "e", "f"]
    assert [found.image_key for found in read_results(engine, part, [labels])] == ["delisted", "e", "f"]
    assert count(engine, "image_content") == 5
    assert count(engine, "result") == 5
    ((details,),) = rows(engine, "SELECT details FROM audit_event WHERE action = 'prune'")
    assert '"images": 2' in str(details).replace("'", '"')
    assert prune(engine, 90 * DAY, quiet) == Counts()
    catalog.rebuild(engine)
    assert shown(engine) == before
    requeue_images(engine, part, [], "tagmill")  # batches with a failed image are whole
    work(engine, part, {"f": "6"})
    assert run_progress(engine, part).state == "done"


def test_a_run_that_is_in_work_paused_or_recent_stays_and_one_that_was_cancelled_goes(engine: Engine) -> None:
    labels = classifier(engine, "labels")
    entries = [Entry(key, f"/pictures/{key}") for key in "abc"]
    waits, cancelled = (create_run(engine, "t", entries, [labels], [Path("/pictures")], 2, "tagmill") for _ in "12")
    cancel_run(engine, cancelled)
    tagged = tag(engine, [labels], {"x": "1"})
    newest = tag(engine, [labels], {"x": "2"})
    age(engine, waits, cancelled, tagged, newest)
    assert prune(engine, 200 * DAY, quiet) == Counts()
    assert prune(engine, 90 * DAY, quiet).runs == 2
    assert [row[0] for row in rows(engine, "SELECT id FROM run ORDER BY id")] == [waits, newest]
    for table in ("entry", "batch", "batch_outcome", "run_model"):
        assert rows(engine, f"SELECT count(*) FROM {table}")[0][0] == {"entry": 4, "batch": 3}.get(
            table, 1 + ("run" in table)
        )


def test_results_of_models_that_nothing_uses_and_their_bundles_go(engine: Engine) -> None:
    first, second, third = (classifier(engine, "labels", f"version {number}") for number in (1, 2, 3))
    never = classifier(engine, "never")
    old = tag(engine, [first], {"a": "1"})
    tag(engine, [second], {"a": "1"})
    age(engine, old)
    with engine.begin() as connection:
        connection.execute(update(model).values(created_at=model.c.created_at - 100 * DAY))
        record(connection, Action.PROMOTE, name_id=first.id, from_id=third.id, to_id=second.id)
    removed: list[str] = []
    counts = prune(engine, 90 * DAY, quiet, lambda sha256: len(removed.append(sha256) or "1"))
    assert counts.models == ["labels@1", "never@1"]
    assert (counts.results, counts.images, counts.bundle_bytes) == (1, 0, 2)
    assert removed == [first.sha256, never.sha256]
    assert count(engine, "result") == 1


def test_a_batch_that_relied_on_a_pruned_result_is_tagged_again(engine: Engine) -> None:
    """Whether the image is gone, or was stored again by another batch with other models."""
    one, two = classifier(engine, "one"), classifier(engine, "two")
    old = tag(engine, [one, two], {"a": "1"})
    tag(engine, [one, two], {"a": "2"})
    age(engine, old)
    again = [
        create_run(engine, "t", [Entry("b", "/pictures/b")], [one, two], [Path("/pictures")], 2, "tagmill")
        for _ in range(2)
    ]
    claims = [claimed(engine, found) for found in again]
    assert len(known_inferences(engine, [digest("1")], claims[0].models)) == 2
    assert prune(engine, 90 * DAY, quiet).images == 1
    assert known_inferences(engine, [digest("1")], claims[0].models) == set()

    with pytest.raises(ResultsPrunedError):  # it is gone
        complete(engine, claims[0], result_of(claims[0], "1", []), "worker")
    with pytest.raises(ResultsPrunedError):  # the batch itself would store it again, with one of two results
        complete(engine, claims[0], result_of(claims[0], "1", [one.sha256]), "worker")
    other = claimed(
        engine, create_run(engine, "t", [Entry("c", "/pictures/c")], [one], [Path("/pictures")], 2, "tagmill")
    )
    assert complete(engine, other, result_of(other, "1", [one.sha256]), "worker")
    with pytest.raises(ResultsPrunedError):  # another batch has stored it again, with one of two results
        complete(engine, claims[0], result_of(claims[0], "1", []), "worker")
    assert count(engine, "result") == 3

    # The next attempt looks it up again; so does a batch that runs everything.
    assert complete(engine, claims[0], result_of(claims[0], "1", [one.sha256, two.sha256]), "worker")
    assert complete(engine, claims[1], result_of(claims[1], "1", [one.sha256, two.sha256]), "worker")
    assert count(engine, "result") == 4
    with engine.begin() as connection:  # a claim after the commit of the prune finds what is there, and relies on it
        connection.execute(text("UPDATE image_pruning SET at = at - 10"))
    last = claimed(engine, create_run(engine, "t", [Entry("d", "/pictures/d")], [one, two], [Path("/p")], 2, "tagmill"))
    assert complete(engine, last, result_of(last, "1", []), "worker")


def test_images_that_a_batch_refers_to_while_a_prune_reads_stay(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = classifier(engine, "labels")
    old = tag(engine, [labels], {"a": "1", "b": "2"})
    tag(engine, [labels], {"a": "new", "b": "new"})
    age(engine, old)
    waiting = create_run(engine, "t", [Entry("c", "/pictures/c")], [labels], [Path("/pictures")], 2, "tagmill")
    claim = claimed(engine, waiting)

    def report(what: str, done: int, total: int) -> None:
        nonlocal claim
        if what == "deleting images" and claim is not None:
            assert complete(engine, claim, result_of(claim, "1", []), "worker")
            claim = None  # type: ignore[assignment]

    assert prune(engine, 90 * DAY, report).images == 1
    assert rows(engine, f"SELECT sha256 FROM run_image WHERE run_id = {waiting}") == [(digest("1"),)]
    assert count(engine, "result") == 2


def test_no_outcome_loses_its_results_while_workers_and_prunes_race(engine: Engine) -> None:
    models = [classifier(engine, "one"), classifier(engine, "two")]
    began, ended = time.monotonic(), threading.Event()
    refused = 0
    done: list[int] = []

    def work_on(seed: int) -> None:
        nonlocal refused
        chance = random.Random(seed)
        while not ended.is_set():
            key, words, chosen = (
                f"key {chance.randrange(2)}",
                str(chance.randrange(200)),
                chance.sample(models, chance.choice((1, 2))),
            )
            found = create_run(engine, "t", [Entry(key, f"/pictures/{key}")], chosen, [Path("/pictures")], 2, "tagmill")
            while True:
                claim = claimed(engine, found)
                known = {model for _, model in known_inferences(engine, [digest(words)], claim.models)}
                time.sleep(chance.random() / 20)
                try:
                    complete(engine, claim, result_of(claim, words, sorted(set(claim.models) - known)), "worker")
                    break
                except ResultsPrunedError as error:
                    refused += 1
                    leases.release(engine, claim, str(error), 0)
            done.append(found)

    pruned = 0
    with ThreadPoolExecutor(3) as pool:
        workers = [pool.submit(work_on, seed) for seed in range(2)]
        while time.monotonic() < began + (60 if not pruned else 3):
            # Between two prunes: one that is under way finds what was completed meanwhile by the time of its end.
            age(engine, *[done.pop() for _ in range(len(done))])
            pruned += prune(engine, 90 * DAY, quiet).images
        ended.set()
        for worker in workers:
            worker.result()
    assert pruned > 0
    lost = """
        SELECT count(*) FROM tagged_entry AS tagged JOIN run_model ON run_model.run_id = tagged.run_id
        LEFT JOIN result ON result.image_id = tagged.image_id AND result.model_id = run_model.model_id
        LEFT JOIN image_content ON image_content.id = tagged.image_id
        WHERE result.image_id IS NULL OR image_content.id IS NULL
    """
    assert rows(engine, lost) == [(0,)]


def test_a_prune_that_is_interrupted_goes_on_when_it_is_repeated(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = classifier(engine, "labels")
    monkeypatch.setattr("tagmill.ledger.pruning.old_runs.ROWS", 2)
    monkeypatch.setattr("tagmill.ledger.pruning.old_runs.BATCHES", 2)
    monkeypatch.setattr("tagmill.ledger.pruning.images.CHUNK", 2)
    keys = "abcdefghij"
    old = tag(engine, [labels], dict(zip(keys, keys, strict=True)))
    tag(engine, [labels], dict.fromkeys(keys, "new"))
    age(engine, old)
    before = shown(engine)
    statements = 0

    def interrupt(connection: Any, *_: Any) -> None:
        nonlocal statements
        statements += 1
        if statements % 23 == 0:
            raise KeyboardInterrupt

    event.listen(engine, "before_cursor_execute", interrupt)
    interrupted = 0
    for _ in range(60):
        try:
            prune(engine, 90 * DAY, quiet)
            break
        except KeyboardInterrupt:
            interrupted += 1
            assert shown(engine) == before
    event.remove(engine, "before_cursor_execute", interrupt)
    prune(engine, 90 * DAY, quiet)
    assert interrupted > 2
    assert shown(engine) == before
    left = {table: count(engine, table) for table in ("run", "entry", "batch", "batch_outcome", "image_content")}
    assert left == {"run": 1, "entry": 10, "batch": 5, "batch_outcome": 5, "image_content": 1}
    with pytest.raises((InputError, NothingToDo)):
        requeue_images(engine, old, [], "tagmill")


def test_every_table_is_pruned_or_kept_on_purpose() -> None:
    pruned = {table for table, _ in old_runs._OF_ENTRIES} | set(of_images._OF_IMAGES)
    names = {table.name for table in pruned} | {"batch", "batch_failure", "batch_outcome", "run", "run_model"}
    names |= {"run_fault", "label_set_run", "drift", "image_content", "image_pruning", "known_file", "known_url"}
    kept = {"model", "label_set", "label_name", "provider", "worker", "reaper", "catalog_entry", "picture_rule"}
    kept |= {"rollout", "shown_instead", "audit_event", "worker_state", "worker_fault"}
    assert set(metadata.tables) == names | kept


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_only_the_owner_prunes(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE ROLE pruning_worker LOGIN")
        grant_role(connection, Kind.WORKER, "pruning_worker")
    try:
        with closing(_Engine(engine, "pruning_worker")) as limited, pytest.raises(ConfigurationError, match="owner"):
            prune(limited.engine, 90 * DAY, quiet)
    finally:
        with engine.begin() as connection:
            connection.exec_driver_sql("DROP OWNED BY pruning_worker; DROP ROLE pruning_worker")


class _Engine:
    """An engine of another role, which can be closed."""

    def __init__(self, engine: Engine, role: str) -> None:
        self.engine = connect(engine.url.set(username=role).render_as_string(hide_password=False))

    def close(self) -> None:
        self.engine.dispose()
