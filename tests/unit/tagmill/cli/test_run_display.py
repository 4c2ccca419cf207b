"""Tables and bars print names unchanged, on terminals of any width."""

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress

from tagmill.cli.terminal.console import open_console, text_column
from tagmill.cli.terminal.progress import Display
from tagmill.cli.terminal.run_display import ending, exit_code, runs_table, status_table
from tagmill.errors import ExitCode
from tagmill.ledger.runs.progress import BatchErrors, RunProgress
from worker.cli.tag import how_to_read
from worker.local.tag import NamedBundles, local_queue

ROOT = Path(__file__).parents[4]
SOURCE = "shots [summer]/odd[/cat]/:cat:"
RUN = RunProgress(
    run=12345,
    source=SOURCE,
    queue="tagmill",
    cancelled=False,
    models=("a[/b]@1",),
    created_at=1e9,
    images=10,
    tagged=9,
    failed=1,
    failures={"not_found": 1},
    batches={"queued": 0, "running": 0, "cancelled": 0, "done": 1},
    batch_errors=(),
    inferences=9,
    started_at=1.0,
    finished_at=2.0,
    read_at=3.0,
    images_per_second=9.0,
    workers_waiting=0,
)


@pytest.fixture
def console(monkeypatch: pytest.MonkeyPatch) -> Console:
    """Return the console of the commands, 200 columns wide."""
    monkeypatch.setenv("COLUMNS", "200")
    return open_console()


def test_tables_print_names_unchanged(console: Console, capsys: pytest.CaptureFixture[str]) -> None:
    for item in (runs_table([RUN]), status_table(RUN), f"{SOURCE} a[/b]@1"):
        console.print(item)
        output = capsys.readouterr().out
        assert SOURCE in output
        assert "a[/b]@1" in output


def test_a_table_is_not_cut_in_a_pipe_nor_in_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = replace(RUN, source="s" * 300)
    monkeypatch.delenv("COLUMNS", raising=False)
    open_console().print(runs_table([run]))
    assert run.source in capsys.readouterr().out
    monkeypatch.setenv("COLUMNS", "120")
    open_console().print(runs_table([run]))
    folded = capsys.readouterr().out
    assert folded.count("s" * 10) > 5
    assert "…" not in folded


def test_what_a_terminal_would_obey_is_printed_as_escapes(console: Console, capsys: pytest.CaptureFixture[str]) -> None:
    run = replace(RUN, source="a\x1b[2J\u202eb\tc")
    for item in (runs_table([run]), status_table(run), run.source):
        console.print(item)
        assert r"a\x1b[2J\u202eb\tc" in capsys.readouterr().out
    with Progress(text_column("{task.description}"), console=console) as bar:
        bar.add_task(run.source)
    assert r"a\x1b[2J\u202eb\tc" in capsys.readouterr().out


def test_a_progress_bar_prints_names_unchanged() -> None:
    console = Console(file=io.StringIO(), width=200)
    with Progress(text_column("{task.description}"), console=console) as bar:
        bar.add_task(f"reading {SOURCE}")
    assert isinstance(console.file, io.StringIO)
    assert f"reading {SOURCE}" in console.file.getvalue()


def test_a_training_prints_names_unchanged(capsys: pytest.CaptureFixture[str]) -> None:
    display = Display()
    display.console.print(SOURCE, soft_wrap=True)
    display.say(SOURCE)
    assert capsys.readouterr().err.splitlines() == [SOURCE, SOURCE]


def test_only_one_module_opens_consoles() -> None:
    for room in ("tagmill", "producer", "worker", "training", "export"):
        for path in (ROOT / room).rglob("*.py"):
            if path != ROOT / "tagmill" / "cli" / "terminal" / "console.py":
                found = re.findall(r"\b(?:Console|TextColumn)\(|rich import print\b", path.read_text(encoding="utf-8"))
                assert not found, f"{path}: {found} interprets markup; import it from tagmill.cli.terminal.console"


