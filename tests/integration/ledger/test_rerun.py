"""Which entries of a manifest are tagged again, on SQLite and PostgreSQL."""

from collections.abc import Iterable
from pathlib import Path

import pytest
from sqlalchemy import Engine, update
from support.ledger import SHA, batches, count, take

from tagmill.bundles.metadata import BundleSpec
from tagmill.db.schema import image_failure, run
from tagmill.errors import NothingToDo
from tagmill.images.preprocess import PreprocessSpec
from tagmill.ledger.complete import complete
from tagmill.ledger.runs import rerun
from tagmill.ledger.runs.create import cancel_run, create_run, requeue_images
from tagmill.ledger.runs.rerun import Chooser, Rerun
from tagmill.outcomes import ErrorCode
from tagmill.records import BatchResult, Entry, ImageRow, InferenceRow, Outcome
from tagmill.registry.models import Model, register
from tagmill.tasks.classify import CLASSIFY

QUEUE = "tagmill"


@pytest.fixture
def masks(engine: Engine) -> Model:
    """A second model."""
    return register(engine, BundleSpec("masks", CLASSIFY, ("red", "blue"), PreprocessSpec(8, 8)), "e" * 64)


def entries(keys: Iterable[str]) -> list[Entry]:
    return [Entry(key, f"/pictures/{key}.jpg") for key in keys]


def new_run(engine: Engine, keys: str, *models: Model) -> int:
    """Create a run with one batch of these keys, each a letter."""
    return create_run(engine, "test", entries(keys), models, [Path("/pictures")], 64, QUEUE)


def finish(engine: Engine, run_id: int, failed: str = "") -> None:
    """Tag the last batch of a run, without the keys that fail."""
    claimed = take(engine, batches(engine, run_id)[-1])
    assert claimed is not None
    outcomes = [
        Outcome(at.position, error_code=ErrorCode.NOT_FOUND) if at.image_key in failed else Outcome(at.position, SHA[0])
        for at in claimed.images
    ]
    answers = [InferenceRow(SHA[0], sha256, "CPU", (("red", 0.9),), ()) for sha256 in claimed.models]
    assert complete(engine, claimed, BatchResult(outcomes, [ImageRow(SHA[0], 8, 8, "JPEG", 100)], answers), "worker")


def chosen(engine: Engine, which: Rerun, keys: str, *models: Model) -> str:
    """Return the keys that are to be tagged again, as letters."""
    return "".join(found.image_key for found in Chooser(engine, which, models).choose(entries(keys)))


@pytest.fixture(autouse=True)
def few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rerun, "LOOKUP", 2)
    monkeypatch.setattr(rerun, "PAGE", 2)


def test_missing_are_the_keys_that_lack_a_tag_of_any_model_at_its_version(
    engine: Engine, model: Model, masks: Model
) -> None:
    finish(engine, new_run(engine, "abcd", model, masks), failed="b")
    finish(engine, new_run(engine, "ef", model))
    new_run(engine, "g", model)
    assert chosen(engine, Rerun.MISSING, "abcdefgh", model) == "bgh"
    assert chosen(engine, Rerun.MISSING, "abcdefgh", model, masks) == "befgh"
    newer = register(engine, BundleSpec("shirts", CLASSIFY, ("red",), PreprocessSpec(8, 8)), "d" * 64)
    finish(engine, new_run(engine, "a", newer))
    assert chosen(engine, Rerun.MISSING, "abc", newer) == "bc"
    assert chosen(engine, Rerun.MISSING, "abc", model) == "ab"  # the catalog shows another version of a now


def test_failed_are_the_keys_that_failed_in_the_newest_run_that_has_them(
    engine: Engine, model: Model, masks: Model
) -> None:
    finish(engine, new_run(engine, "abcdef", model), failed="abcd")
    assert chosen(engine, Rerun.FAILED, "fedcba", model) == "dcba"
    finish(engine, new_run(engine, "af", masks), failed="f")  # a was tagged, f failed
    later = new_run(engine, "bx", model)  # b waits
    assert chosen(engine, Rerun.FAILED, "abcdefgx", model) == "cdf"
    assert take(engine, batches(engine, later)[0]) is not None  # b is in work
    assert chosen(engine, Rerun.FAILED, "abcdefgx", model) == "cdf"
    cancelled = new_run(engine, "c", model)
    cancel_run(engine, cancelled)
    assert chosen(engine, Rerun.FAILED, "abcdefgx", model) == "cdf"


def test_a_key_that_its_run_tries_again_is_not_failed(engine: Engine, model: Model) -> None:
    finish(engine, new_run(engine, "abc", model), failed="abc")
    second = new_run(engine, "abc", model)
    finish(engine, second, failed="abc")
    with engine.begin() as connection:
        tried = image_failure.c.run_id == second, image_failure.c.position != 1
        connection.execute(update(image_failure).where(*tried).values(error_code=ErrorCode.TRUNCATED))
    assert requeue_images(engine, second, [ErrorCode.TRUNCATED], QUEUE) == 2  # a and c, at positions 0 and 2
    assert chosen(engine, Rerun.FAILED, "abc", model) == "b"


def test_all_entries_are_queued_unless_something_else_is_asked_for(engine: Engine, model: Model) -> None:
    finish(engine, new_run(engine, "ab", model))
    assert chosen(engine, Rerun.ALL, "abc", model) == "abc"


def test_entries_are_chosen_while_their_run_is_written(engine: Engine, model: Model) -> None:
    finish(engine, new_run(engine, "abcd", model), failed="bd")
    for which, keys, left_out in ((Rerun.MISSING, "abcdef", 2), (Rerun.FAILED, "abcd", 4)):
        chooser = Chooser(engine, which, [model])
        run_id = create_run(engine, "test", chooser.choose(entries(keys)), [model], [], 64, QUEUE)
        assert (len(batches(engine, run_id)), chooser.left_out) == (1, left_out if which is Rerun.MISSING else 2)
        cancel_run(engine, run_id)


@pytest.mark.parametrize(("which", "reason"), [
    (Rerun.MISSING, "nothing to do: 3 entries that shirts@1 has tagged were left out"),
    (Rerun.FAILED, "nothing to do: 3 entries that did not fail in the newest run that has them were left out"),
])  # fmt: skip
def test_nothing_is_queued_if_nothing_is_left_to_do(engine: Engine, model: Model, which: Rerun, reason: str) -> None:
    finish(engine, new_run(engine, "abc", model))
    runs = count(engine, run)
    for _ in range(2):  # the temporary table is gone after the first time
        chooser = Chooser(engine, which, [model])
        with pytest.raises(NothingToDo, match=reason):
            create_run(engine, "test", chooser.choose(entries("abc")), [model], [], 64, QUEUE)
    assert count(engine, run) == runs
