"""What is submitted twice under one id is one run, and every change leaves a row that says who made it."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import Engine, func, select
from support.ledger import QUEUE, count, new_model, new_run

from export.cli.model_rollout import history_command
from producer.submission import Submission, WrittenRun, find_targets, write_run
from tagmill.cli.audit import audit
from tagmill.db.audit import read_events
from tagmill.db.schema import run
from tagmill.errors import InputError, NothingToDo
from tagmill.ledger.runs.control import pause_run, resume_run, set_priority
from tagmill.ledger.runs.create import cancel_run, requeue_images
from tagmill.ledger.runs.progress import run_progress
from tagmill.priority import Priority
from tagmill.registry.rollout.retirement import retire


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "catalog.csv"
    path.write_text("key,uri\n" + "".join(f"k{number},/pictures/{number}.jpg\n" for number in range(300)))
    return path


@pytest.fixture(autouse=True)
def person(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGMILL_USER", "ada")


def submit(engine: Engine, source: Path, name: str | None, models: tuple[str, ...] = ("shirts",)) -> WrittenRun:
    wanted = Submission((str(source),), models, id=name)
    return write_run(engine, wanted, find_targets(engine, wanted), QUEUE)


def test_the_same_submission_again_is_the_run_of_the_first_time(engine: Engine, manifest: Path) -> None:
    new_model(engine)
    first = submit(engine, manifest, "nightly 1")
    again = submit(engine, manifest, "nightly 1", ("shirts@1",))
    other = submit(engine, manifest, "nightly 2")
    manifest.unlink()  # a job that puts what it submitted away
    assert submit(engine, manifest, "nightly 1").run == first.run
    assert (first.repeated, again.repeated, again.run) == (False, True, first.run)
    assert other.run != first.run
    assert run_progress(engine, first.run).submission == "nightly 1"
    assert [event.run_id for event in read_events(engine, 10) if event.action == "submit"] == [other.run, first.run]


def test_of_submissions_of_one_id_at_the_same_time_one_is_written(engine: Engine, manifest: Path) -> None:
    new_model(engine)
    with ThreadPoolExecutor(4) as pool:
        written = list(pool.map(lambda _: submit(engine, manifest, "nightly"), range(4)))
    assert len({found.run for found in written}) == 1
    assert [found.repeated for found in written].count(False) == 1
    assert count(engine, run) == 1


def test_an_id_is_not_that_of_another_submission(engine: Engine, manifest: Path, tmp_path: Path) -> None:
    new_model(engine)
    submit(engine, manifest, "nightly")
    other = tmp_path / "other.csv"
    other.write_text(manifest.read_text())
    with pytest.raises(InputError, match=r"id nightly: is that of run 1, which is .*catalog.csv with shirts; choose"):
        submit(engine, other, "nightly")
    for name in ("", " x", "a\nb", "x" * 201):
        with pytest.raises(InputError, match="must be 1 to 200 printable characters"):
            submit(engine, manifest, name)


def test_a_submission_without_images_leaves_its_id_free(engine: Engine, manifest: Path) -> None:
    new_model(engine)
    text = manifest.read_text()
    manifest.write_text("key,uri\n")
    with pytest.raises(NothingToDo):
        submit(engine, manifest, "nightly")
    manifest.write_text(text)
    assert not submit(engine, manifest, "nightly").repeated


def test_each_change_of_a_run_says_who_made_it_and_why(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = new_run(engine, new_model(engine))
    pause_run(engine, run_id, "the host asked for it")
    pause_run(engine, run_id, "nothing changes")
    resume_run(engine, run_id)
    set_priority(engine, run_id, Priority.URGENT, "sale\0")
    cancel_run(engine, run_id)
    requeue_images(engine, run_id, [], QUEUE)
    events = read_events(engine, 10, run_id)
    assert [(event.action, event.reason) for event in reversed(events)] == [
        ("submit", None),
        ("pause", "the host asked for it"),
        ("resume", None),
        ("priority", r"sale\0"),
        ("cancel", None),
        ("retry", None),
    ]
    assert {event.user_name for event in events} == {"ada"}
    assert events[2].details == {"from": "normal", "to": "urgent"}
    with engine.connect() as connection:
        created = connection.execute(select(func.max(run.c.created_at))).scalar_one()
    assert events[0].at == pytest.approx(created, abs=60)

    monkeypatch.setenv("TAGMILL_DATABASE_URL", engine.url.render_as_string(hide_password=False))
    shown = CliRunner().invoke(audit, ["--model", "shirts", "--json"], catch_exceptions=False)
    (added,) = json.loads(shown.output)
    assert (added["action"], added["model"], added["from_version"], added["to_version"]) == ("add", "shirts", None, 1)
    for words, unknown in ((["--run", "999"], "no run 999"), (["--model", "nope"], "no model nope")):
        with pytest.raises(InputError, match=unknown):
            CliRunner().invoke(audit, words, catch_exceptions=False)
    table = CliRunner().invoke(audit, ["--run", str(run_id)], catch_exceptions=False).output
    assert "ada@" in table.replace("\n", "")
    assert table.count("cancel") == 1


def test_lists_of_changes_show_odd_names_and_reasons_on_one_line(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAGMILL_USER", "eve\n\x1b[2J")
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.setenv("TAGMILL_DATABASE_URL", engine.url.render_as_string(hide_password=False))
    retire(engine, new_model(engine).title, "two\nlines\u202e")
    for command in (audit, history_command):
        shown = CliRunner().invoke(command, catch_exceptions=False).output
        assert r"eve\n\x1b[2J@" in shown
        assert r"two\nlines\u202e" in shown
        assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", shown)