@pytest.mark.parametrize("columns", [30, 45, 80])
def test_a_narrow_terminal_shows_the_number_of_a_run(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    open_console().print(runs_table([RUN]))
    assert "12345" in capsys.readouterr().out


def test_a_failed_local_run_is_retried_with_tag_and_not_through_a_queue(
    console: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    console.print(status_table(RUN))
    assert "(tagmill run retry 12345 --code not_found)" in capsys.readouterr().out
    console.print(status_table(replace(RUN, queue=local_queue([], 64, NamedBundles({})))))
    output = capsys.readouterr().out
    assert "(the same `tagmill tag` again, with --retry-failed --code not_found)" in output
    assert "tagmill run retry" not in output


def test_the_status_shows_queue_duration_and_why_batches_failed(
    console: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    errors = (BatchErrors("dead", "BundleError: [a] is missing", 2, 128), BatchErrors("queued", "ValueError", 1, 64))
    console.print(status_table(replace(RUN, finished_at=7385.0, batch_errors=errors)))
    rows = [" ".join(line.strip("│ ").split()) for line in capsys.readouterr().out.splitlines()]
    for row in ("queue │ tagmill", "duration │ 2:03:04", "dead │ 2 batches, 128 images: BundleError: [a] is missing"):
        assert row in rows
    assert "to be tried again │ 1 batches, 64 images: ValueError" in rows
    assert RunProgress.to_json(replace(RUN, batch_errors=errors))["batch_errors"][0] == {
        "status": "dead",
        "reason": "BundleError: [a] is missing",
        "batches": 2,
        "images": 128,
    }


def test_the_command_to_read_a_run_is_quoted_and_contains_no_password() -> None:
    assert how_to_read(1, None) == "tagmill results 1"
    assert how_to_read(1, "sqlite:///my tags.db") == "TAGMILL_DATABASE_URL='sqlite:///my tags.db' tagmill results 1"
    for url in ("postgresql://me:hunter2@host/db", "postgresql://me@host/db?password=hunter2"):
        assert how_to_read(1, url) == "tagmill results 1, with TAGMILL_DATABASE_URL set to what --db was given"


ALL_FAILED = replace(RUN, tagged=0, failed=10, failures={"not_found": 8, "corrupt": 2})


def test_a_run_whose_images_all_failed_is_not_shown_as_done(
    console: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ending(ALL_FAILED) == "failed, none of its 10 images was tagged (8 not_found, 2 corrupt)"
    assert exit_code(ALL_FAILED) is ExitCode.FAILED_IMAGES
    for item in (runs_table([ALL_FAILED]), status_table(ALL_FAILED)):
        console.print(item)
        output = capsys.readouterr().out
        assert "failed" in output
        assert "done" not in output


def test_the_ending_of_a_run_counts_its_failed_images_by_code() -> None:
    assert ending(RUN) == "done, 1 of 10 images failed (1 not_found)"
    assert ending(replace(RUN, tagged=10, failed=0, failures={})) == "done"
    assert ending(replace(RUN, tagged=8)) == "running"


def test_the_status_names_workers_that_are_out_and_what_the_run_waits_for(
    console: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    lacking = {"reason": "folder", "detail": "/shop: is empty", "since": 0.0, "held_until": None}
    out = {"worker": "web-2:17", "reason": "folder", "detail": "/shop: is empty", "since": 0.0}
    batches = RUN.batches | {"queued": 2}
    one_is_out = replace(RUN, images=20, batches=batches | {"running": 1}, unfit_workers=[out], waits_for=[lacking])
    console.print(status_table(one_is_out))
    shown = capsys.readouterr().out
    assert "web-2:17 since 01-01 00:00:00 UTC: /shop: is empty" in shown
    assert "waits for" not in shown  # another worker has it
    console.print(status_table(replace(one_is_out, batches=batches)))
    assert capsys.readouterr().out.count("/shop: is empty") == 3  # also in place of the speed
    console.print(status_table(replace(one_is_out, waits_for=[lacking | {"held_until": 60.0}])))
    assert "/shop: is empty; no worker has it: until 01-01 00:01:00 UTC" in capsys.readouterr().out
